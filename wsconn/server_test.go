package wsconn_test

import (
	"context"
	"io"
	"net"
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

// start serves rooms for the length of a test.
func start(t testing.TB, config wsconn.Config) (url string, manager *room.Manager) {
	t.Helper()
	manager = room.NewManager(room.Config{})
	config.Rooms = manager
	if config.Authorizer == nil {
		config.Authorizer = authz.Insecure{}
	}
	server, err := wsconn.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := manager.CloseAll(ctx, protocol.CloseRestart); err != nil {
			t.Error(err)
		}
		if err := server.Shutdown(ctx, protocol.CloseRestart); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http"), manager
}

func TestTwoClientsMeet(t *testing.T) {
	url, _ := start(t, wsconn.Config{})
	a := dial(t, url+"/any/path?roomId=r&clientId=a&token=t")
	a.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	a.expect(`{"type":"clientCount","count":1}`, `{"type":"synced","timestamp":0}`)
	b := dial(t, url+"/?roomId=r&clientId=b&token=t")
	b.expect(`{"type":"clientCount","count":2}`)
	a.expect(`{"type":"clientCount","count":2}`)
	a.send(`{"type":"patch","messageId":"m","documentPatches":[{"k/C":{"_exists":true,"x":1}}],"ephemeralPatches":[{"p/P":{"_exists":true}}]}`)
	a.expect(`{"type":"ack","messageId":"m","timestamp":1}`)
	b.expect(`{"type":"patch","clientId":"a","documentPatches":[{"k/C":{"_exists":true,"x":1}}],"timestamp":1,"ephemeralPatches":[{"p/P":{"_exists":true}}]}`)
	b.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	b.expect(`{"type":"patch","clientId":"","documentPatches":[{"k/C":{"_exists":true,"x":1}}],"timestamp":1,"ephemeralPatches":[{"p/P":{"_exists":true}}]}`,
		`{"type":"synced","timestamp":1}`)
	a.send(`null`)
	a.expectClose(1008, "message must be an object, not null")
	b.expect(`{"type":"patch","clientId":"a","ephemeralPatches":[{"p/P":{"_exists":false}}]}`, `{"type":"clientCount","count":1}`)
}

// client is a WebSocket client that a test drives by hand.
type client struct {
	t testing.TB
	net.Conn
	reader io.Reader
}

func (c *client) Read(b []byte) (int, error) { return c.reader.Read(b) }

func dial(t testing.TB, url string) *client {
	t.Helper()
	conn, early, _, err := ws.Dial(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	c := &client{t: t, Conn: conn, reader: conn}
	if early != nil {
		c.reader = early // what came with the handshake, then the rest
	}
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := wsutil.WriteClientText(c, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) expect(texts ...string) {
	c.t.Helper()
	for _, want := range texts {
		got, _, err := wsutil.ReadServerData(c)
		if err != nil {
			c.t.Fatalf("%v instead of %s", err, want)
		}
		if string(got) != want {
			c.t.Fatalf("\n got %s\nwant %s", got, want)
		}
	}
}

func (c *client) expectClose(code int, reason string) {
	c.t.Helper()
	for {
		_, _, err := wsutil.ReadServerData(c)
		if err == nil {
			continue
		}
		closed, ok := err.(wsutil.ClosedError)
		if !ok || int(closed.Code) != code || closed.Reason != reason {
			c.t.Fatalf("%v instead of close %d %s", err, code, reason)
		}
		return
	}
}
