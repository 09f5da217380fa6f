package wsconn_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// call sends a request for an upgrade, and does not wait for the answer.
func call(t testing.TB, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := upgradeRequest(who).Write(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A client that goes away while it is being authorized leaves nothing behind,
// nobody goes on to decide about it, and no one is told that it was refused.
func TestClientGoneWhileAuthorizing(t *testing.T) {
	var log record
	reg := prometheus.NewRegistry()
	auth := newGate()
	manager := newManager(t, room.Config{})
	server := newServer(t, wsconn.Config{Rooms: manager, Authorizer: auth, Logger: slog.New(&log), Registerer: reg, HandshakeTimeout: time.Hour})
	conn := call(t, listen(t, server))
	next(t, auth.asked)
	conn.Close()
	until(t, "the connection has ended", func() bool { return server.Connections() == 0 })
	if s := manager.Stats(); s.Sessions+s.Received+s.Loads != 0 {
		t.Errorf("stats are %+v", s)
	}
	if text := log.String(); text != "" {
		t.Errorf("logged: %s", text)
	}
	expectRefusals(t, reg, nil)
	expectCloses(t, reg, nil)
}

// The room is there only after the client has gone: the session must not stay.
func TestClientGoneWhileJoining(t *testing.T) {
	rooms := newLobby()
	loading, load := make(chan context.Context, 1), make(chan struct{})
	rooms.connect = func(ctx context.Context) error { loading <- ctx; <-load; return nil }
	server := newServer(t, wsconn.Config{Rooms: rooms})
	conn := call(t, listen(t, server))
	ctx := next(t, loading)
	conn.Close()
	next(t, ctx.Done())
	close(load)
	g := next(t, rooms.guests)
	next(t, g.left)
	until(t, "the connection has ended", func() bool { return server.Connections() == 0 })
	if len(g.got) > 0 {
		t.Errorf("the session got %s", <-g.got)
	}
}
