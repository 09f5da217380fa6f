package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// plain is a socket of some other library.
type plain struct {
	sent    chan string
	closed  chan string
	block   chan struct{} // if not nil, Send waits for it
	entered chan struct{} // when it does
	sendErr error
	sending sync.Mutex
	t       testing.TB
}

func newPlain(t testing.TB) *plain {
	return &plain{sent: make(chan string, 4096), closed: make(chan string, 4), t: t}
}

func (p *plain) Send(text []byte) error {
	if !p.sending.TryLock() {
		p.t.Error("Send is called twice at the same time")
		return nil
	}
	defer p.sending.Unlock()
	if p.block != nil {
		p.entered <- struct{}{}
		<-p.block
	}
	if p.sendErr == nil {
		p.sent <- string(text)
	}
	return p.sendErr
}

func (p *plain) Close(code int, reason string) error {
	p.closed <- fmt.Sprint(code, " ", reason)
	return nil
}

func accept(t testing.TB, p *plain, o wsconn.AcceptOptions) *wsconn.Connection {
	t.Helper()
	o.Socket = p
	if o.URL == "" {
		o.URL = "/?" + who
	}
	if o.Authorizer == nil {
		o.Authorizer = authz.Insecure{}
	}
	c := wsconn.Accept(t.Context(), o)
	t.Cleanup(c.OnClose)
	return c
}

