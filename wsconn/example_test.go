package wsconn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/store"
	"github.com/weftsync/weft/wsconn"
)

// A whole server, with net/http.
func Example() {
	files, err := store.NewFile("data")
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	rooms := room.NewManager(room.Config{Storage: files})
	server, err := wsconn.NewServer(wsconn.Config{Rooms: rooms, Authorizer: authz.Insecure{}})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", server))
}

// The same, with its parts in order when it ends: sockets first, which saves
// every room, then the server. Here a client comes and draws in between.
func ExampleNewServer() {
	rooms := room.NewManager(room.Config{Storage: &store.Memory{}})
	server, err := wsconn.NewServer(wsconn.Config{Rooms: rooms, Authorizer: authz.Insecure{}})
	if err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(server)
	defer web.Close()

	client := join(web.URL, "sketch", "ada", "any token")
	client.send(`{"type":"patch","messageId":"1","documentPatches":[{"a/Block":{"_exists":true,"x":3}}]}`)
	fmt.Println(client.receive())
	fmt.Println(client.receive())

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := rooms.CloseAll(ctx, protocol.CloseRestart); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.receive())
	if err := server.Shutdown(ctx, protocol.CloseRestart); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"type":"clientCount","count":1}
	// {"type":"ack","messageId":"1","timestamp":1}
	// closed: 1012 server is restarting
}

// coderSocket makes a [wsconn.Socket] of github.com/coder/websocket.
type coderSocket struct{ *websocket.Conn }

func (s coderSocket) Send(text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Write(ctx, websocket.MessageText, text)
}

func (s coderSocket) Close(code int, reason string) error {
	return s.Conn.Close(websocket.StatusCode(code), reason)
}

// serveCoder serves one request with that library.
func serveCoder(rooms wsconn.Rooms, auth authz.Authorizer, w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(32 << 20)

	c := wsconn.Accept(r.Context(), wsconn.AcceptOptions{
		Socket: coderSocket{ws}, URL: r.URL.String(), Request: r, Rooms: rooms, Authorizer: auth,
	})
	defer c.OnClose()
	for {
		_, text, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		c.OnMessage(text)
	}
}

// Any WebSocket library will do: give Accept a way to send and to close, and
// pass on what arrives. What arrives while the client is being authorized is
// kept.
func ExampleAccept() {
	rooms := room.NewManager(room.Config{})
	slow := authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
		time.Sleep(50 * time.Millisecond) // the client does not wait for it
		return room.Grant{Permission: room.ReadWrite}, nil
	})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveCoder(rooms, slow, w, r)
	}))
	defer web.Close()

	client := join(web.URL, "sketch", "ada", "any token")
	client.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	client.send(`{"type":"patch","messageId":"1","documentPatches":[{"a/Block":{"_exists":true,"x":3}}]}`)
	for range 3 {
		fmt.Println(client.receive())
	}
	client.leave()
	// Output:
	// {"type":"clientCount","count":1}
	// {"type":"synced","timestamp":0}
	// {"type":"ack","messageId":"1","timestamp":1}
}

// printSocket is a socket that only says what is done with it.
type printSocket struct{ closed chan struct{} }

func (printSocket) Send(text []byte) error { fmt.Println("send", string(text)); return nil }

func (s printSocket) Close(code int, reason string) error {
	fmt.Println("close", code, reason)
	close(s.closed)
	return nil
}

// Ready tells whether there is a session. Its errors have a code where the URL
// was at fault, and hold what the authorizer said.
func ExampleConnection_Ready() {
	ctx := context.Background()
	rooms := room.NewManager(room.Config{})
	auth := authz.AuthorizerFunc(func(_ context.Context, info authz.Info) (room.Grant, error) {
		if info.Token != "ada's" {
			return room.Grant{}, authz.Deny("ask ada for access")
		}
		return room.Grant{Permission: room.ReadWrite}, nil
	})
	for _, url := range []string{
		"wss://example.com/rooms?clientId=c1&token=ada's",
		"wss://example.com/rooms?roomId=sketch&clientId=c1&token=bob's",
		"wss://example.com/rooms?roomId=sketch&clientId=c1&token=ada's",
	} {
		socket := printSocket{make(chan struct{})}
		c := wsconn.Accept(ctx, wsconn.AcceptOptions{Socket: socket, URL: url, Rooms: rooms, Authorizer: auth})
		session, err := c.Ready(ctx)

		var badURL *wsconn.ConnectError
		var denied *authz.Denied
		switch {
		case errors.As(err, &badURL):
			fmt.Println("bad URL:", badURL.Code)
			<-socket.closed
		case errors.As(err, &denied):
			fmt.Println("denied:", denied.Reason)
			<-socket.closed
		case err == nil:
			info, _ := session.Info()
			fmt.Println("ready:", info.Client, info.Permission)
		}
		c.OnClose()
	}
	// Unordered output:
	// bad URL: missing-room-id
	// close 1008 Missing roomId query parameter
	// denied: ask ada for access
	// close 1008 ask ada for access
	// send {"type":"clientCount","count":1}
	// ready: c1 readwrite
}

