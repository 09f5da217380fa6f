package wsconn_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// gate is an authorizer that answers when the test lets it.
type gate struct {
	asked chan authz.Info
	say   chan error
}

func newGate() *gate { return &gate{make(chan authz.Info, 64), make(chan error)} }

func (g *gate) Authorize(ctx context.Context, info authz.Info) (room.Grant, error) {
	g.asked <- info
	select {
	case err := <-g.say:
		return room.Grant{Permission: room.ReadWrite}, err
	case <-ctx.Done():
		return room.Grant{}, ctx.Err()
	}
}

type brokenStorage struct{ err error }

func (s brokenStorage) Load(context.Context, string) (*room.Snapshot, error) { return nil, s.err }
func (s brokenStorage) Save(context.Context, string, *room.Snapshot) error   { return nil }

func TestRefusalsSayWhy(t *testing.T) {
	denial := func(err error) authz.Authorizer {
		return authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) { return room.Grant{}, err })
	}
	const long = "ask the owner of this room to let you in; "
	for name, c := range map[string]struct {
		query      string
		authorizer authz.Authorizer
		rooms      room.Config
		code       int
		reason     string
	}{
		"no parameters":   {query: "", code: 1008, reason: "Missing roomId query parameter"},
		"no room":         {query: "clientId=a&token=t", code: 1008, reason: "Missing roomId query parameter"},
		"empty room":      {query: "roomId=&clientId=a&token=t", code: 1008, reason: "Missing roomId query parameter"},
		"no client":       {query: "roomId=r&token=t", code: 1008, reason: "Missing clientId query parameter"},
		"no token":        {query: "roomId=r&clientId=a&token=", code: 1008, reason: "Missing token query parameter"},
		"denied":          {query: who, authorizer: denial(authz.Deny("ask ada for access")), code: 1008, reason: "ask ada for access"},
		"denied, wrapped": {query: who, authorizer: denial(fmt.Errorf("rule 7: %w", authz.Deny("ask ada"))), code: 1008, reason: "ask ada"},
		"denied at length": {query: who, authorizer: denial(&authz.Denied{Reason: strings.Repeat(long, 5)}),
			code: 1008, reason: strings.Repeat(long, 5)[:123]},
		"other error":   {query: who, authorizer: denial(errors.New("the database at 10.0.0.7 is down")), code: 1008, reason: "authorization failed"},
		"no permission": {query: who, authorizer: denial(nil), code: 1008, reason: "authorization failed"},
		"panic": {query: who, authorizer: authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) { panic("token t") }),
			code: 1008, reason: "authorization failed"},
		"unreadable": {query: who, rooms: room.Config{Storage: brokenStorage{fmt.Errorf("line 1: %w", room.ErrBadSnapshot)}},
			code: 1011, reason: "room cannot be loaded: its stored snapshot is unreadable"},
		"storage down": {query: who, rooms: room.Config{Storage: brokenStorage{errors.New("disk at /data is full")}},
			code: 1011, reason: "room cannot be loaded"},
	} {
		t.Run(name, func(t *testing.T) {
			manager := newManager(t, c.rooms)
			url := listen(t, newServer(t, wsconn.Config{Rooms: manager, Authorizer: c.authorizer}))
			client := dial(t, url+"/?"+c.query)
			client.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
			client.expectClose(c.code, c.reason)
			client.expectEnd()
			if n := manager.Stats().Sessions; n != 0 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

func TestRoomFull(t *testing.T) {
	manager := newManager(t, room.Config{Limits: room.Limits{MaxSessions: 1}})
	url := listen(t, newServer(t, wsconn.Config{Rooms: manager}))
	dial(t, url+"/?"+who).expect(`{"type":"clientCount","count":1}`)
	dial(t, url+"/?"+who).expectClose(1013, "room is full")
}

func TestManagerClosed(t *testing.T) {
	manager := newManager(t, room.Config{})
	url := listen(t, newServer(t, wsconn.Config{Rooms: manager}))
	if err := manager.CloseAll(t.Context(), closeRestart); err != nil {
		t.Fatal(err)
	}
	dial(t, url+"/?"+who).expectClose(1012, "server is restarting")
}

// get asks for a page and returns its status and text.
func get(t *testing.T, url string, headers http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", strings.Replace(url, "ws", "http", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	for k := range headers {
		r.Header.Set(k, headers.Get(k))
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response.StatusCode, ""
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

func TestRequestsThatAreNotUpgraded(t *testing.T) {
	reg := prometheus.NewRegistry()
	url := listen(t, newServer(t, wsconn.Config{Rooms: newLobby(), AllowedOrigins: []string{"https://app.example.com"}, Registerer: reg}))
	upgrade := upgradeRequest("").Header
	with := func(name, value string) http.Header {
		h := upgrade.Clone()
		h.Set(name, value)
		return h
	}
	for name, c := range map[string]struct {
		headers http.Header
		status  int
		text    string
	}{
		"a page":              {nil, 426, "this is a WebSocket server: connect with a canvas-store client"},
		"no origin":           {upgrade, 101, ""},
		"the origin":          {with("Origin", "https://app.example.com"), 101, ""},
		"another origin":      {with("Origin", "https://evil.example.com"), 403, "this origin is not allowed to connect"},
		"the origin and more": {with("Origin", "https://app.example.com.evil.example"), 403, "this origin is not allowed to connect"},
		"no real origin":      {with("Origin", "null"), 403, "this origin is not allowed to connect"},
		"another version":     {with("Sec-WebSocket-Version", "8"), 426, ""},
		"a bad key":           {with("Sec-WebSocket-Key", "short"), 400, ""},
		"another case":        {with("Upgrade", "WebSocket"), 101, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, text := get(t, url+"/?"+who, c.headers)
			if status != c.status || c.text != "" && text != c.text {
				t.Errorf("%d %s, want %d %s", status, text, c.status, c.text)
			}
		})
	}
	until(t, "three refused for their origin and two as no upgrade", func() bool {
		refused := values(t, reg, "weft_upgrades_refused_total")
		return refused["origin"] == 3 && refused["bad_upgrade"] == 2
	})
}

func TestTooManyConnections(t *testing.T) {
	reg := prometheus.NewRegistry()
	rooms := newLobby()
	server := newServer(t, wsconn.Config{Rooms: rooms, MaxConnections: 2, Registerer: reg})
	url := listen(t, server)
	first := dial(t, url+"/?"+who)
	dial(t, url+"/?"+who)
	status, text := get(t, url+"/?"+who, upgradeRequest("").Header)
	if status != 503 || text != "server has as many connections as it takes" {
		t.Errorf("%d %s", status, text)
	}
	if n := values(t, reg, "weft_upgrades_refused_total")["full"]; n != 1 {
		t.Errorf("%v were refused", n)
	}
	first.Conn.Close()
	until(t, "one connection", func() bool { return server.Connections() == 1 })
	dial(t, url+"/?"+who)
}

// slowHijacker takes its time to let go of the connection.
type slowHijacker struct {
	hijacker
	asked, let chan struct{}
}

func (h *slowHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.asked <- struct{}{}
	<-h.let
	return h.hijacker.Hijack()
}

// Connections that are on their way count too.
func TestTooManyConnectionsAtOnce(t *testing.T) {
	rooms := newLobby()
	server := newServer(t, wsconn.Config{Rooms: rooms, MaxConnections: 2})
	asked, let := make(chan struct{}, 8), make(chan struct{})
	var requests sync.WaitGroup
	var refused sync.Map
	for i := range 4 {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		requests.Go(func() { _, _ = io.Copy(io.Discard, near) })
		requests.Go(func() {
			w := &slowHijacker{hijacker{ResponseRecorder: httptest.NewRecorder(), conn: far}, asked, let}
			server.ServeHTTP(w, upgradeRequest(who))
			if w.Code == http.StatusServiceUnavailable {
				refused.Store(i, true)
				asked <- struct{}{}
				near.Close()
			}
		})
	}
	for range 4 {
		next(t, asked)
	}
	close(let)
	for range 2 {
		next(t, rooms.guests)
	}
	until(t, "two connections", func() bool { return server.Connections() == 2 })
	n := 0
	refused.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d of 4 were refused", n)
	}
	t.Cleanup(requests.Wait)
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	_ = server.Shutdown(ctx, closeRestart) // cuts them off
}

// A client may send its first message with the request.
func TestEarlyBytes(t *testing.T) {
	rooms := newLobby()
	server := newServer(t, wsconn.Config{Rooms: rooms})
	text := strings.Repeat("early ", 200) // longer than a quiet reader's buffer
	near, far := net.Pipe()
	defer near.Close()
	w := &hijacker{ResponseRecorder: httptest.NewRecorder(), conn: far, early: string(frame(ws.OpText, true, "first")) + string(frame(ws.OpText, true, text)[:700])}
	go server.ServeHTTP(w, upgradeRequest(who))
	if _, err := http.ReadResponse(bufio.NewReader(near), nil); err != nil {
		t.Fatal(err)
	}
	f := frame(ws.OpText, true, text)
	early := w.early[len(frame(ws.OpText, true, "first")):] // its mask is another
	ws.Cipher(f[8:], [4]byte(f[4:8]), 0)
	ws.Cipher(f[8:], [4]byte([]byte(early[4:8])), 0)
	if _, err := near.Write(f[700:]); err != nil {
		t.Fatal(err)
	}
	next(t, rooms.guests).expect(t, "first", text)

	// The same through net/http, on loopback.
	conn, err := net.Dial("tcp", strings.TrimPrefix(listen(t, server), "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var request bytes.Buffer
	if err := upgradeRequest(who).Write(&request); err != nil {
		t.Fatal(err)
	}
	request.Write(frame(ws.OpText, true, "second"))
	request.Write(frame(ws.OpText, true, text))
	if _, err := conn.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	next(t, rooms.guests).expect(t, "second", text)
}

// What is sent before the session is there is handled then, in order.
func TestMessagesBeforeTheSession(t *testing.T) {
	auth, rooms := newGate(), newLobby()
	url := listen(t, newServer(t, wsconn.Config{Rooms: rooms, Authorizer: auth}))
	client := dial(t, url+"/?"+who)
	next(t, auth.asked)
	var want []string
	for i := range 600 {
		want = append(want, fmt.Sprint("message ", i))
		client.send(want[i])
	}
	client.raw(frame(ws.OpPing, true, "are they here?"))
	client.expectFrame(ws.OpPong, "are they here?")
	auth.say <- nil
	for i := range 400 { // some of which come before the session too
		want = append(want, fmt.Sprint("more ", i))
		client.send(want[600+i])
	}
	next(t, rooms.guests).expect(t, want...)
}

func TestTooMuchBeforeTheSession(t *testing.T) {
	for name, c := range map[string]struct {
		messages int
		text     string
	}{
		"messages": {1001, "x"},
		"bytes":    {11, strings.Repeat("x", 10_000)},
	} {
		t.Run(name, func(t *testing.T) {
			auth, rooms := newGate(), newLobby()
			url := listen(t, newServer(t, wsconn.Config{Rooms: rooms, Authorizer: auth, MaxMessageBytes: 100_000}))
			client := dial(t, url+"/?"+who)
			next(t, auth.asked)
			for range c.messages - 1 {
				client.send(c.text)
			}
			client.raw(frame(ws.OpPing, true, "still here?"))
			client.expectFrame(ws.OpPong, "still here?")
			client.send(c.text)
			client.expectClose(1008, "too many messages before the session was ready")
			client.expectEnd()
			if len(rooms.guests) > 0 {
				t.Error("there is a session")
			}
		})
	}
}

func TestHandshakeDeadline(t *testing.T) {
	for name, slow := range map[string]func(*wsconn.Config, *lobby){
		"authorizer": func(c *wsconn.Config, _ *lobby) { c.Authorizer = newGate() },
		"room": func(_ *wsconn.Config, l *lobby) {
			l.connect = func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("load room: %w", ctx.Err()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rooms := newLobby()
				config := wsconn.Config{Rooms: rooms}
				slow(&config, rooms)
				client := plug(t, newServer(t, config), who)
				began := time.Now()
				client.expectClose(1013, "the session was not ready in time")
				between(t, began, 10*time.Second, 10*time.Second)
				client.expectEnd()
			})
		})
	}
}

// A client that goes away while it is being authorized leaves nothing behind,
// and no one is told that it was refused.
func TestClientGoneWhileAuthorizing(t *testing.T) {
	for name, goes := range map[string]func(*client){
		"without a word": func(c *client) { c.Conn.Close() },
		"with a close":   func(c *client) { c.raw(frame(ws.OpClose, true, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			var log record
			auth := newGate()
			manager := newManager(t, room.Config{})
			server := newServer(t, wsconn.Config{Rooms: manager, Authorizer: auth, Logger: slog.New(&log)})
			client := dial(t, listen(t, server)+"/?"+who)
			next(t, auth.asked)
			client.send("hello")
			goes(client)
			until(t, "the connection has ended", func() bool { return server.Connections() == 0 })
			if s := manager.Stats(); s.Sessions+s.Received != 0 {
				t.Errorf("stats are %+v", s)
			}
			if text := log.String(); text != "" {
				t.Errorf("logged: %s", text)
			}
		})
	}
}

// The room is there only after the client has gone: the session must not stay.
func TestClientGoneWhileJoining(t *testing.T) {
	rooms := newLobby()
	loading, load := make(chan struct{}), make(chan struct{})
	rooms.connect = func(context.Context) error { close(loading); <-load; return nil }
	server := newServer(t, wsconn.Config{Rooms: rooms})
	client := dial(t, listen(t, server)+"/?"+who)
	<-loading
	client.send("hello")
	client.Conn.Close()
	until(t, "the connection has ended", func() bool { return server.Connections() == 0 })
	close(load)
	g := next(t, rooms.guests)
	next(t, g.left)
	if len(g.got) > 0 {
		t.Errorf("the session got %s", <-g.got)
	}
}

// The authorizer sees what the client sent, decoded as browsers encode it.
func TestAuthorizerSeesTheRequest(t *testing.T) {
	auth := newGate()
	url := listen(t, newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth}))
	dial(t, url+"/some/path?x=1&roomId=a%2Fb+c%20d%C3%A9&clientId=%E0%A4%A&token=t%3D%3D&token=second")
	info := next(t, auth.asked)
	if info.RoomID != "a/b c dé" || info.Token != "t==" || !strings.HasSuffix(info.ClientID, "%A") {
		t.Errorf("room %q, client %q, token %q", info.RoomID, info.ClientID, info.Token)
	}
	if info.Request == nil || info.Request.URL.Path != "/some/path" {
		t.Errorf("request %v", info.Request)
	}
	auth.say <- nil
}
