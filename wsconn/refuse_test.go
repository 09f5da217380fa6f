package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// answer is how a request was answered.
type answer struct {
	status int
	reason string // the Weft-Reason header
	text   string
	header http.Header
}

// get asks for a page.
func get(t testing.TB, url string, headers http.Header) answer {
	t.Helper()
	r, err := http.NewRequest("GET", strings.Replace(url, "ws", "http", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if headers != nil {
		r.Header = headers.Clone()
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	a := answer{response.StatusCode, response.Header.Get("Weft-Reason"), "", response.Header}
	if a.status == http.StatusSwitchingProtocols {
		return a
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	a.text = strings.TrimSpace(string(body))
	return a
}

// knock lets a server answer a request that it will not upgrade.
func knock(server *wsconn.Server, r *http.Request) answer {
	w := httptest.NewRecorder()
	server.ServeHTTP(&hijacker{ResponseRecorder: w}, r)
	return answer{w.Code, w.Header().Get("Weft-Reason"), strings.TrimSpace(w.Body.String()), w.Header()}
}

// expect fails the test unless the answer is this, and has what belongs to it.
func (a answer) expect(t testing.TB, status int, reason, text string) {
	t.Helper()
	if a.status != status || a.reason != reason || a.text != text {
		t.Errorf("\n got %d %s: %s\nwant %d %s: %s", a.status, a.reason, a.text, status, reason, text)
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if later := status == 429 || status == 503; later != (err == nil) || later && seconds < 1 {
		t.Errorf("%d with Retry-After %q", status, a.header.Get("Retry-After"))
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if got := a.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
}

// expectRefusals fails the test unless so many were refused, for these reasons only.
func expectRefusals(t testing.TB, reg *prometheus.Registry, want map[string]float64) {
	t.Helper()
	got := values(t, reg, "weft_upgrades_refused_total")
	for _, reason := range []string{
		"bad_request", "bad_token", "expired_token", "wrong_room", "refused",
		"room_full", "limited", "draining", "overloaded", "authorizer_down",
	} {
		n, ok := got[reason]
		if !ok || n != want[reason] {
			t.Errorf("%v were refused by %s, want %v", n, reason, want[reason])
		}
		delete(got, reason)
	}
	if len(got) > 0 {
		t.Errorf("there are more reasons: %v", got)
	}
}

type brokenStorage struct{ err error }

func (s brokenStorage) Load(context.Context, string) (*room.Snapshot, error) { return nil, s.err }
func (s brokenStorage) Save(context.Context, string, *room.Snapshot) error   { return nil }

// told is an error that knows how it closes a socket.
type told protocol.Close

func (e told) Error() string               { return "internal words" }
func (e told) CloseSocket() protocol.Close { return protocol.Close(e) }

// teller is an error of an application that knows what to tell.
type teller struct{ error }

func (teller) ClientReason() string { return "not on Sundays" }

func TestRefusalsSayWhy(t *testing.T) {
	denial := func(err error) authz.Authorizer {
		return authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) { return room.Grant{}, err })
	}
	kind := func(k authz.Kind) authz.Authorizer { return denial(authz.DenyAs(k, "because")) }
	rooms := func(err error) wsconn.Rooms {
		return &lobby{guests: make(chan *guest, 1), connect: func(context.Context) error { return err }}
	}
	const long = "ask the owner of this room to let you in; "
	for name, c := range map[string]struct {
		query      string
		authorizer authz.Authorizer
		rooms      wsconn.Rooms
		status     int
		reason     string
		text       string
	}{
		"no parameters": {query: "", status: 400, reason: "bad_request", text: "Missing roomId query parameter"},
		"no room":       {query: "clientId=a&token=t", status: 400, reason: "bad_request", text: "Missing roomId query parameter"},
		"empty room":    {query: "roomId=&clientId=a&token=t", status: 400, reason: "bad_request", text: "Missing roomId query parameter"},
		"no client":     {query: "roomId=r&token=t", status: 400, reason: "bad_request", text: "Missing clientId query parameter"},
		"no token":      {query: "roomId=r&clientId=a&token=", status: 401, reason: "bad_token", text: "Missing token query parameter"},

		"bad token":       {authorizer: kind(authz.BadToken), status: 401, reason: "bad_token", text: "because"},
		"expired token":   {authorizer: kind(authz.ExpiredToken), status: 401, reason: "expired_token", text: "because"},
		"wrong room":      {authorizer: kind(authz.WrongRoom), status: 403, reason: "wrong_room", text: "because"},
		"limited":         {authorizer: kind(authz.Limited), status: 429, reason: "limited", text: "because"},
		"unknown kind":    {authorizer: kind("new"), status: 403, reason: "refused", text: "because"},
		"denied":          {authorizer: denial(authz.Deny("ask ada for access")), status: 403, reason: "refused", text: "ask ada for access"},
		"denied, wrapped": {authorizer: denial(fmt.Errorf("rule 7: %w", authz.Deny("ask ada"))), status: 403, reason: "refused", text: "ask ada"},
		"no kind":         {authorizer: denial(&authz.Denied{Reason: strings.Repeat(long, 5)}), status: 403, reason: "refused", text: strings.TrimSpace(strings.Repeat(long, 5))},
		"own words":       {authorizer: denial(teller{errors.New("it is Sunday")}), status: 403, reason: "refused", text: "not on Sundays"},

		"other error":   {authorizer: denial(errors.New("the database at 10.0.0.7 is down")), status: 503, reason: "authorizer_down", text: "authorization failed"},
		"no permission": {authorizer: denial(nil), status: 503, reason: "authorizer_down", text: "authorization failed"},
		"panic": {authorizer: authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) { panic("token t") }),
			status: 503, reason: "authorizer_down", text: "authorization failed"},

		"full":              {rooms: rooms(fmt.Errorf("room r: %w", room.ErrFull)), status: 429, reason: "room_full", text: "room is full"},
		"full elsewhere":    {rooms: rooms(told(protocol.CloseRoomFull)), status: 429, reason: "room_full", text: "room is full"},
		"closed":            {rooms: rooms(fmt.Errorf("left: %w", room.ErrClosed)), status: 503, reason: "draining", text: "server is restarting"},
		"moves":             {rooms: rooms(told(protocol.CloseRestart)), status: 503, reason: "draining", text: "server is restarting"},
		"overloaded":        {rooms: rooms(told{protocol.CodeTryLater, "server is overloaded"}), status: 503, reason: "overloaded", text: "server is overloaded"},
		"refused by a room": {rooms: rooms(told(protocol.PolicyViolation("not you"))), status: 403, reason: "refused", text: "not you"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			config := wsconn.Config{Rooms: c.rooms, Authorizer: c.authorizer, Registerer: reg}
			if c.rooms == nil {
				config.Rooms = newManager(t, room.Config{})
			}
			if c.authorizer != nil || c.rooms != nil {
				c.query = who
			}
			server := newServer(t, config)
			get(t, listen(t, server)+"/?"+c.query, upgradeRequest("").Header).expect(t, c.status, c.reason, c.text)
			expectRefusals(t, reg, map[string]float64{c.reason: 1})
			expectCloses(t, reg, nil)
			if n := server.Connections(); n != 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// A room that cannot be loaded is no reason to wait longer and longer: the
// client is connected, and told.
func TestRoomCannotBeLoaded(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		reason string
	}{
		"unreadable":   {fmt.Errorf("line 1: %w", room.ErrBadSnapshot), "room cannot be loaded: its stored snapshot is unreadable"},
		"storage down": {errors.New("disk at /data is full"), "room cannot be loaded"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			manager := newManager(t, room.Config{Storage: brokenStorage{c.err}})
			client := dial(t, listen(t, newServer(t, wsconn.Config{Rooms: manager, Registerer: reg}))+"/?"+who)
			client.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
			client.expectClose(1011, c.reason)
			client.expectEnd()
			expectRefusals(t, reg, nil)
		})
	}
	panics := newLobby()
	panics.connect = func(context.Context) error { panic("broken") }
	dial(t, listen(t, newServer(t, wsconn.Config{Rooms: panics}))+"/?"+who).expectClose(1011, "room cannot be loaded")
}

func TestRoomFull(t *testing.T) {
	manager := newManager(t, room.Config{Limits: room.Limits{MaxSessions: 1}})
	url := listen(t, newServer(t, wsconn.Config{Rooms: manager}))
	dial(t, url+"/?"+who).expect(`{"type":"clientCount","count":1}`)
	get(t, url+"/?"+who, upgradeRequest("").Header).expect(t, 429, "room_full", "room is full")
}

func TestManagerClosed(t *testing.T) {
	manager := newManager(t, room.Config{})
	url := listen(t, newServer(t, wsconn.Config{Rooms: manager}))
	if err := manager.CloseAll(t.Context(), closeRestart); err != nil {
		t.Fatal(err)
	}
	get(t, url+"/?"+who, upgradeRequest("").Header).expect(t, 503, "draining", "server is restarting")
}

// What is no handshake is refused before anybody is asked.
func TestBadHandshakes(t *testing.T) {
	reg := prometheus.NewRegistry()
	auth := authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
		t.Error("the authorizer was asked")
		return room.Grant{}, errors.New("asked")
	})
	server := newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth, AllowedOrigins: []string{"https://app.example.com"}, Registerer: reg})
	const origin = "this origin is not allowed to connect"
	bad := 0.0
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		reason string
		text   string
	}{
		"another origin":      {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") }, 403, "refused", origin},
		"the origin and more": {func(r *http.Request) { r.Header.Set("Origin", "https://app.example.com.evil.example") }, 403, "refused", origin},
		"no real origin":      {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403, "refused", origin},
		"another version":     {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, 426, "bad_request", "the Sec-WebSocket-Version header must be 13"},
		"a short key":         {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "short") }, 400, "bad_request", "the Sec-WebSocket-Key header must be 16 bytes in base64"},
		"no key":              {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") }, 400, "bad_request", "the Sec-WebSocket-Key header must be 16 bytes in base64"},
		"a key that is none":  {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ!!") }, 400, "bad_request", "the Sec-WebSocket-Key header must be 16 bytes in base64"},
		"no connection":       {func(r *http.Request) { r.Header.Set("Connection", "keep-alive, not-upgrade") }, 400, "bad_request", "the Connection header must be Upgrade"},
		"a post":              {func(r *http.Request) { r.Method = http.MethodPost }, 400, "bad_request", "the method of a WebSocket handshake must be GET"},
		"no host":             {func(r *http.Request) { r.Host = "" }, 400, "bad_request", "the Host header is missing"},
		"a body":              {func(r *http.Request) { r.ContentLength = 5 }, 400, "bad_request", "a WebSocket handshake must not have a body"},
		"HTTP/1.0":            {func(r *http.Request) { r.ProtoMinor = 0 }, 400, "bad_request", "this connection cannot be upgraded: WebSocket needs HTTP/1.1 all the way to this server"},
		"HTTP/2":              {func(r *http.Request) { r.ProtoMajor = 2 }, 400, "bad_request", "this connection cannot be upgraded: WebSocket needs HTTP/1.1 all the way to this server"},
	} {
		t.Run(name, func(t *testing.T) {
			r := upgradeRequest(who)
			c.change(r)
			a := knock(server, r)
			a.expect(t, c.status, c.reason, c.text)
			if version := a.header.Get("Sec-WebSocket-Version"); (version == "13") != (c.status == 426) {
				t.Errorf("the version is %q", version)
			}
			if c.reason == "bad_request" {
				bad++
			}
		})
	}
	w := httptest.NewRecorder() // which cannot be hijacked
	server.ServeHTTP(w, upgradeRequest(who))
	if w.Code != 400 {
		t.Errorf("a connection that cannot be upgraded: %d", w.Code)
	}
	expectRefusals(t, reg, map[string]float64{"bad_request": bad + 1, "refused": 3})
	if a := get(t, listen(t, server), nil); a.status != 426 || a.reason != "" || a.text != "this is a WebSocket server: connect with a canvas-store client" {
		t.Errorf("a page: %+v", a)
	}
}

