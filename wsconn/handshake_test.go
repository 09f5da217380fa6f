package wsconn_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

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

func TestHandshakesThatAreUpgraded(t *testing.T) {
	url := listen(t, newServer(t, wsconn.Config{Rooms: newLobby(), AllowedOrigins: []string{"https://app.example.com"}}))
	for name, change := range map[string]func(http.Header){
		"plain":           func(http.Header) {},
		"the origin":      func(h http.Header) { h.Set("Origin", "https://app.example.com") },
		"another case":    func(h http.Header) { h.Set("Upgrade", "WebSocket"); h.Set("Connection", "upgrade") },
		"a list":          func(h http.Header) { h.Set("Connection", "keep-alive, Upgrade") },
		"a list in lines": func(h http.Header) { h["Connection"] = []string{"keep-alive", "Upgrade"} },
	} {
		t.Run(name, func(t *testing.T) {
			headers := upgradeRequest("").Header
			change(headers)
			if answer := get(t, url+"/?"+who, headers); answer.status != http.StatusSwitchingProtocols {
				t.Errorf("%+v", answer)
			}
		})
	}
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

// The same while the authorizer thinks: what is sent meanwhile waits, in order,
// and is read by nobody.
func TestFramesBeforeTheGrant(t *testing.T) {
	auth, rooms := newGate(), newLobby()
	conn, err := net.Dial("tcp", strings.TrimPrefix(listen(t, newServer(t, wsconn.Config{Rooms: rooms, Authorizer: auth})), "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := upgradeRequest(who).Write(conn); err != nil {
		t.Fatal(err)
	}
	next(t, auth.asked)
	var want []string
	for i := range 2000 {
		want = append(want, fmt.Sprint("message ", i))
		if _, err := conn.Write(frame(ws.OpText, true, want[i])); err != nil {
			t.Fatal(err)
		}
	}
	auth.say <- nil
	next(t, rooms.guests).expect(t, want...)
}

// What the room says before the answer to the request is out comes after it.
func TestRoomSpeaksBeforeTheUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		texts int
		after func(*client)
	}{
		"and goes on": {100, func(c *client) { c.send("hello") }},
		"and closes":  {100, func(c *client) { c.expectClose(1012, "server is restarting"); c.expectEnd() }},
		"too much":    {20_000, func(c *client) { c.expectClose(1013, "slow consumer"); c.expectEnd() }},
	} {
		t.Run(name, func(t *testing.T) {
			rooms := newLobby()
			server := newServer(t, wsconn.Config{Rooms: rooms, MaxQueueBytes: 100_000})
			asked, let := make(chan struct{}, 1), make(chan struct{})
			near, far := net.Pipe()
			defer near.Close()
			go server.ServeHTTP(&slowHijacker{hijacker{ResponseRecorder: httptest.NewRecorder(), conn: far}, asked, let}, upgradeRequest(who))
			next(t, asked)
			g := next(t, rooms.guests)
			for i := range c.texts {
				g.send(fmt.Sprint("text ", i))
			}
			if name == "and closes" {
				g.Socket.Close(closeRestart)
				g.Socket.Close(evening)
			}
			close(let)
			in := bufio.NewReader(near)
			if response, err := http.ReadResponse(in, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(response, err)
			}
			client := &client{t: t, Conn: near, reader: in}
			if c.texts == 100 {
				for i := range c.texts {
					client.expect(fmt.Sprint("text ", i))
				}
			}
			c.after(client)
			if name == "and goes on" {
				g.expect(t, "hello")
			} else {
				next(t, g.left)
			}
		})
	}
}

// brokenHijacker says that its connection can be taken, and then it cannot.
type brokenHijacker struct{ *httptest.ResponseRecorder }

func (brokenHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, io.ErrClosedPipe
}

// A session whose upgrade fails leaves its room.
func TestUpgradeFails(t *testing.T) {
	rooms := newLobby()
	server := newServer(t, wsconn.Config{Rooms: rooms})
	server.ServeHTTP(brokenHijacker{httptest.NewRecorder()}, upgradeRequest(who))
	g := next(t, rooms.guests)
	next(t, g.left)
	g.send("too late")
	if n := server.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// The authorizer sees what the client sent, decoded as browsers encode it.
func TestAuthorizerSeesTheRequest(t *testing.T) {
	auth := newGate()
	url := listen(t, newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth}))
	answers := make(chan answer, 1)
	go func() {
		answers <- get(t, url+"/some/path?x=1&roomId=a%2Fb+c%20d%C3%A9&clientId=%E0%A4%A&token=t%3D%3D&token=second", upgradeRequest("").Header)
	}()
	info := next(t, auth.asked)
	if info.RoomID != "a/b c dé" || info.Token != "t==" || !strings.HasSuffix(info.ClientID, "%A") {
		t.Errorf("room %q, client %q, token %q", info.RoomID, info.ClientID, info.Token)
	}
	if info.Request == nil || info.Request.URL.Path != "/some/path" {
		t.Errorf("request %v", info.Request)
	}
	auth.say <- nil
	if a := next(t, answers); a.status != http.StatusSwitchingProtocols {
		t.Errorf("%+v", a)
	}
}
