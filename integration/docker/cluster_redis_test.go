package docker

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// Redis that was emptied while the owners live gets everything from them.
func TestClusterRedisIsEmptied(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	c := newNodes(t, server)
	a, b, roomID := c.pair(nil)
	pa, pb := c.visit(a, roomID, "pa"), c.visit(b, roomID, "pb")
	pa.enter(0)
	pb.enter(0)
	pa.drawn("before-a")
	pb.drawn("before-b")
	if err := c.db.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	again := c.visit(a, roomID, "again")
	again.enter(0)
	again.drawn("after")
	for _, n := range []*cluster.Node{a, b} {
		if got := c.document(n, roomID); len(got) != 3 {
			t.Errorf("%v", got)
		}
	}
	// It is in Redis again, and not in the owner's memory alone.
	if err := c.leave(a); err != nil {
		t.Error(err)
	}
	if got := c.document(b, roomID); len(got) != 3 {
		t.Errorf("%v after the owner left", got)
	}
}

// Redis comes back without its last entries, of a room in which nothing happens
// any more. Its owner, who knows them, hands over nothing but all of it.
func TestClusterLostTailOfAQuietRoom(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	c := newNodes(t, server)
	a, b, roomID := c.pair(func(config *cluster.Config) { config.SaveInterval = time.Hour })
	p := c.visit(b, roomID, "p")
	p.enter(0)
	for i := range 5 {
		p.drawn(fmt.Sprint("k", i))
	}
	time.Sleep(3500 * time.Millisecond) // until readers take it for quiet
	number := partitionOf(roomID)
	entries, err := c.db.XRange(t.Context(), c.key("{p%d}:log", number), "-", "+").Result()
	if err != nil || len(entries) < 5 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	keep, gone := entries[:len(entries)-3], entries[len(entries)-3:]
	pipe := c.db.TxPipeline()
	for _, e := range gone {
		pipe.XDel(t.Context(), c.key("{p%d}:log", number), e.ID)
	}
	pipe.Do(t.Context(), "XSETID", c.key("{p%d}:log", number), keep[len(keep)-1].ID)
	pipe.HSet(t.Context(), c.key("{p%d}:meta", number), "last", keep[len(keep)-1].ID)
	pipe.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the owner to write what it knows", func() bool {
		n, err := c.db.HGet(t.Context(), c.key("{p%d}:r:%s", number, roomID), "timestamp").Result()
		return err == nil && n == "5"
	})
	if err := c.leave(a); err != nil {
		t.Error(err)
	}
	p.drawn("after")
	p.isOpen()
	if got := c.document(b, roomID); len(got) != 6 {
		t.Errorf("%v", got)
	}
}

// A node that is cut off from Redis for long is taken for dead: its clients have
// left, and when it is back it begins anew.
func TestClusterNodeIsCutOff(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	c := newNodes(t, server)
	wire := startPipe(t, server.addr(redisPort))
	a := c.join("a", nil)
	direct := c.url
	c.url = "redis://" + wire.listener.Addr().String()
	b := c.join("b", nil)
	c.url = direct
	c.settle(a, b)
	roomID := c.roomOf(b, "room")
	pb := c.visit(b, roomID, "pb")
	pb.enter(0)
	pb.drawn("k")
	pb.point("here")
	pb.gets(`"ack","messageId":"here"`)
	pa := c.visit(a, roomID, "pa")
	pa.enter(0)
	pa.gets(`"k"`)
	before := b.Stats().Node
	wire.Cut()
	pb.draw("later")
	pa.draw("taken-over")
	pa.gets(`"ack","messageId":"taken-over"`)
	pa.gets(`{"type":"patch","clientId":"pb","ephemeralPatches":[{"cursor":{"_exists":false}}]}`)
	pa.gets(`{"type":"clientCount","count":1}`)
	pa.isOpen()
	if n := pb.count(`"later"`) + pb.count("taken-over"); n != 0 {
		t.Errorf("the node that is cut off tells %q", pb.all())
	}
	wire.Mend()
	pb.isClosed(1012)
	waitFor(t, "it to begin anew", func() bool { return b.Stats().Node != before && b.Ready() })
	c.settle(a, b)
	pb = c.visit(b, roomID, "pb")
	pb.enter(1)
	pb.drawn("later")
	pa.gets(`"later"`)
	pa.isOpen()
}

// A node that has to begin anew and cannot, since Redis is away, can leave.
func TestClusterLeaveWhileBeginningAnew(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	c := newNodes(t, server)
	wire := startPipe(t, server.addr(redisPort))
	c.url = "redis://" + wire.listener.Addr().String()
	a := c.join("a", nil)
	p := c.visit(a, "room", "p")
	p.enter(0)
	if err := c.db.ZAdd(t.Context(), c.key("leases"), redis.Z{Score: 1, Member: "!" + a.Stats().Node}).Err(); err != nil {
		t.Fatal(err)
	}
	p.isClosed(1012)
	wire.Cut()
	time.Sleep(200 * time.Millisecond) // wherever it is
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_ = a.Leave(ctx, protocol.CloseRestart) // Redis hears nothing of it
	if d := time.Since(began); d > 12*time.Second {
		t.Errorf("it took %v", d)
	}
	if _, err := a.Connect(t.Context(), "room", room.ConnectOptions{Client: "x", Socket: p}); err == nil {
		t.Error("it takes sessions after it has left")
	}
}

// An authorizer that never returns keeps no node from leaving.
func TestClusterLeaveBesideAnAuthorizerThatHangs(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	c := newNodes(t, server)
	a := c.join("a", nil)
	let := make(chan struct{})
	t.Cleanup(func() { close(let) })
	entered := make(chan struct{})
	p := c.visitAs(a, "room", room.ConnectOptions{Client: "p", Grant: room.Grant{Permission: room.ReadWrite}, OnTokenRefresh: func(room.TokenRefresh) (room.Grant, error) {
		close(entered)
		<-let
		return room.Grant{}, nil
	}})
	p.enter(0)
	p.say(`{"type":"auth-refresh","token":"t"}`)
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	left := make(chan error, 1)
	go func() { left <- a.Leave(ctx, protocol.CloseRestart) }()
	select {
	case err := <-left:
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Error("it has not left")
	}
}

// What a node had in Redis and in its process is gone when it has left.
func TestClusterLeavesNothingBehind(t *testing.T) {
	server := startRedis(t)
	c := newNodes(t, server)
	goroutines := runtime.NumGoroutine()
	for range 3 {
		a, b := c.join("a", nil), c.join("b", nil)
		c.settle(a, b)
		for i := range 50 {
			p := c.visit(a, fmt.Sprint("room", i), "p")
			p.enter(0)
			p.drawn("k")
		}
		for _, n := range []*cluster.Node{a, b} {
			if err := c.leave(n); err != nil {
				t.Error(err)
			}
		}
		c.gossip = nil
	}
	left := 0
	waitFor(t, "goroutines to end", func() bool {
		left = runtime.NumGoroutine() - goroutines
		return left <= 5 // of the test's own connection
	})
	iter := c.db.Scan(t.Context(), 0, c.key("n:*"), 1000).Iterator()
	for iter.Next(t.Context()) {
		ttl, err := c.db.PTTL(t.Context(), iter.Val()).Result()
		if err != nil || ttl < 0 || !strings.HasSuffix(iter.Val(), ":meta") {
			t.Errorf("%s is left, for %v, %v", iter.Val(), ttl, err)
		}
	}
}