func TestAccept(t *testing.T) {
	p := newPlain(t)
	manager := newManager(t, room.Config{})
	c := accept(t, p, wsconn.AcceptOptions{Rooms: manager})
	session, err := c.Ready(t.Context())
	if err != nil || session != c.Session() {
		t.Fatal(err)
	}
	c.OnMessage([]byte(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`))
	for _, want := range []string{`{"type":"clientCount","count":1}`, `{"type":"synced","timestamp":0}`} {
		if got := next(t, p.sent); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	c.OnMessage([]byte(`7`))
	c.OnMessage([]byte(`null`))
	if got := next(t, p.closed); got != "1008 message must be an object, not null" {
		t.Error(got)
	}
	c.OnClose()
	c.OnClose()
	if n := manager.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
	if len(p.closed) > 0 {
		t.Error("closed again: ", <-p.closed)
	}
}

func TestAcceptRefusals(t *testing.T) {
	denied := authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
		return room.Grant{}, authz.Deny("ask ada")
	})
	for name, c := range map[string]struct {
		url, code, closed string
	}{
		"not a URL": {"http://[::1?token=secret", "invalid-url", "1008 Could not parse connect URL"},
		"no room":   {"/?clientId=a&token=secret", "missing-room-id", "1008 Missing roomId query parameter"},
		"no client": {"/?roomId=a&token=secret", "missing-client-id", "1008 Missing clientId query parameter"},
		"no token":  {"wss://example.com/?roomId=a&clientId=b", "missing-token", "1008 Missing token query parameter"},
		"denied":    {"wss://example.com/?" + who, "", "1008 ask ada"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlain(t)
			conn := accept(t, p, wsconn.AcceptOptions{Rooms: newLobby(), URL: c.url, Authorizer: denied})
			conn.OnMessage([]byte("early"))
			session, err := conn.Ready(t.Context())
			if session != nil || err == nil || strings.Contains(err.Error(), "secret") {
				t.Fatalf("session %v, %v", session, err)
			}
			var connect *wsconn.ConnectError
			var refusal *authz.Denied
			switch {
			case c.code == "" && (!errors.As(err, &refusal) || refusal.Reason != "ask ada"):
				t.Errorf("error %v", err)
			case c.code != "" && (!errors.As(err, &connect) || connect.Code != c.code):
				t.Errorf("error %v", err)
			}
			if _, _, _, err := wsconn.ParseURL(c.url); (err == nil) != (c.code == "") {
				t.Errorf("ParseURL: %v", err)
			}
			if got := next(t, p.closed); got != c.closed {
				t.Errorf("closed with %s", got)
			}
			conn.OnMessage([]byte("late"))
		})
	}
}

func TestAcceptClosedBeforeReady(t *testing.T) {
	auth := newGate()
	p := newPlain(t)
	c := accept(t, p, wsconn.AcceptOptions{Rooms: newLobby(), Authorizer: auth})
	next(t, auth.asked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready: %v", err)
	}
	c.OnMessage([]byte("hello"))
	c.OnError(errors.New("reset"))
	if _, err := c.Ready(t.Context()); !errors.Is(err, wsconn.ErrConnectionClosed) {
		t.Errorf("Ready: %v", err)
	}
	c.OnMessage([]byte("hello"))
	if c.Session() != nil {
		t.Error("there is a session")
	}
}

// A socket that fails is closed, and its session leaves.
func TestAcceptSendFails(t *testing.T) {
	p, rooms := newPlain(t), newLobby()
	p.sendErr = errors.New("broken pipe")
	accept(t, p, wsconn.AcceptOptions{Rooms: rooms})
	g := next(t, rooms.guests)
	g.send("one")
	if got := next(t, p.closed); !strings.HasPrefix(got, "1001 ") {
		t.Error(got)
	}
	next(t, g.left)
}

// A socket on which a message is stuck is closed when too much waits behind,
// though the message is still stuck; and its session leaves at once.
func TestAcceptSlowConsumer(t *testing.T) {
	p, rooms := newPlain(t), newLobby()
	p.block, p.entered = make(chan struct{}), make(chan struct{}, 100)
	accept(t, p, wsconn.AcceptOptions{Rooms: rooms, MaxQueueBytes: 80_000})
	g := next(t, rooms.guests)
	defer close(p.block)
	g.send("stuck")
	next(t, p.entered)
	for range 100 {
		g.send(strings.Repeat("x", 1000))
	}
	next(t, g.left)
	if got := next(t, p.closed); got != "1013 slow consumer" {
		t.Error(got)
	}
}

func TestAcceptCutsReasons(t *testing.T) {
	p, rooms := newPlain(t), newLobby()
	accept(t, p, wsconn.AcceptOptions{Rooms: rooms})
	g := next(t, rooms.guests)
	why := closeRestart
	why.Reason = strings.Repeat("x", 200)
	g.Socket.Close(why)
	if got := next(t, p.closed); got != "1012 "+strings.Repeat("x", 123) {
		t.Error(got)
	}
}

// A callback of the room may ask for the session, even while the messages are
// handled that waited for it.
func TestCallbackUsesConnection(t *testing.T) {
	auth := newGate()
	var c *wsconn.Connection
	asked := make(chan room.Session, 1)
	manager := newManager(t, room.Config{OnDocumentPatch: func(*room.Room, room.DocumentPatch) { asked <- c.Session() }})
	c = accept(t, newPlain(t), wsconn.AcceptOptions{Rooms: manager, Authorizer: auth})
	next(t, auth.asked)
	c.OnMessage([]byte(`{"type":"patch","messageId":"m","documentPatches":[{}]}`))
	auth.say <- nil
	if session := next(t, asked); session == nil {
		t.Error("there is no session")
	}
}

// What comes before the session is there is handled then, in order.
func TestAcceptMessagesBeforeTheSession(t *testing.T) {
	auth, rooms := newGate(), newLobby()
	c := accept(t, newPlain(t), wsconn.AcceptOptions{Rooms: rooms, Authorizer: auth})
	next(t, auth.asked)
	var want []string
	for i := range 1000 {
		want = append(want, fmt.Sprint("message ", i))
		c.OnMessage([]byte(want[i]))
	}
	auth.say <- nil
	if _, err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		want = append(want, fmt.Sprint("more ", i))
		c.OnMessage([]byte(want[1000+i]))
	}
	next(t, rooms.guests).expect(t, want...)
}

func TestAcceptTooMuchBeforeTheSession(t *testing.T) {
	for name, c := range map[string]struct {
		messages int
		text     string
	}{
		"messages": {1001, "x"},
		"bytes":    {11, strings.Repeat("x", 10_000)},
	} {
		t.Run(name, func(t *testing.T) {
			auth, rooms, p := newGate(), newLobby(), newPlain(t)
			conn := accept(t, p, wsconn.AcceptOptions{Rooms: rooms, Authorizer: auth, MaxMessageBytes: 100_000})
			next(t, auth.asked)
			for range c.messages - 1 {
				conn.OnMessage([]byte(c.text))
			}
			if len(p.closed) > 0 {
				t.Fatalf("closed too early: %s", <-p.closed)
			}
			conn.OnMessage([]byte(c.text))
			if got := next(t, p.closed); got != "1008 too many messages before the session was ready" {
				t.Error(got)
			}
			if len(rooms.guests) > 0 {
				t.Error("there is a session")
			}
		})
	}
}
