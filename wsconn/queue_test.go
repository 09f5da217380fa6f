package wsconn_test

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// A client that stops reading is closed with 1013, which it sees once it reads
// on, behind a part of what it was sent: the first of it, without a hole. The
// client beside it misses nothing.
func TestSlowConsumer(t *testing.T) {
	const bound = 1 << 20
	rooms := newLobby()
	reg := prometheus.NewRegistry()
	url := listen(t, newServer(t, wsconn.Config{Rooms: rooms, MaxQueueBytes: bound, Registerer: reg}))
	slow := dial(t, url+"/?"+who)
	slowGuest := next(t, rooms.guests)
	good := dial(t, url+"/?"+who)
	goodGuest := next(t, rooms.guests)

	message := func(i int) string { return fmt.Sprintf("%06d%s", i, strings.Repeat("x", 60_000)) }
	sent, open := 0, true
	for ; open && sent < 2000; sent++ { // the kernel takes megabytes before a write blocks
		slowGuest.send(message(sent))
		goodGuest.send(message(sent))
		good.expect(message(sent))
		open = len(slowGuest.left) == 0
	}
	if open {
		t.Fatalf("%d messages were taken", sent)
	}
	got := 0
	for ; ; got++ {
		text, err := slow.read()
		if errors.Is(err, wsutil.ClosedError{Code: 1013, Reason: "slow consumer"}) {
			break
		}
		if err != nil || text != message(got) {
			t.Fatalf("message %d is %s, %v", got, brief(text), err)
		}
	}
	if got == 0 || got > sent {
		t.Errorf("%d of %d messages arrived", got, sent)
	}
	slow.expectEnd()
	expectCloses(t, reg, map[string]float64{"slow_consumer": 1})
	goodGuest.send("still here")
	good.expect("still here")
}

// The bound is exact: what is being written and what waits.
func TestQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, size = 64_000, 1000
		client, g := meet(t, wsconn.Config{MaxQueueBytes: bound})
		text := strings.Repeat("x", size-4) // the header takes 4
		time.Sleep(time.Second)
		taken := -1 // the last is not
		for ; len(g.left) == 0; taken++ {
			g.send(text)
			synctest.Wait()
		}
		if taken != 1+bound/size {
			t.Errorf("%d messages were taken, want one that is being written and %d that wait", taken, bound/size)
		}
		client.expect(text) // which was being written; what waited is dropped
		client.expectFrame(ws.OpClose, closeBody(1013, "slow consumer"))
	})
}

// One message may be larger than the bound: otherwise a large document could
// never be opened. Edits may wait behind it, another such message may not.
func TestOneLargeMessageMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{MaxQueueBytes: 64_000, PingInterval: time.Hour})
		large := strings.Repeat("L", 1_000_000)
		time.Sleep(time.Second)
		g.send("first")
		synctest.Wait() // it is being written
		g.send(large)
		g.send("edit")
		g.send("edit")
		client.expect("first", large, "edit", "edit")
		synctest.Wait()
		time.Sleep(time.Second)

		g.send(large)
		synctest.Wait() // it is being written
		g.send(large)
		g.send("edit")
		if len(g.left) > 0 {
			t.Fatal("a large message while another is being written closed the socket")
		}
		g.send(large)
		synctest.Wait()
		next(t, g.left)
		client.expect(large)
		client.expectFrame(ws.OpClose, closeBody(1013, "slow consumer"))
	})
}

func TestOrderIsKept(t *testing.T) {
	rooms := newLobby()
	url := listen(t, newServer(t, wsconn.Config{Rooms: rooms}))
	client := dial(t, url+"/?"+who)
	g := next(t, rooms.guests)
	const n = 3000
	message := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", i%7*1000)) }
	go func() {
		for i := range n {
			g.send(message(i))
		}
	}()
	for i := range n {
		if i%100 == 0 {
			client.raw(frame(ws.OpPing, true, "between")) // which the client passes over
		}
		client.expect(message(i))
	}
}

