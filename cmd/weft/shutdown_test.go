package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// fakeStorage answers as its functions do; without them it is empty and saves
// nowhere.
type fakeStorage struct {
	load  func(context.Context) error
	save  func(context.Context) error
	ended bool
}

func (f *fakeStorage) Load(ctx context.Context, _ string) (*room.Snapshot, error) {
	if f.load == nil {
		return nil, nil
	}
	return nil, f.load(ctx)
}

func (f *fakeStorage) Save(ctx context.Context, _ string, _ *room.Snapshot) error {
	if f.save == nil {
		return nil
	}
	return f.save(ctx)
}

func (f *fakeStorage) Close() error { f.ended = true; return nil }

type fakeSocket struct{ closed []protocol.Close }

func (*fakeSocket) Send(protocol.Frame)      {}
func (s *fakeSocket) Close(c protocol.Close) { s.closed = append(s.closed, c) }

// endOn opens room r on storage, edits it if edit, and shuts down within a
// minute.
func endOn(t *testing.T, storage *fakeStorage, edit bool) (socket *fakeSocket, log string, err error) {
	t.Helper()
	lines := newLogLines()
	logger := newLogger(lines, "info", "text")
	rooms := room.NewManager(room.Config{Storage: storage, SaveInterval: time.Hour, StorageTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	sockets, err := wsconn.NewServer(wsconn.Config{Rooms: rooms, Authorizer: authz.Insecure{}})
	if err != nil {
		t.Fatal(err)
	}
	socket = &fakeSocket{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	session, err := rooms.Connect(ctx, "r", room.ConnectOptions{Socket: socket, Client: "c", Grant: room.Grant{Permission: room.ReadWrite}})
	if edit {
		if err != nil {
			t.Fatal(err)
		}
		session.Receive([]byte(`{"type":"patch","messageId":"m","documentPatches":[{"k/A":{"_exists":true}}]}`))
	}
	err = saveAll(time.Minute, rooms, sockets, openStorage{storage, storage}, logger)
	return socket, lines.String(), err
}

func TestShutDownSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saves := 0
		storage := &fakeStorage{save: func(context.Context) error { saves++; return nil }}
		socket, log, err := endOn(t, storage, true)
		if err != nil || saves != 1 || !storage.ended || log != "" {
			t.Errorf("saves %d, storage closed: %v, error %v, log %s", saves, storage.ended, err, log)
		}
		if len(socket.closed) != 1 || socket.closed[0] != protocol.CloseRestart {
			t.Errorf("the socket is closed with %v", socket.closed)
		}
	})
}

func TestShutDownSaysWhatIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &fakeStorage{save: func(context.Context) error { return errors.New("disk full") }}
		_, log, err := endOn(t, storage, true)
		if err == nil || !storage.ended || !strings.Contains(log, "disk full") || !strings.Contains(log, `\"r\"`) || strings.Count(log, "\n") != 1 {
			t.Errorf("storage closed: %v, error %v, log %s", storage.ended, err, log)
		}
	})
}

func TestShutDownGivesUpASaveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &fakeStorage{save: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		began := time.Now()
		_, log, err := endOn(t, storage, true)
		if took := time.Since(began); err == nil || took != time.Minute || !strings.Contains(log, "deadline exceeded") {
			t.Errorf("after %v: error %v, log %s", took, err, log)
		}
	})
}

// A storage that does not even heed its context must not keep the process.
func TestShutDownDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		storage := &fakeStorage{load: func(context.Context) error { <-release; return errors.New("late") }}
		_, _, err := endOn(t, storage, false)
		if err == nil || storage.ended {
			t.Errorf("storage closed: %v, error %v", storage.ended, err)
		}
		close(release) // the bubble waits for the load to end
	})
}

// From the moment at which the first socket closes, nobody is sent here any more;
// the admin address answers to the end, for which an idle HTTP connection is no
// reason to wait.
func TestEndInOrder(t *testing.T) {
	s := start(t, withSecret, "--store", "memory", "--drain-rate", "20")
	idle, err := net.Dial("tcp", s.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(idle), nil)
	if err != nil || answer.StatusCode != http.StatusUpgradeRequired {
		t.Fatal(answer, err)
	}
	var conns []net.Conn
	for range 5 {
		conns = append(conns, s.dial(t, "r", mint(t, "r")))
	}
	remaining := func() string {
		_, metrics, _ := get(t, s.admin, "/metrics")
		_, after, _ := strings.Cut(metrics, "\nweft_drain_sockets_remaining ")
		value, _, _ := strings.Cut(after, "\n")
		return value
	}
	if got := remaining(); got != "0" {
		t.Errorf("%s sockets remain of a drain that has not begun", got)
	}
	s.stop()
	for _, conn := range conns {
		frame, err := ws.ReadFrame(conn)
		for ; err == nil && frame.Header.OpCode != ws.OpClose; frame, err = ws.ReadFrame(conn) {
		}
		if code, _ := ws.ParseCloseFrameData(frame.Payload); err != nil || code != 1012 {
			t.Errorf("closed with %d, %v", code, err)
		}
		// The server waits for the answer.
		if status, body, _ := get(t, s.admin, "/readyz"); status != http.StatusServiceUnavailable || body != "shutting down\n" {
			t.Errorf("/readyz: %d %q", status, body)
		}
		if status, _, _ := get(t, s.admin, "/livez"); status != http.StatusOK {
			t.Errorf("/livez: %d", status)
		}
		if got := remaining(); got == "0" || got == "" {
			t.Errorf("%s sockets remain", got)
		}
		if c, err := net.Dial("tcp", s.listen); err == nil {
			c.Close()
			t.Error("the client port is still open")
		}
		conn.Close()
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

// What there is no time for closes at once.
func TestEndOutOfTime(t *testing.T) {
	s := start(t, withSecret, "--store", "memory", "--drain-rate", "1", "--drain-timeout", "1ms")
	var conns []net.Conn
	for range 5 {
		conns = append(conns, s.dial(t, "r", mint(t, "r")))
	}
	s.stop()
	for _, conn := range conns {
		if code, _ := awaitClose(t, conn); code != 1012 {
			t.Errorf("closed with %d", code)
		}
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

// A request that was on its way when the port closed is answered: a load balancer
// makes a 502 of a connection that ends without a word.
func TestRefusedListenerAnswersWhoIsThere(t *testing.T) {
	l, err := listen("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}), time.Minute, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	conn, err := net.Dial("tcp", l.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for _, refused := range []bool{false, true} { // the first answer shows that the connection was accepted
		if refused {
			l.refuse()
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: weft\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("refused %v: %v", refused, err)
		}
		if r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("refused %v: %s", refused, r.Status)
		}
	}
	if _, err := net.Dial("tcp", l.address()); err == nil {
		t.Error("a refused listener is still open")
	}
	if l.err != nil {
		t.Error(l.err)
	}
}