func TestTooManyConnections(t *testing.T) {
	reg := prometheus.NewRegistry()
	server := newServer(t, wsconn.Config{Rooms: newLobby(), MaxConnections: 2, Registerer: reg})
	url := listen(t, server)
	first := dial(t, url+"/?"+who)
	dial(t, url+"/?"+who)
	get(t, url+"/?"+who, upgradeRequest("").Header).expect(t, 503, "overloaded", "server has as many connections as it takes")
	expectRefusals(t, reg, map[string]float64{"overloaded": 1})
	first.Conn.Close()
	until(t, "one connection", func() bool { return server.Connections() == 1 })
	dial(t, url+"/?"+who)
}

func TestAcceptRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		auth := authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
			asked++
			return room.Grant{}, authz.Deny("no")
		})
		server := newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth, AcceptRate: 10})
		come := func(n int) {
			for range n {
				if a := knock(server, upgradeRequest(who)); a.reason != "refused" {
					a.expect(t, 503, "overloaded", "more clients come than the server takes at a time")
				}
			}
		}
		come(100)
		if asked != 10 {
			t.Errorf("%d were authorized of those who came at once, want 10", asked)
		}
		knock(server, upgradeRequest("")) // takes nobody's turn
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			come(3)
		}
		if asked < 109 || asked > 110 {
			t.Errorf("%d were authorized after ten seconds more, want 110", asked)
		}
	})
}

