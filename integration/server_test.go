package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/local"
)

// secret signs every token of these tests.
const secret = "integration-secret-of-enough-bytes-for-hs256"

// token mints what both servers take: an HS256 JWT for one room, good for ttl from now.
func token(room string, canWrite bool, ttl time.Duration) string {
	claims, err := json.Marshal(map[string]any{
		"roomId":   room,
		"canWrite": canWrite,
		"exp":      time.Now().Add(ttl).Unix(),
	})
	if err != nil {
		panic(err) // a map of plain values always encodes
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + enc.EncodeToString(mac.Sum(nil))
}

// server is one running server process. Its data folder outlives it, so that another can follow.
type server struct {
	name  string
	addr  string // host:port of the WebSocket side
	admin string // base URL of Weft's admin side, empty for the published server
	dir   string
	cmd   *exec.Cmd
	log   *logBuffer

	exited  chan struct{} // closed when the process has ended and its log is complete
	exitErr error         // valid once exited is closed
}

// url is where a client of this room connects.
func (s *server) url(room, client, token string) string {
	q := url.Values{"roomId": {room}, "clientId": {client}, "token": {token}}
	return "ws://" + s.addr + "/?" + q.Encode()
}

// startPublished runs the published server over dir.
func startPublished(t testing.TB, dir string) *server {
	t.Helper()
	cmd := exec.Command(need(t, node), "published-server.mjs", "--port", "0", "--data", dir)
	cmd.Dir = "node"
	s := launch(t, "published", cmd, dir)
	var port string
	waitFor(t, "the published server to listen", func() bool {
		select {
		case <-s.exited:
			t.Fatalf("the published server ended at once: %v\n%s", s.exitErr, s.log)
		default:
		}
		_, err := fmt.Sscanf(s.log.String(), "listening on %s", &port)
		return err == nil
	})
	s.addr = "127.0.0.1:" + port
	return s
}

// startWeft runs Weft over dir with file storage and short saves. args follow the usual flags, so
// they can say them again with other values.
func startWeft(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	s := launchWeft(t, dir, args...)
	awaitReady(t, s)
	return s
}

// launchWeft is startWeft without the wait for readiness.
func launchWeft(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	s := launchWeftIn(t, append([]string{"--store", "file", "--data-dir", dir}, args...)...)
	s.dir = dir
	return s
}

// launchWeftIn runs Weft with short saves and what the flags say of where its rooms are.
func launchWeftIn(t testing.TB, args ...string) *server {
	t.Helper()
	addr, admin := freeAddr(t), freeAddr(t)
	all := append([]string{
		"serve",
		"--listen", addr,
		"--admin-listen", admin,
		"--save-interval", "100ms",
		"--room-idle-timeout", "1h",
	}, args...)
	s := launch(t, "weft", exec.Command(need(t, weftBinary), all...), "")
	s.addr, s.admin = addr, "http://"+admin
	return s
}

func awaitReady(t testing.TB, s *server) {
	t.Helper()
	waitFor(t, "weft to be ready", func() bool {
		select {
		case <-s.exited:
			t.Fatalf("weft ended at once: %v\n%s", s.exitErr, s.log)
		default:
		}
		code, _, err := get(s.admin + "/readyz")
		return err == nil && code == http.StatusOK
	})
}

// launch starts cmd with the secret in its environment and stops it when the test ends. A failed
// test shows the log; a log that holds a token fails the test.
func launch(t testing.TB, name string, cmd *exec.Cmd, dir string) *server {
	t.Helper()
	s := &server{name: name, dir: dir, cmd: cmd, log: &logBuffer{}, exited: make(chan struct{})}
	if cmd.Env == nil {
		cmd.Env = append(environment(), "WEFT_AUTH_JWT_SECRET="+secret)
	}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		s.exitErr = cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.stop(t)
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, s.log.tail(8000))
		}
		// Every JWT begins like this, whatever it claims.
		if strings.Contains(s.log.String(), "eyJ") {
			t.Errorf("the log of %s holds a token:\n%s", name, s.log.tail(8000))
		}
	})
	return s
}

// environment is this process's, without settings of Weft that happen to be in it.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WEFT_") })
}

// stop ends the server as an orchestrator would, and waits for it. It may be called again.
func (s *server) stop(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended already
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Errorf("%s did not end %v after SIGTERM", s.name, patience)
		s.kill()
	}
}

// kill ends the server without a chance to save.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// exitCode waits for the end and tells how it went; -1 if a signal ended it.
func (s *server) exitCode(t testing.TB) int {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Fatalf("%s has not ended after %v", s.name, patience)
	}
	var exit *exec.ExitError
	if errors.As(s.exitErr, &exit) {
		return exit.ExitCode()
	}
	if s.exitErr != nil {
		t.Fatalf("waiting for %s: %v", s.name, s.exitErr)
	}
	return 0
}

// metric sums a metric's samples over all labels; 0 if there is none.
func (s *server) metric(t testing.TB, name string) float64 {
	t.Helper()
	code, body, err := get(s.admin + "/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatalf("reading metrics: %d %v", code, err)
	}
	var sum float64
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err != nil {
			t.Fatalf("metric line %q: %v", line, err)
		}
		sum += v
	}
	return sum
}

func get(url string) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// freeAddr finds a loopback address nobody listens on, and which is nobody's while its server restarts.
func freeAddr(t testing.TB) string {
	t.Helper()
	addr, err := local.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// waitFor polls until the condition holds, and fails the test if it never does.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; !holds(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(pause)
	}
}

// roomFile reads a room's data file; nil if there is none.
func roomFile(t testing.TB, dir, room string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, room+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// logBuffer keeps what a process writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) tail(n int) string {
	s := l.String()
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
