package wsconn_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/wsconn"
)

// between fails the test unless it is so long since began.
func between(t *testing.T, began time.Time, least, most time.Duration) {
	t.Helper()
	if d := time.Since(began); d < least || d > most {
		t.Errorf("after %v, want %v to %v", d, least, most)
	}
}

// A ping comes every 25 s, the first up to a quarter earlier so that not all
// sockets are pinged at once; the keeper looks once a second.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{})
		began := time.Now()
		client.expectFrame(ws.OpPing, "")
		between(t, began, 18*time.Second, 26*time.Second)
		for range 10 {
			began = time.Now()
			time.Sleep(9 * time.Second)
			client.raw(frame(ws.OpPong, true, ""))
			client.expectFrame(ws.OpPing, "")
			between(t, began, 25*time.Second, 26*time.Second)
		}
		client.expectFrame(ws.OpClose, closeBody(1001, "no answer to pings"))
		next(t, g.left)
	})
}

func TestNoPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{})
		client.expectFrame(ws.OpPing, "")
		began := time.Now()
		client.expectFrame(ws.OpClose, closeBody(1001, "no answer to pings"))
		between(t, began, 10*time.Second, 12*time.Second)
		synctest.Wait()
		next(t, g.left)
		client.expectEnd()
		between(t, began, 15*time.Second, 17*time.Second)
	})
}

// A socket that is not read because its room takes no more is not dead.
func TestHeldByRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{})
		for range cap(g.got) + 1 {
			client.raw(frame(ws.OpText, true, "x"))
		}
		client.expectFrame(ws.OpPing, "")
		time.Sleep(5 * time.Minute)
		for range cap(g.got) + 1 {
			next(t, g.got)
		}
		client.raw(frame(ws.OpPong, true, ""))
		began := time.Now()
		client.expectFrame(ws.OpPing, "")
		client.expectFrame(ws.OpClose, closeBody(1001, "no answer to pings"))
		between(t, began, 10*time.Second, 60*time.Second)
	})
}

// Anything that comes is a sign of life, even a part of a large message.
func TestDataIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{})
		text := strings.Repeat("x", 100)
		message := frame(ws.OpText, true, text)
		go func() {
			for i := range message {
				if _, err := client.Write(message[i : i+1]); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		}()
		began := time.Now()
		pings := 0
		f, err := ws.ReadFrame(client)
		for ; err == nil && f.Header.OpCode == ws.OpPing; f, err = ws.ReadFrame(client) {
			pings++
		}
		if err != nil || string(f.Payload) != closeBody(1001, "no answer to pings") {
			t.Errorf("%v, %q", err, f.Payload)
		}
		between(t, began, 535*time.Second, 565*time.Second)
		if pings < 20 {
			t.Errorf("%d pings", pings)
		}
		g.expect(t, text)
	})
}

// A peer that has gone without the network's noticing takes no ping either.
func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		_, g := meet(t, wsconn.Config{Registerer: reg})
		began := time.Now()
		<-g.left
		between(t, began, 28*time.Second, 38*time.Second)
		synctest.Wait()
		if n := value(t, reg, "weft_connections"); n != 0 {
			t.Errorf("%v connections", n)
		}
	})
}

// A write that makes no progress for ten seconds ends the socket.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		client, g := meet(t, wsconn.Config{Registerer: reg})
		began := time.Now()
		g.send("nobody reads this")
		<-g.left
		between(t, began, 10*time.Second, 12*time.Second)
		client.expectEnd()
		expectCloses(t, reg, map[string]float64{"write_timeout": 1})
	})
}

// The same once a close is under way: it has been counted, and the socket ends.
func TestWriteTimeoutOfAClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		client, g := meet(t, wsconn.Config{Registerer: reg})
		client.raw(frame(ws.OpBinary, true, ""))
		<-g.left
		began := time.Now()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := value(t, reg, "weft_connections"); n != 0 {
			t.Errorf("%v connections after %v", n, time.Since(began))
		}
		expectCloses(t, reg, map[string]float64{"binary": 1})
	})
}

// A slow reader is not a dead one: a large message goes out piece by piece.
func TestSlowReaderGetsTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{PingInterval: time.Hour})
		text := strings.Repeat("x", 4<<20)
		began := time.Now()
		g.send(text)
		got := 0
		for buf := make([]byte, 64<<10); got < len(text); {
			n, err := client.Read(buf)
			if err != nil {
				t.Fatalf("%v after %d bytes and %v", err, got, time.Since(began))
			}
			got += n
			time.Sleep(2 * time.Second)
		}
		between(t, began, time.Minute, 5*time.Minute)
		client.send("and I am still here")
		g.expect(t, "and I am still here")
	})
}