// A slow authorizer or room makes nobody wait longer than the handshake may
// take, and a grant that comes later is given back.
func TestHandshakeDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		slow   func(*wsconn.Config, *lobby)
	}{
		"authorizer": {"authorizer_down", func(c *wsconn.Config, _ *lobby) { c.Authorizer = newGate() }},
		"authorizer that does not listen": {"authorizer_down", func(c *wsconn.Config, _ *lobby) {
			c.Authorizer = authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
				time.Sleep(time.Minute)
				return room.Grant{Permission: room.ReadWrite}, nil
			})
		}},
		"room": {"overloaded", func(_ *wsconn.Config, l *lobby) {
			l.connect = func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("load room: %w", ctx.Err()) }
		}},
		"room that does not listen": {"overloaded", func(_ *wsconn.Config, l *lobby) {
			l.connect = func(context.Context) error { time.Sleep(time.Minute); return nil }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rooms := newLobby()
				config := wsconn.Config{Rooms: rooms}
				c.slow(&config, rooms)
				server := newServer(t, config)
				began := time.Now()
				knock(server, upgradeRequest(who)).expect(t, 503, c.reason, "the session was not ready in time")
				between(t, began, 10*time.Second, 10*time.Second)
				synctest.Wait()
				late := strings.Contains(name, "listen")
				if n := server.Connections(); (n == 1) != late {
					t.Errorf("%d connections", n)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := server.Connections(); n != 0 {
					t.Errorf("%d connections in the end", n)
				}
				if len(rooms.guests) > 0 {
					next(t, next(t, rooms.guests).left)
				} else if name == "room that does not listen" {
					t.Error("the room had no guest")
				}
			})
		})
	}
}