// What has been written is let go, though the socket lives on.
func TestWrittenFramesAreLetGo(t *testing.T) {
	client, g := meet(t, wsconn.Config{})
	g.send("first")
	large := protocol.NewFrame(make([]byte, 1<<20))
	memory := weak.Make(&large.Wire()[0])
	g.Socket.Send(large)
	large = protocol.Frame{}
	for range 5 {
		g.send("behind")
	}
	client.expect("first")
	for range 6 {
		if _, err := client.read(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the frame is collected", func() bool { runtime.GC(); return memory.Value() == nil })
	g.send("still here")
	client.expect("still here")
}

// tap notes what is written to a connection in one go, and when.
type tap struct {
	net.Conn
	mu     sync.Mutex
	writes []written
}

type written struct {
	at    time.Duration
	texts []string // of the frames
}

func (c *tap) Write(b []byte) (int, error) {
	w := written{at: time.Duration(time.Now().UnixNano())}
	for rest := strings.NewReader(string(b)); rest.Len() > 0; {
		f, err := ws.ReadFrame(rest)
		if err != nil {
			w.texts = append(w.texts, err.Error()) // the answer to the upgrade
			break
		}
		w.texts = append(w.texts, string(f.Payload))
	}
	c.mu.Lock()
	c.writes = append(c.writes, w)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// since returns the writes from now on, by the time since began.
func (c *tap) since(began time.Time, skip int) (out []written) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.writes[skip:] {
		out = append(out, written{w.at - time.Duration(began.UnixNano()), w.texts})
	}
	return out
}

// Loads of a server, in frames a second for others than the guest.
const (
	light = 12_000
	half  = 27_000
	heavy = 80_000
)

// gather runs f with a guest whose client reads everything at once, on a server
// that delivers so many frames a second to another one, and returns what was
// written to the guest's, how and when.
func gather(t *testing.T, delay time.Duration, load int, f func(*guest, *client)) (out []written) {
	synctest.Test(t, func(t *testing.T) {
		rooms := newLobby()
		var line *tap
		server := newServer(t, wsconn.Config{Rooms: rooms, GatherDelay: delay})
		client := plug(t, server, who, func(c net.Conn) net.Conn {
			line = &tap{Conn: c}
			return line
		})
		g := next(t, rooms.guests)
		go readAll(client)
		stop := busy(t, server, rooms, load)
		defer stop()
		time.Sleep(500 * ms) // between two bursts of the load
		skip, began := len(line.since(time.Now(), 0)), time.Now()
		f(g, client)
		time.Sleep(100 * ms)
		out = line.since(began, skip)
		client.Conn.Close()
	})
	return out
}

func readAll(c *client) {
	for {
		if _, err := ws.ReadFrame(c); err != nil {
			return
		}
	}
}

// busy makes a server deliver so many frames a second to a client of its own,
// until it is stopped.
func busy(t *testing.T, server *wsconn.Server, rooms *lobby, perSecond int) (stop func()) {
	t.Helper()
	client := plug(t, server, who)
	g := next(t, rooms.guests)
	go readAll(client)
	tick := time.NewTicker(7 * ms)
	ended := make(chan struct{})
	go func() {
		for {
			for range perSecond * 7 / 1000 {
				g.send("")
			}
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(ended)
		client.Conn.Close()
	}
}

func expectWrites(t *testing.T, got []written, want ...written) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b written) bool { return a.at == b.at && slices.Equal(a.texts, b.texts) }) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
}

const ms = time.Millisecond

// Under a light load every message goes out at once: there is time to write
// each by itself.
func TestNothingIsGatheredUnderALightLoad(t *testing.T) {
	got := gather(t, 0, light, func(g *guest, _ *client) {
		for i := range 3 {
			g.send(fmt.Sprint(i))
			synctest.Wait()
			time.Sleep(1 * ms)
		}
	})
	expectWrites(t, got, written{0, []string{"0"}}, written{1 * ms, []string{"1"}}, written{2 * ms, []string{"2"}})
}

// Between a light load and a heavy one messages are gathered for a part of the time.
func TestGatheringGrowsWithTheLoad(t *testing.T) {
	got := gather(t, 0, half, func(g *guest, _ *client) {
		for i := range 5 {
			g.send(fmt.Sprint(i))
			synctest.Wait()
			time.Sleep(700 * time.Microsecond)
		}
	})
	expectWrites(t, got, written{0, []string{"0"}}, written{2 * ms, []string{"1", "2"}}, written{4 * ms, []string{"3", "4"}})
}

