package wsconn_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// who is the query of a client that may do everything.
const who = "roomId=r&clientId=a&token=t"

// newServer returns a server that shuts down when the test ends.
func newServer(t testing.TB, config wsconn.Config) *wsconn.Server {
	t.Helper()
	if config.Authorizer == nil {
		config.Authorizer = authz.Insecure{}
	}
	server, err := wsconn.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx, protocol.CloseRestart); err != nil {
			t.Error(err)
		}
	})
	return server
}

// newManager returns a manager that closes when the test ends.
func newManager(t testing.TB, config room.Config) *room.Manager {
	t.Helper()
	manager := room.NewManager(config)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := manager.CloseAll(ctx, protocol.CloseRestart); err != nil {
			t.Error(err)
		}
	})
	return manager
}

// listen serves a handler on loopback.
func listen(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

// start serves rooms on loopback for the length of a test.
func start(t testing.TB, config wsconn.Config) (url string, manager *room.Manager) {
	t.Helper()
	manager = newManager(t, room.Config{})
	config.Rooms = manager
	return listen(t, newServer(t, config)), manager
}

// lobby is a place for sessions that hands them to the test.
type lobby struct {
	guests chan *guest
	// connect, if set, is asked before a session is there.
	connect func(context.Context) error
}

// guest is a session that notes what becomes of it.
type guest struct {
	room.ConnectOptions
	got  chan string
	left chan struct{}
}

func newLobby() *lobby { return &lobby{guests: make(chan *guest, 64)} }

func (l *lobby) Connect(ctx context.Context, _ string, o room.ConnectOptions) (room.Session, error) {
	if l.connect != nil {
		if err := l.connect(ctx); err != nil {
			return nil, err
		}
	}
	g := &guest{ConnectOptions: o, got: make(chan string, 4096), left: make(chan struct{}, 16)}
	l.guests <- g
	return g, nil
}

func (g *guest) ID() string                      { return "guest" }
func (g *guest) Receive(text []byte)             { g.got <- string(text) }
func (g *guest) Info() (room.SessionInfo, error) { return room.SessionInfo{}, nil }
func (g *guest) Leave() {
	select {
	case g.left <- struct{}{}:
	default: // again
	}
}

// send sends a text to the guest's client.
func (g *guest) send(text string) { g.Socket.Send(protocol.NewFrame([]byte(text))) }

// expect fails the test unless the guest's next messages are these.
func (g *guest) expect(t testing.TB, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if got := next(t, g.got); got != want {
			t.Fatalf("got %s instead of %s", brief(got), brief(want))
		}
	}
}

// next receives from a channel, within bounds.
func next[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// until waits for a condition, within bounds.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func brief(s string) string { return fmt.Sprintf("%.60q (%d bytes)", s, len(s)) }

// client is a WebSocket client that a test drives by hand.
type client struct {
	t testing.TB
	net.Conn
	reader io.Reader
}

func (c *client) Read(b []byte) (int, error) { return c.reader.Read(b) }

// dial connects to a server on loopback.
func dial(t testing.TB, url string) *client {
	t.Helper()
	conn, early, _, err := ws.Dial(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	c := &client{t: t, Conn: conn, reader: conn}
	if early != nil {
		c.reader = early // what came with the handshake, then the rest
	}
	return c
}

// plug connects to a server through a pipe, on which a write takes until the
// peer reads. wrap may put something before the server's end.
func plug(t testing.TB, server *wsconn.Server, query string, wrap ...func(net.Conn) net.Conn) *client {
	t.Helper()
	near, far := net.Pipe()
	for _, w := range wrap {
		far = w(far)
	}
	t.Cleanup(func() { near.Close() })
	go server.ServeHTTP(&hijacker{ResponseRecorder: httptest.NewRecorder(), conn: far}, upgradeRequest(query))
	buffered := bufio.NewReader(near)
	response, err := http.ReadResponse(buffered, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response.Status)
	}
	return &client{t: t, Conn: near, reader: buffered}
}

func upgradeRequest(query string) *http.Request {
	r := httptest.NewRequest("GET", "/?"+query, nil)
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	return r
}

// hijacker is a response whose connection can be taken.
type hijacker struct {
	*httptest.ResponseRecorder
	conn  net.Conn
	early string // what has been read from the connection already
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	in := bufio.NewReader(io.MultiReader(strings.NewReader(h.early), h.conn))
	if h.early != "" {
		if _, err := in.Peek(len(h.early)); err != nil {
			return nil, nil, err
		}
	}
	return h.conn, bufio.NewReadWriter(in, bufio.NewWriter(h.conn)), nil
}

// frame is a masked frame, as bytes.
func frame(op ws.OpCode, fin bool, payload string) []byte {
	return ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(op, fin, []byte(payload))))
}

func (c *client) raw(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	c.raw(frame(ws.OpText, true, text))
}

// read returns the next text. It answers pings and, with an error that is a
// [wsutil.ClosedError], the server's close frame.
func (c *client) read() (string, error) {
	for {
		f, err := ws.ReadFrame(c)
		switch {
		case err != nil:
			return "", err
		case f.Header.OpCode == ws.OpText && f.Header.Fin:
			return string(f.Payload), nil
		case f.Header.OpCode == ws.OpPing:
			_, err = c.Write(frame(ws.OpPong, true, string(f.Payload)))
		case f.Header.OpCode == ws.OpClose:
			code, reason := ws.ParseCloseFrameData(f.Payload)
			_, _ = c.Write(frame(ws.OpClose, true, closeBody(int(code), ""))) // the server may be gone
			return "", wsutil.ClosedError{Code: code, Reason: reason}
		case f.Header.OpCode != ws.OpPong:
			return "", fmt.Errorf("frame %+v", f.Header)
		}
		if err != nil {
			return "", err
		}
	}
}

func (c *client) expect(texts ...string) {
	c.t.Helper()
	for _, want := range texts {
		got, err := c.read()
		if err != nil {
			c.t.Fatalf("%v instead of %s", err, brief(want))
		}
		if got != want {
			c.t.Fatalf("\n got %s\nwant %s", brief(got), brief(want))
		}
	}
}

// expectFrame reads one frame of any kind, and answers nothing.
func (c *client) expectFrame(op ws.OpCode, payload string) {
	c.t.Helper()
	f, err := ws.ReadFrame(c)
	if err != nil {
		c.t.Fatalf("%v instead of a frame", err)
	}
	if f.Header.OpCode != op || string(f.Payload) != payload {
		c.t.Fatalf("got frame %#x %s, want %#x %s", f.Header.OpCode, brief(string(f.Payload)), op, brief(payload))
	}
}

// closeReason reads up to the close frame, and answers it.
func (c *client) closeReason() (code int, reason string, err error) {
	for {
		_, err := c.read()
		if err == nil {
			continue
		}
		var closed wsutil.ClosedError
		if !errors.As(err, &closed) {
			return 0, "", err
		}
		return int(closed.Code), closed.Reason, nil
	}
}

func (c *client) expectClose(code int, reason string) {
	c.t.Helper()
	gotCode, gotReason, err := c.closeReason()
	if gotCode != code || gotReason != reason {
		c.t.Fatalf("%v instead of close %d %s", cmp.Or(err, fmt.Errorf("close %d %s", gotCode, gotReason)), code, reason)
	}
}

// expectEnd reads up to the connection's end.
func (c *client) expectEnd() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		c.t.Fatal(err)
	}
}
