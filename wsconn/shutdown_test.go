package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

var evening = protocol.Close{Code: 4321, Reason: "good night"}

func TestShutdownClosesAll(t *testing.T) {
	server := newServer(t, wsconn.Config{Rooms: newManager(t, room.Config{})})
	url := listen(t, server)
	var clients []*client
	for i := range 20 {
		c := dial(t, fmt.Sprintf("%s/?roomId=r%d&clientId=a&token=t", url, i%3))
		clients = append(clients, c)
		if _, err := c.read(); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(context.Background(), evening) }()
	for _, c := range clients {
		c.expectClose(4321, "good night")
	}
	if err := next(t, done); err != nil {
		t.Error(err)
	}
	if n := server.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
	get(t, url+"/?"+who, upgradeRequest("").Header).expect(t, 503, "draining", "server is restarting")
	if err := server.Shutdown(context.Background(), evening); err != nil { // again
		t.Error(err)
	}
}

// Those that are being authorized or wait for their room are told to come back,
// not that they were refused.
func TestShutdownWhileAuthorizing(t *testing.T) {
	auth := newGate()
	reg := prometheus.NewRegistry()
	server := newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth, Registerer: reg})
	url := listen(t, server)
	answers := make(chan answer, 50)
	for range 50 {
		go func() { answers <- get(t, url+"/?"+who, upgradeRequest("").Header) }()
		next(t, auth.asked)
	}
	if err := server.Shutdown(context.Background(), evening); err != nil {
		t.Error(err)
	}
	for range 50 {
		next(t, answers).expect(t, 503, "draining", "server is restarting")
	}
	expectRefusals(t, reg, map[string]float64{"draining": 50})
}

// A peer that neither reads nor answers is cut off when the context ends.
func TestShutdownCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rooms := newLobby()
		server := newServer(t, wsconn.Config{Rooms: rooms})
		client := plug(t, server, who)
		g := next(t, rooms.guests)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := server.Shutdown(ctx, evening); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		between(t, began, 3*time.Second, 3*time.Second)
		next(t, g.left)
		client.expectEnd()
	})
}

// Without hurry it has the time to answer the close frame.
func TestShutdownWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rooms := newLobby()
		server := newServer(t, wsconn.Config{Rooms: rooms})
		client := plug(t, server, who)
		next(t, rooms.guests)
		began := time.Now()
		done := make(chan error)
		go func() { done <- server.Shutdown(context.Background(), evening) }()
		client.expectFrame(ws.OpClose, closeBody(4321, "good night"))
		time.Sleep(4 * time.Second)
		client.raw(frame(ws.OpClose, true, closeBody(4321, "")))
		if err := <-done; err != nil {
			t.Error(err)
		}
		between(t, began, 4*time.Second, 4*time.Second)
	})
}

// Many come, talk and go while the server shuts down. What was acknowledged is
// in the room, and nobody is left in it.
func TestStress(t *testing.T) {
	const clients = 24
	acked, removed := new(atomic.Int64), new(atomic.Int64)
	manager := newManager(t, room.Config{OnSessionRemoved: func(*room.Room, room.SessionRemoved) { removed.Add(1) }})
	server := newServer(t, wsconn.Config{Rooms: manager, MaxConnections: clients, GatherDelay: time.Millisecond})
	url := listen(t, server)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				conn, early, _, err := ws.Dial(context.Background(), fmt.Sprintf("%s/?roomId=%d&clientId=%d&token=t", url, i%3, i))
				if err != nil {
					continue // it shuts down, or the last one has not ended yet
				}
				c := &client{t: t, Conn: conn, reader: conn}
				if early != nil {
					c.reader = io.MultiReader(io.LimitReader(early, int64(early.Buffered())), conn)
				}
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				for n := range 5 {
					text := fmt.Sprintf(`{"type":"patch","messageId":"%d","documentPatches":[{"k%d/C":{"_exists":true,"n":%d}}]}`, n, i, n)
					if _, err := conn.Write(frame(ws.OpText, true, text)); err != nil {
						break
					}
				}
				for range round % 40 {
					text, err := c.read()
					if err != nil {
						break
					}
					if len(text) > 14 && text[:14] == `{"type":"ack",` {
						acked.Add(1)
					}
				}
				if round%2 == 0 {
					_, _ = conn.Write(frame(ws.OpClose, true, closeBody(1000, "")))
				}
				conn.Close()
			}
		})
	}
	until(t, "a thousand edits", func() bool { return acked.Load() > 1000 })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx, protocol.CloseRestart); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	if n := manager.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	var applied int64
	for _, id := range manager.RoomIDs() {
		r, _ := manager.Existing(id)
		applied += r.Snapshot().Timestamp()
	}
	if applied < acked.Load() {
		t.Errorf("%d edits acknowledged, %d applied", acked.Load(), applied)
	}
	if removed.Load() == 0 {
		t.Error("nobody left")
	}
}