// An authorizer is asked when a client connects, with its HTTP request, and
// each time it sends a newer token. A grant may name metadata, which the
// session keeps until another replaces it.
func ExampleConfig_authorizer() {
	members := map[string]room.Permission{"ada-1": room.ReadWrite, "ada-2": room.ReadOnly}
	auth := authz.AuthorizerFunc(func(_ context.Context, info authz.Info) (room.Grant, error) {
		permission, ok := members[info.Token]
		if !ok {
			return room.Grant{}, authz.Deny("your session has ended, sign in again")
		}
		grant := room.Grant{Permission: permission, Expires: time.Now().Add(time.Hour)}
		if info.Request != nil { // nil on a refresh: the metadata stays
			grant.Metadata = json.RawMessage(`{"from":"` + info.Request.UserAgent() + `"}`)
		}
		return grant, nil
	})
	rooms := room.NewManager(room.Config{})
	server, err := wsconn.NewServer(wsconn.Config{Rooms: rooms, Authorizer: auth})
	if err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(server)
	defer web.Close()
	sessions := func() (list []string) {
		r, _ := rooms.Existing("sketch")
		for _, s := range r.Sessions() {
			list = append(list, fmt.Sprintf("%s %s %s", s.Client, s.Permission, s.Metadata))
		}
		return list
	}

	client := join(web.URL, "sketch", "ada", "ada-1")
	client.receive()
	fmt.Println(sessions())
	client.send(`{"type":"auth-refresh","token":"ada-2"}`)
	for strings.Contains(fmt.Sprint(sessions()), "readwrite") { // there is no reply to wait for
		time.Sleep(time.Millisecond)
	}
	fmt.Println(sessions())
	client.send(`{"type":"auth-refresh","token":"ada-0"}`)
	fmt.Println(client.receive())
	if err := server.Shutdown(context.Background(), protocol.CloseNormal); err != nil {
		log.Fatal(err)
	}
	// Output:
	// [ada readwrite {"from":"example"}]
	// [ada readonly {"from":"example"}]
	// closed: 1008 your session has ended, sign in again
}

// ParseURL reads a connect URL for those who do the rest by hand.
func ExampleParseURL() {
	room, client, token, err := wsconn.ParseURL("/canvas?roomId=team%2Fsketch&clientId=c1&token=abc")
	fmt.Println(room, client, token, err)

	_, _, _, err = wsconn.ParseURL("/canvas?roomId=sketch&clientId=c1")
	var bad *wsconn.ConnectError
	if errors.As(err, &bad) {
		fmt.Println(bad.Code, "-", bad)
	}
	// Output:
	// team/sketch c1 abc <nil>
	// missing-token - Missing token query parameter
}

// browser stands for a browser in the examples.
type browser struct{ ws *websocket.Conn }

func join(server, room, client, token string) browser {
	url := fmt.Sprintf("%s/?roomId=%s&clientId=%s&token=%s", server, room, client, token)
	url = strings.ReplaceAll(url, " ", "+")
	ws, _, err := websocket.Dial(context.Background(), url, &websocket.DialOptions{HTTPHeader: http.Header{"User-Agent": {"example"}}})
	if err != nil {
		log.Fatal(err)
	}
	return browser{ws}
}

func (b browser) send(text string) {
	if err := b.ws.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		log.Fatal(err)
	}
}

// receive returns the next message, or how the server closed.
func (b browser) receive() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, text, err := b.ws.Read(ctx)
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return fmt.Sprintf("closed: %d %s", closed.Code, closed.Reason)
	}
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}

func (b browser) leave() { _ = b.ws.Close(websocket.StatusNormalClosure, "") }
