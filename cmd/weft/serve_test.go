package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/weftsync/weft/authz"
)

// patience bounds every wait; a test that passes waits much less.
const patience = 20 * time.Second

// instance is `weft serve` within this process.
type instance struct {
	listen, admin string // host:port
	log           *logLines
	stop          context.CancelFunc
	status        chan int
}

// start runs `weft serve` with free ports and a JSON log until it is ready.
// The test's end stops it.
func start(t *testing.T, env map[string]string, args ...string) *instance {
	t.Helper()
	s := launch(t, env, args...)
	ready, ok := s.log.await("ready", s.status)
	if !ok {
		t.Fatalf("weft is not ready:\n%s", s.log)
	}
	s.listen, s.admin = ready["listen"].(string), ready["admin"].(string)
	return s
}

func launch(t *testing.T, env map[string]string, args ...string) *instance {
	t.Helper()
	return launchWithout(t, env, append([]string{"--data-dir", t.TempDir()}, args...)...)
}

// launchWithout launches without a folder of rooms.
func launchWithout(t *testing.T, env map[string]string, args ...string) *instance {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &instance{log: newLogLines(), stop: cancel, status: make(chan int, 1)}
	all := append([]string{"weft", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"}, args...)
	var ended sync.WaitGroup
	ended.Go(func() { s.status <- run(ctx, all, pairs(env), s.log, s.log) })
	t.Cleanup(func() {
		cancel()
		ended.Wait()
		http.DefaultClient.CloseIdleConnections()
		if strings.Contains(s.log.String(), "eyJ") { // as every JWT begins
			t.Errorf("a token is in the log:\n%s", s.log)
		}
		if strings.Contains(s.log.String(), testSecret) {
			t.Errorf("the secret is in the log:\n%s", s.log)
		}
	})
	return s
}

// end stops the server and returns its exit status.
func (s *instance) end(t *testing.T) int {
	t.Helper()
	s.stop()
	return s.wait(t)
}

func (s *instance) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.status:
		return code
	case <-time.After(patience):
		t.Fatalf("weft does not end:\n%s", s.log)
		return 0
	}
}

// logLines is a log that one can wait for.
type logLines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at every write
}

func newLogLines() *logLines { return &logLines{changed: make(chan struct{})} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits for a line whose message begins like this, unless the program
// ends before.
func (l *logLines) await(message string, status chan int) (line map[string]any, ok bool) {
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		text, changed := l.text.String(), l.changed
		l.mu.Unlock()
		for one := range strings.Lines(text) {
			line = nil
			if json.Unmarshal([]byte(one), &line) != nil {
				continue
			}
			if msg, _ := line["msg"].(string); strings.HasPrefix(msg, message) {
				return line, true
			}
		}
		select {
		case <-changed:
		case code := <-status:
			status <- code
			return nil, false
		case <-deadline:
			return nil, false
		}
	}
}

