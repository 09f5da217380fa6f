package docker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/cluster"
)

// What the nodes tell each other goes through streams in Redis, which have
// bounds and may be read late.
func TestClusterStreams(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	for name, test := range map[string]func(*nodes){
		"OwnerChangesWhileTheStreamWaits": testOwnerChangesWhileTheStreamWaits,
		"LargeDiffs":                      testLargeDiffs,
		"SlowRoom":                        testSlowRoom,
	} {
		t.Run(name, func(t *testing.T) { test(newNodes(t, server)) })
	}
}

// A node that takes a partition over speaks to its own sockets the short way. What
// the owner before it has told them is still in the node's stream, and comes first.
func testOwnerChangesWhileTheStreamWaits(c *nodes) {
	a := c.join("a", nil)
	b := c.join("b", nil)
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
	blocked := make(chan struct{}, 1)
	stuck.mu.Lock()
	stuck.onSend = func() {
		select {
		case blocked <- struct{}{}:
		default:
		}
		<-let
	}
	stuck.mu.Unlock()
	other.point("x") // from here on b's stream is not read
	<-blocked
	for i := range 20 {
		writer.point(fmt.Sprint("p", i))
		writer.gets(fmt.Sprintf(`"ack","messageId":"p%d"`, i))
	}
	left := make(chan error, 1)
	go func() { left <- c.leave(a) }()
	waitFor(c, "b to own everything", func() bool { return b.Stats().OwnedPartitions == 271 })
	thirds := make(chan *person, 1)
	go func() {
		if third, err := c.tryToVisit(b, roomID, "third"); err != nil {
			c.Error(err)
			close(thirds)
		} else {
			thirds <- third
		}
	}()
	time.Sleep(200 * time.Millisecond) // it may have come in, or wait; both is right
	close(let)
	third := <-thirds
	if third == nil {
		return
	}
	third.enter(0)
	if err := <-left; err != nil {
		c.Error(err)
	}
	reader.gets(`"clientCount","count":2`)
	for i := range 20 {
		if text := fmt.Sprintf(`"at":"p%d"`, i); reader.count(text) != 1 && reader.why() == nil {
			c.Errorf("%s came %d times, and the socket is open", text, reader.count(text))
		}
	}
	reader.isOpen()
}

// A diff that is larger than an entry goes in parts, to several clients at once,
// and more of it than the stream of a node may have.
func testLargeDiffs(c *nodes) {
	bound := func(config *cluster.Config) { config.MaxOutBytes = 16 << 20 }
	a := c.join("a", bound)
	b := c.join("b", bound)
	c.settle(a, b)
	roomID := c.roomOf(a, "large")
	writer := c.visit(a, roomID, "writer")
	writer.enter(0)
	long := strings.Repeat("x", 1<<20)
	for i := range 12 {
		writer.say(fmt.Sprintf(`{"type":"patch","messageId":"m%d","documentPatches":[{"k%d":{"_exists":true,"x":%q}}]}`, i, i, long))
	}
	writer.gets(`"messageId":"m11"`)
	var list []*person
	for i := range 6 {
		p := c.visit(b, roomID, fmt.Sprint("reader", i))
		p.say(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)
		list = append(list, p)
	}
	for _, p := range list {
		p.gets(`"type":"synced"`)
		p.isOpen()
		if n := p.count(`"k11":`); n != 1 {
			c.Errorf("the diff came %d times", n)
		}
	}
	writer.isOpen()
}

// Edits that come while their room is still being loaded, in more reads than its
// owner queues, are all applied.
func testSlowRoom(c *nodes) {
	a := c.join("a", nil)
	writer := c.visit(a, "slow", "writer")
	writer.enter(0)
	let := make(chan struct{})
	blocked := make(chan struct{}, 1)
	writer.mu.Lock()
	writer.onSend = func() {
		select {
		case blocked <- struct{}{}:
		default:
		}
		<-let
	}
	writer.mu.Unlock()
	other := c.visit(a, "slow", "other") // its clientCount blocks the owner
	<-blocked
	// Each as an entry of its own, which nobody at this node appends meanwhile.
	log := c.key("{p%d}:log", partitionOf("slow"))
	last, err := c.db.HGet(c.Context(), c.key("{p%d}:meta", partitionOf("slow")), "last").Result()
	if err != nil {
		c.Fatal(err)
	}
	for range 40 {
		id, err := c.db.Do(c.Context(), "XADD", log, "*", "p", last, "b", "unreadable").Text()
		if err != nil {
			c.Fatal(err)
		}
		last = id
		time.Sleep(5 * time.Millisecond) // so that the owner reads it by itself
	}
	if err := c.db.HSet(c.Context(), c.key("{p%d}:meta", partitionOf("slow")), "last", last).Err(); err != nil {
		c.Fatal(err)
	}
	close(let)
	other.enter(0)
	other.drawn("k")
	writer.gets(`"k":`)
}
