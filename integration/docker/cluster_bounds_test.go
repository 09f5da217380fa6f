package docker

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftsync/weft/cluster"
)

// What waits is bounded everywhere, and beyond the bounds nobody loses an edit:
// reading stops, or sockets close and their clients come back.
func TestClusterBounds(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	for name, test := range map[string]func(*nodes){
		"LargeMessageAmongSmallOnes": testLargeMessageAmongSmallOnes,
		"UnreadStream":               testUnreadStream,
	} {
		t.Run(name, func(t *testing.T) { test(newNodes(t, server)) })
	}
}

// Redis that is away stops a session's reading at its bound; then nothing is lost.
func TestClusterReadingStopsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	c := newNodes(t, server)
	a := c.join("a", func(config *cluster.Config) { config.MaxSessionBytes = 100 << 10 })
	p := c.visit(a, "room", "p")
	p.enter(0)
	server.Pause(t)
	const edits = 200
	var mu sync.Mutex
	received := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		long := strings.Repeat("x", 1000)
		for i := range edits {
			p.say(fmt.Sprintf(`{"type":"patch","messageId":"m%d","documentPatches":[{"k%d":{"_exists":true,"x":%q}}]}`, i, i, long))
			mu.Lock()
			received++
			mu.Unlock()
		}
	}()
	waitFor(t, "reading to stop", func() bool {
		mu.Lock()
		before := received
		mu.Unlock()
		time.Sleep(300 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return received == before && received > 0
	})
	if got := a.Stats().BufferedBytes; got > 110<<10 || received == edits {
		t.Errorf("%d bytes wait, of %d messages", got, received)
	}
	if n := p.count(`"ack"`); n > 0 {
		t.Errorf("%d acks without Redis", n)
	}
	time.Sleep(3 * time.Second) // the lease, and what was under way, are over
	server.Unpause(t)
	<-done
	p.gets(fmt.Sprintf(`"ack","messageId":"m%d"`, edits-1))
	for i := range edits {
		if n := p.count(fmt.Sprintf(`"ack","messageId":"m%d","timestamp":%d}`, i, i+1)); n != 1 {
			t.Errorf("m%d was acknowledged %d times", i, n)
		}
	}
	p.isOpen()
	if got := len(c.document(a, "room")); got != edits {
		t.Errorf("%d keys of %d", got, edits)
	}
}

// A message nearly as large as its log may be goes in although others write all
// the time.
func testLargeMessageAmongSmallOnes(c *nodes) {
	bound := func(config *cluster.Config) { config.MaxLogBytes = 1 << 20 }
	a := c.join("a", bound)
	b := c.join("b", bound)
	c.settle(a, b)
	small := c.visit(a, "room", "small")
	small.enter(0)
	large := c.visit(b, "room", "large")
	large.enter(0)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				small.draw(fmt.Sprint("s", i))
			}
		}
	})
	defer busy.Wait()
	defer close(stop)
	small.gets(`"messageId":"s20"`)
	large.say(fmt.Sprintf(`{"type":"patch","messageId":"large","documentPatches":[{"large":{"_exists":true,"x":%q}}]}`, strings.Repeat("x", 1<<20)))
	large.gets(`"messageId":"large"`)
}

// A node that does not read what it is told loses it, and notices: its sockets
// close with 1013, and who comes back has everything.
func testUnreadStream(c *nodes) {
	bound := func(config *cluster.Config) { config.MaxOutBytes = 200 << 10 }
	a := c.join("a", bound)
	b := c.join("b", bound)
	c.settle(a, b)
	busy, roomID := c.roomOf(a, "busy"), c.roomOf(a, "room")
	for partitionOf(busy) == partitionOf(roomID) {
		roomID = c.roomOf(a, roomID+"x")
	}
	stuck := c.visit(b, busy, "stuck")
	stuck.enter(0)
	other := c.visit(a, busy, "other")
	other.enter(0)
	reader := c.visit(b, roomID, "reader")
	reader.enter(0)
	writer := c.visit(a, roomID, "writer")
	writer.enter(0)
	let := make(chan struct{})
	var once sync.Once
	blocked := make(chan struct{})
	stuck.mu.Lock()
	stuck.onSend = func() {
		once.Do(func() { close(blocked) })
		<-let
	}
	stuck.mu.Unlock()
	other.point("x")
	<-blocked
	long := strings.Repeat("x", 1000)
	for i := range 3000 {
		writer.say(fmt.Sprintf(`{"type":"patch","messageId":"m%d","documentPatches":[{"k%d":{"_exists":true,"x":%q}}]}`, i, i, long))
	}
	writer.gets(`"messageId":"m2999"`) // whom the node that does not read is no matter of
	waitFor(c, "all that is told to be in the stream, or cut off", func() bool {
		meta, err := c.db.HMGet(c.Context(), c.key("n:{%s}:meta", b.Stats().Node), "put").Result()
		put, _ := strconv.Atoi(fmt.Sprint(meta[0]))
		return err == nil && put > 3_000_000
	})
	// One entry goes in whatever it has, and that is at most 1 MiB.
	memory, err := c.db.MemoryUsage(c.Context(), c.key("n:{%s}:out", b.Stats().Node)).Result()
	if err != nil || memory > 1400<<10 {
		c.Errorf("the stream takes %d bytes, %v", memory, err)
	}
	close(let)
	reader.isClosed(1013)
	writer.isOpen()
	if got := len(c.document(b, roomID)); got != 3000 {
		c.Errorf("%d keys of 3000", got)
	}
}