func get(t *testing.T, address, path string) (status int, body string, header http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// dial connects to a room; the first message is the client's hello.
func (s *instance) dial(t *testing.T, room, token string) net.Conn {
	t.Helper()
	query := url.Values{"roomId": {room}, "clientId": {"c"}, "token": {token}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, early, _, err := ws.Dial(ctx, "ws://"+s.listen+"/any/path?"+query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if early != nil { // frames that came with the upgrade's answer
		conn = bufferedConn{conn, early}
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

type bufferedConn struct {
	net.Conn
	reader io.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if err := wsutil.WriteClientText(conn, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// awaitText reads until a message holds this.
func awaitText(t *testing.T, conn net.Conn, part string) {
	t.Helper()
	for {
		text, err := wsutil.ReadServerText(conn)
		if err != nil {
			t.Fatalf("waiting for %s: %v", part, err)
		}
		if strings.Contains(string(text), part) {
			return
		}
	}
}

// awaitClose reads until the server closes.
func awaitClose(t *testing.T, conn net.Conn) (code int, reason string) {
	t.Helper()
	for {
		frame, err := ws.ReadFrame(conn)
		if err != nil {
			t.Fatalf("waiting for a close: %v", err)
		}
		if frame.Header.OpCode == ws.OpClose {
			conn.Close() // the server waits for it
			status, reason := ws.ParseCloseFrameData(frame.Payload)
			return int(status), reason
		}
	}
}

func mint(t *testing.T, room string) string {
	t.Helper()
	token, err := authz.Mint([]byte(testSecret), authz.MintConfig{Room: room, Write: true, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var withSecret = map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret}

func TestServeFromStartToEnd(t *testing.T) {
	dir := t.TempDir()
	s := start(t, withSecret, "--data-dir", dir, "--save-interval", "1h")
	for _, path := range []string{"/livez", "/readyz"} {
		if status, body, _ := get(t, s.admin, path); status != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, body, _ := get(t, s.listen, "/"); status != http.StatusUpgradeRequired || len(body) > 200 {
		t.Errorf("a plain request: %d %q", status, body)
	}

	_, _, _, err := ws.Dial(t.Context(), "ws://"+s.listen+"/?roomId=r&clientId=c&token="+mint(t, "another"))
	if !errors.Is(err, ws.StatusError(http.StatusForbidden)) {
		t.Errorf("a token for another room: %v", err)
	}
	conn := s.dial(t, "r", mint(t, "r"))
	send(t, conn, `{"type":"patch","messageId":"m","documentPatches":[{"k/A":{"_exists":true,"n":42}}]}`)
	awaitText(t, conn, `"ack"`)
	_, metrics, _ := get(t, s.admin, "/metrics")
	for _, want := range []string{"\nweft_connections ", "\nweft_sessions 1\n", "\nweft_rooms 1\n", "\ngo_goroutines ", "\nprocess_cpu_seconds_total ", "\ngo_build_info{", "\nweft_build_info{commit=\""} {
		if !strings.Contains("\n"+metrics, want) {
			t.Errorf("%q is not in the metrics:\n%s", want, metrics)
		}
	}
	if status, _, _ := get(t, s.admin, "/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("pprof without --pprof: %d", status)
	}

	s.stop()
	if code, _ := awaitClose(t, conn); code != 1012 {
		t.Errorf("at the end the socket is closed with %d, want 1012", code)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "r.json"))
	if err != nil || !bytes.Contains(saved, []byte(`"n":42`)) {
		t.Errorf("saved %q, %v", saved, err)
	}
	if _, err := net.DialTimeout("tcp", s.listen, patience); err == nil {
		t.Error("it still listens")
	}
}

func TestDevelopmentMode(t *testing.T) {
	s := start(t, nil, "--dev", "--store", "memory", "--pprof")
	if !strings.Contains(s.log.String(), "development mode") || strings.Contains(s.log.String(), "everyone who can reach") {
		t.Errorf("the warning is not that of a loopback address:\n%s", s.log)
	}
	status, page, header := get(t, s.listen, "/")
	if !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.Contains(page, "<title>") {
		t.Errorf("the playground: %d %s", status, page)
	}
	conn := s.dial(t, "r", "anything")
	send(t, conn, `{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	awaitText(t, conn, `"synced"`)
	conn.Close()
	if status, body, _ := get(t, s.admin, "/debug/pprof/"); status != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("pprof: %d", status)
	}
	if status, body, _ := get(t, s.admin, "/debug/pprof/cmdline"); status != http.StatusNotFound {
		t.Errorf("the command line is shown: %q", body)
	}
	if code := s.end(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

func TestDevelopmentModeWarnsOfANetwork(t *testing.T) {
	for address, want := range map[string]bool{":1": true, "0.0.0.0:1": true, "192.0.2.1:1": true, "[::]:1": true, "127.0.0.1:1": false, "[::1]:1": false, "localhost:1": false} {
		log := newLogLines()
		warnDev(address, newLogger(log, "info", "text"))
		if got := strings.Contains(log.String(), "everyone who can reach"); got != want {
			t.Errorf("%s: %s", address, log)
		}
	}
}

func TestWithoutAdminServer(t *testing.T) {
	s := start(t, withSecret, "--admin-listen", "", "--store", "memory")
	if s.admin != "" {
		t.Errorf("the admin server is at %s", s.admin)
	}
	if code := s.end(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

func TestUnknownVariableIsLogged(t *testing.T) {
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret, "WEFT_SAVE_INTERVALL": testSecret}
	s := start(t, env, "--store", "memory")
	if !strings.Contains(s.log.String(), "WEFT_SAVE_INTERVALL") || !strings.Contains(s.log.String(), "did you mean WEFT_SAVE_INTERVAL?") {
		t.Errorf("no warning:\n%s", s.log)
	}
}

func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, setting := range []string{"listen", "admin-listen"} {
		s := launch(t, withSecret, "--"+setting, taken.Addr().String())
		if code := s.wait(t); code != exitFailed || !strings.Contains(s.log.String(), `"error":"`+setting+": listen tcp ") {
			t.Errorf("status %d:\n%s", code, s.log)
		}
	}
}

// What cannot be saved is seen in /readyz while weft runs and in its exit
// status at the end.
func TestRoomsThatCannotBeSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, withSecret, "--data-dir", dir, "--save-interval", "10ms")
	conn := s.dial(t, "a room", mint(t, "a room"))
	awaitText(t, conn, `"clientCount"`) // the room is loaded
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	send(t, conn, `{"type":"patch","messageId":"m","documentPatches":[{"k/A":{"_exists":true}}]}`)
	if _, ok := s.log.await("the room was not saved", s.status); !ok {
		t.Fatalf("it was saved:\n%s", s.log)
	}
	if status, body, _ := get(t, s.admin, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "1 room is not saved:\n\"a room\": ") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status, _, _ := get(t, s.admin, "/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d", status)
	}
	conn.Close()
	if code := s.end(t); code != exitFailed || !strings.Contains(s.log.String(), "rooms that were not saved: 1") {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

func TestDataFolderInUse(t *testing.T) {
	dir := t.TempDir()
	start(t, withSecret, "--data-dir", dir)
	second := launch(t, withSecret, "--data-dir", dir)
	if code := second.wait(t); code != exitFailed || !strings.Contains(second.log.String(), "another process is using it") {
		t.Errorf("status %d:\n%s", code, second.log)
	}
}

// A signal that comes while weft still starts ends it in order.
func TestEndBeforeReady(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := run(ctx, []string{"weft", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--data-dir", t.TempDir()}, pairs(withSecret), &log, &log)
	if code != exitOK {
		t.Errorf("status %d:\n%s", code, &log)
	}
}

// While weft waits for a key set it is alive and not ready.
func TestReadyzWhileStarting(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	keys := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		fmt.Fprint(w, `{"keys":[]}`)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = keys.Serve(l) })
	defer served.Wait()
	defer keys.Close()

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := free.Addr().String()
	free.Close()
	s := launch(t, nil, "--auth-jwks-url", "http://"+l.Addr().String(), "--admin-listen", admin)
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the key set is not asked for")
	}
	if status, body, _ := get(t, admin, "/livez"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez: %d %q", status, body)
	}
	if status, body, _ := get(t, admin, "/readyz"); status != http.StatusServiceUnavailable || body != "starting\nthe key set that tokens are verified with is being read\n" {
		t.Errorf("/readyz: %d %q", status, body)
	}
	close(answer)
	if _, ok := s.log.await("ready", s.status); !ok {
		t.Fatalf("weft is not ready:\n%s", s.log)
	}
	if status, body, _ := get(t, admin, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %q", status, body)
	}
}