// When a heavy load ends, gathering does, too.
func TestGatheringEndsWithTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rooms := newLobby()
		var line *tap
		server := newServer(t, wsconn.Config{Rooms: rooms})
		client := plug(t, server, who, func(c net.Conn) net.Conn {
			line = &tap{Conn: c}
			return line
		})
		g := next(t, rooms.guests)
		go readAll(client)
		stop := busy(t, server, rooms, heavy)
		time.Sleep(500 * ms)
		stop()
		time.Sleep(time.Second)
		skip, began := len(line.since(time.Now(), 0)), time.Now()
		for i := range 2 {
			g.send(fmt.Sprint(i))
			synctest.Wait()
		}
		time.Sleep(time.Second)
		expectWrites(t, line.since(began, skip), written{0, []string{"0"}}, written{0, []string{"1"}})
		client.Conn.Close()
	})
}

// Under a heavy load the first message after a quiet spell goes out at once, what
// follows within 4 ms together.
func TestGathering(t *testing.T) {
	got := gather(t, 0, heavy, func(g *guest, _ *client) {
		for i, pause := range []time.Duration{1 * ms, 1 * ms, 1 * ms, 2 * ms, 20 * ms, 4 * ms, 0} {
			g.send(fmt.Sprint(i))
			synctest.Wait()
			time.Sleep(pause)
		}
	})
	expectWrites(t, got,
		written{0, []string{"0"}},
		written{4 * ms, []string{"1", "2", "3"}},
		written{8 * ms, []string{"4"}},
		written{25 * ms, []string{"5"}},
		written{29 * ms, []string{"6"}},
	)
}

func TestGatheringLonger(t *testing.T) {
	got := gather(t, 10*ms, heavy, func(g *guest, _ *client) {
		for i := range 9 {
			g.send(fmt.Sprint(i))
			synctest.Wait()
			time.Sleep(3 * ms)
		}
	})
	expectWrites(t, got,
		written{0, []string{"0"}},
		written{10 * ms, []string{"1", "2", "3"}},
		written{20 * ms, []string{"4", "5", "6"}},
		written{30 * ms, []string{"7", "8"}},
	)
}

func TestGatheringOff(t *testing.T) {
	got := gather(t, -1, heavy, func(g *guest, _ *client) {
		for i := range 3 {
			g.send(fmt.Sprint(i))
			synctest.Wait()
			time.Sleep(1 * ms)
		}
	})
	expectWrites(t, got, written{0, []string{"0"}}, written{1 * ms, []string{"1"}}, written{2 * ms, []string{"2"}})
}

// A pong and a close do not wait, and take along what does.
func TestControlFramesDoNotWait(t *testing.T) {
	got := gather(t, 0, heavy, func(g *guest, c *client) {
		g.send("0")
		synctest.Wait()
		time.Sleep(1 * ms)
		g.send("1")
		synctest.Wait()
		time.Sleep(1 * ms)
		c.raw(frame(ws.OpPing, true, "ping"))
		synctest.Wait()
		time.Sleep(1 * ms)
		g.send("2")
		synctest.Wait()
		time.Sleep(1 * ms)
		g.Socket.Close(protocol.CloseNormal)
	})
	expectWrites(t, got,
		written{0, []string{"0"}},
		written{2 * ms, []string{"ping", "1"}},
		written{4 * ms, []string{"2", closeBody(1000, "closed by the server")}},
	)
}

// A write takes so much and no more; while there is enough for another, that
// follows without a wait.
func TestGatheringIsBounded(t *testing.T) {
	text := strings.Repeat("x", 30_000)
	got := gather(t, 0, heavy, func(g *guest, _ *client) {
		for range 7 {
			g.send(text)
			synctest.Wait()
		}
	})
	if len(got) < 3 || got[0].at != 0 || len(got[0].texts) != 1 {
		t.Fatalf("%d writes", len(got))
	}
	n := 0
	for _, w := range got {
		n += len(w.texts)
		if len(w.texts) > 2 {
			t.Errorf("%d messages of %d bytes in one write", len(w.texts), len(text))
		}
		if w.at > 8*ms {
			t.Errorf("a write after %v", w.at)
		}
	}
	if n != 7 {
		t.Errorf("%d messages", n)
	}
}