// What does not heed its context keeps its place among the connections.
func TestDeafAuthorizersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		auth := authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
			asked.Add(1)
			time.Sleep(time.Hour)
			return room.Grant{}, authz.Deny("no")
		})
		server := newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth, MaxConnections: 3})
		for i := range 5 {
			reason := "authorizer_down"
			if i >= 3 {
				reason = "overloaded"
			}
			if a := knock(server, upgradeRequest(who)); a.reason != reason {
				t.Errorf("request %d: %+v", i, a)
			}
		}
		if n := asked.Load(); n != 3 {
			t.Errorf("%d were asked", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := server.Shutdown(ctx, closeRestart); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		between(t, began, time.Second, time.Second)
		time.Sleep(time.Hour)
	})
}

// The end of a server waits for ServeHTTP, and then closes connections: what it
// has answered must be out by then.
func TestRefusalIsOutBeforeServeHTTPReturns(t *testing.T) {
	server := newServer(t, wsconn.Config{Rooms: newLobby()})
	w := httptest.NewRecorder()
	server.ServeHTTP(w, upgradeRequest("clientId=c&token=t"))
	if w.Code != http.StatusBadRequest || !w.Flushed {
		t.Errorf("status %d, flushed %v", w.Code, w.Flushed)
	}
	if want := strconv.Itoa(w.Body.Len()); w.Header().Get("Content-Length") != want {
		t.Errorf("Content-Length %q, want %s: the answer would end with a chunk that is not out", w.Header().Get("Content-Length"), want)
	}
}
