package wsconn

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"
)

// gatherer writes for sockets whose gathering time is over. Times are rounded up
// to slots of a quarter of the longest, so that the sockets of a room, which have
// all got the same message at about the same moment, are served together and by
// one timer: waking a processor for each of them costs more than writing.
//
// Gathering saves writes and costs latency. So the gathering time follows the
// load: see [gatherTime].
type gatherer struct {
	server  *Server
	longest time.Duration // 0: nothing is gathered
	slot    time.Duration

	delay  atomic.Int64 // the gathering time just now
	frames atomic.Int64 // taken to be written since the window began
	window atomic.Int64 // when it began, nanoseconds since the server did

	mu    sync.Mutex
	slots map[int64][]*conn // who waits for which
	ready []*conn           // who need not wait
	busy  bool              // a goroutine serves those who are ready
}

// readySlot is the slot of those who need not wait.
const readySlot = -1

const slotsPerDelay = 4

func newGatherer(s *Server, longest time.Duration) *gatherer {
	return &gatherer{server: s, longest: longest, slot: max(1, longest/slotsPerDelay), slots: map[int64][]*conn{}}
}

const (
	// gatherFrom is up to how many frames a second nothing is gathered, because
	// there is time enough to write each by itself.
	gatherFrom = 20_000
	// gatherFully is from how many frames a second on they are gathered for the
	// longest time.
	gatherFully = 40_000
	// gatherWindow is for how long frames are counted before the gathering time
	// is set anew: long enough not to follow a single broadcast.
	gatherWindow = 250 * time.Millisecond
)

// gatherTime is how long to gather when the server delivers so many frames a
// second: not at all under a light load, and between there and a heavy one
// longer in proportion.
func gatherTime(longest time.Duration, perSecond float64) time.Duration {
	share := (perSecond - gatherFrom) / (gatherFully - gatherFrom)
	return time.Duration(float64(longest) * min(max(share, 0), 1))
}

// count takes note of frames that are about to be written.
func (g *gatherer) count(frames int, now int64) {
	n := g.frames.Add(int64(frames))
	began := g.window.Load()
	took := time.Duration(now - began)
	if took < gatherWindow || !g.window.CompareAndSwap(began, now) {
		return
	}
	g.frames.Add(-n)
	g.delay.Store(int64(gatherTime(g.longest, float64(n)/took.Seconds())))
}

// rest is how long a socket whose last write began at a time must still wait.
func (g *gatherer) rest(began, now int64, u urgency) time.Duration {
	delay := time.Duration(g.delay.Load())
	if delay == 0 {
		return 0
	}
	return time.Duration(u)*delay - time.Duration(now-began)
}

// wait sees to it that a socket is written to, a time from now or up to a slot
// later, and returns the number of the slot. The socket is locked.
func (g *gatherer) wait(c *conn, now int64, d time.Duration) (number int64) {
	number = (now + int64(d) + int64(g.slot) - 1) / int64(g.slot)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slots[number] = append(g.slots[number], c)
	if len(g.slots[number]) > 1 {
		return number // the first has set the timer
	}
	g.server.tasks.Add(1)
	time.AfterFunc(time.Duration(number*int64(g.slot)-now), func() {
		defer g.server.tasks.Done()
		g.mu.Lock()
		due := g.slots[number]
		delete(g.slots, number)
		g.mu.Unlock()
		serve(due, number)
	})
	return number
}

// soon sees to it that a socket is written to at once: by one goroutine for all
// that a broadcast finds quiet. It returns the number of the slot. The socket is
// locked.
func (g *gatherer) soon(c *conn) (number int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ready = append(g.ready, c)
	if !g.busy {
		g.busy = true
		g.server.tasks.Go(g.serveReady)
	}
	return readySlot
}

func (g *gatherer) serveReady() {
	var due []*conn
	for {
		g.mu.Lock()
		clear(due)
		due, g.ready = g.ready, due[:0]
		g.busy = len(due) > 0
		g.mu.Unlock()
		if len(due) == 0 {
			return
		}
		serve(due, readySlot)
	}
}

func serve(due []*conn, slot int64) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	for _, c := range due {
		c.gathered(slot, buffer)
	}
}

// gathered writes what was gathered for a slot, unless something urgent already
// has. It is called for many sockets in a row and waits for none: what the
// kernel does not take at once is left to a writer.
func (c *conn) gathered(slot int64, buffer *[]byte) {
	c.mu.Lock()
	mine := c.slot == slot
	if mine {
		c.writing, c.slot = true, 0
	}
	c.mu.Unlock()
	for begun := false; mine; begun = true {
		data, more := c.next(buffer, begun)
		if !more {
			return
		}
		n := c.net.writeNow(data)
		c.wrote(n)
		if n < len(data) {
			rest := bytes.Clone(data[n:])
			c.tasks.Go(func() { c.write(rest) })
			return
		}
	}
}
