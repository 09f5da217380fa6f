package cluster

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room/protocol"
)

// A node that was taken for dead begins anew at its ports, and with the gossip keys
// that it has by then.
func TestANodeThatBeginsAnewKeepsItsPortsAndKeys(t *testing.T) {
	noLeaks(t)
	redisAddr := startRealRedis(t)
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("waiting for " + what)
			}
		}
	}
	join := func(change func(*Config)) *Node {
		t.Helper()
		config := joinConfig(redisAddr)
		change(&config)
		n, err := Join(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := n.Leave(ctx, protocol.CloseRestart); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	gossip, peer := free(), free()
	a := join(func(c *Config) { c.GossipListen, c.PeerListen, c.GossipKeys = gossip, peer, []string{key(1)} })
	if err := a.SetGossipKeys([]string{key(2)}); err != nil {
		t.Fatal(err)
	}
	first := a.Stats().Node
	admin := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer admin.Close()
	if err := admin.ZAdd(t.Context(), keys{"weft:"}.leases(), redis.Z{Score: 1, Member: tombstone + first}).Err(); err != nil {
		t.Fatal(err)
	}
	until("another life", func() bool { return a.Stats().Rebirths == 1 && a.Ready() && a.Stats().Node != first })

	b := join(func(c *Config) { c.NodeName, c.Join, c.GossipKeys = "b", []string{gossip}, []string{key(2)} })
	until("the nodes to share the partitions", func() bool {
		owned := b.Stats().OwnedPartitions
		return owned > 0 && owned+a.Stats().OwnedPartitions == partitions
	})
	for _, m := range b.life.Load().gossip.members() {
		if m.name == "a" && m.peer != peer {
			t.Errorf("a listens at %s now, want %s", m.peer, peer)
		}
	}
	if n := b.life.Load().deaths.unreachable.Load(); n != 0 {
		t.Errorf("%d peers are unreachable", n)
	}
}
