package cluster

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

func setMaxMemory(t *testing.T, db *redis.Client, bytes int64) {
	t.Helper()
	if err := db.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(bytes, 10)).Err(); err != nil {
		t.Fatal(err)
	}
}

// While Redis is full, leases, checkpoints, trims, claims, releases and what nodes tell each
// other go on; what clients send waits.
func TestAFullRedisTakesAllButAppends(t *testing.T) {
	addr := startRealRedis(t)
	db := redis.NewClient(&redis.Options{Addr: addr})
	defer db.Close()
	k := keys{"weft:"}
	gossip := freeAddr(t)
	a := startNode(t, addr, func(c *Config) { c.GossipListen, c.SaveInterval = gossip, time.Hour })
	const name = "r"
	w := visit(t, a, name, "w")
	w.drawn("before")

	setMaxMemory(t, db, 1)
	if err := db.Set(t.Context(), "another", "x", 0).Err(); !isFull(err) {
		t.Fatalf("Redis is not full: %v", err)
	}
	eventually(t, "the node to notice", func() bool { return len(a.Troubles()) > 0 })
	if got := a.Troubles(); len(got) != 1 || !strings.HasPrefix(got[0], "Redis is full, ") || !strings.Contains(got[0], "raise its maxmemory") {
		t.Errorf("it says %q", got)
	}
	w.draw("during")
	log := k.log(partitionOf(name))
	eventually(t, "the log to be trimmed", func() bool {
		n, err := db.XLen(t.Context(), log).Result()
		return err == nil && n == 0
	})
	if n, err := db.HGet(t.Context(), k.partition(partitionOf(name), "r:"+name), "timestamp").Int(); err != nil || n != 1 {
		t.Errorf("the room is not saved: %d %v", n, err)
	}

	// A node comes, gets its part from the other, and goes.
	config := joinConfig(addr)
	config.NodeName, config.Join = "b", []string{gossip}
	joining, joined := context.WithTimeout(t.Context(), 20*time.Second)
	defer joined()
	b, err := Join(joining, config)
	if err != nil {
		t.Fatal(err)
	}
	share := func() bool {
		mine, theirs := a.Stats().OwnedPartitions, b.Stats().OwnedPartitions
		return mine > 0 && theirs > 0 && mine+theirs == partitions
	}
	eventually(t, "the nodes to share the partitions", share)
	until := leaseEnds(t, db, a) + 4*time.Second
	eventually(t, "the lease to be renewed again and again", func() bool { return leaseEnds(t, db, a) > until })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Leave(ctx, protocol.CloseRestart); err != nil {
		t.Error(err)
	}
	if gone, err := db.HGet(t.Context(), k.outMeta(b.Stats().Node), "gone").Result(); err != nil || gone != "1" {
		t.Errorf("it has not noted that it is gone: %v", err)
	}
	eventually(t, "the partitions to come back", func() bool { return a.Stats().OwnedPartitions == partitions })

	eventually(t, "the node to be ready", a.Ready)
	if w.has(`"ack","messageId":"during"`) || w.closed != nil {
		t.Errorf("closed %v, frames %q", w.closed, w.frames)
	}
	setMaxMemory(t, db, 0)
	w.gets(`"ack","messageId":"during"`)
	eventually(t, "the node to notice", func() bool { return len(a.Troubles()) == 0 })
}

// leaseEnds is until when a node lives, as Redis has it.
func leaseEnds(t *testing.T, db *redis.Client, n *Node) time.Duration {
	t.Helper()
	ms, err := db.ZScore(t.Context(), keys{"weft:"}.leases(), n.Stats().Node).Result()
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ms) * time.Millisecond
}

// pourer is a client that sends much.
type pourer struct {
	session room.Session
	acked   atomic.Int64
	closed  atomic.Bool
}

func (p *pourer) Close(protocol.Close) { p.closed.Store(true) }
func (p *pourer) Send(f protocol.Frame) {
	p.acked.Add(int64(bytes.Count(f.Text(), []byte(`"type":"ack"`))))
}

// Clients pour much more into Redis than it may have. When they overwrite what they drew,
// the cluster gets out of that alone; when the rooms themselves do not fit, as soon as
// there is memory. No socket closes.
func TestASpikeThatFillsRedis(t *testing.T) {
	const clients, messages, size = 8, 60, 100_000
	for name, fits := range map[string]bool{"of changes": true, "of new things": false} {
		t.Run(name, func(t *testing.T) {
			addr := startRealRedis(t)
			db := redis.NewClient(&redis.Options{Addr: addr})
			defer db.Close()
			gossip := freeAddr(t)
			a := startNode(t, addr, func(c *Config) { c.GossipListen = gossip })
			b := startNode(t, addr, func(c *Config) { c.NodeName, c.Join = "b", []string{gossip} })
			nodes := []*Node{a, b}
			var list []*pourer
			for n := range clients {
				p := &pourer{}
				var err error
				p.session, err = nodes[n%2].Connect(t.Context(), fmt.Sprint("room", n/4), room.ConnectOptions{Client: fmt.Sprint("c", n), Socket: p, Grant: room.Grant{Permission: room.ReadWrite}})
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, p)
			}
			eventually(t, "the nodes to share the partitions", func() bool {
				return a.Stats().OwnedPartitions+b.Stats().OwnedPartitions == partitions && b.Stats().OwnedPartitions > 0
			})
			info, err := db.Info(t.Context(), "memory").Result()
			if err != nil {
				t.Fatal(err)
			}
			used, _ := memoryOf(info)
			setMaxMemory(t, db, 3*used)
			var sending sync.WaitGroup
			for n, p := range list {
				sending.Go(func() {
					for m := range messages {
						key := fmt.Sprintf("k%d", n)
						if !fits {
							key = fmt.Sprintf("k%d.%d", n, m)
						}
						p.session.Receive(fmt.Appendf(nil, `{"type":"patch","messageId":"%d.%d","documentPatches":[{%q:{"_exists":true,"v":"%d %s"}}]}`,
							n, m, key, m, strings.Repeat("x", size)))
					}
				})
			}
			acked := func() (sum int64) {
				for _, p := range list {
					sum += p.acked.Load()
				}
				return sum
			}
			isFull := func() bool { return len(a.Troubles())+len(b.Troubles()) > 0 }
			eventually(t, "Redis to be full", func() bool { return isFull() || acked() == clients*messages })
			if !fits {
				eventually(t, "nothing to go on", func() bool {
					had, until := acked(), leaseEnds(t, db, a)+2*time.Second
					eventually(t, "leases", func() bool { return leaseEnds(t, db, a) > until })
					return acked() == had
				})
				if acked() == clients*messages {
					t.Error("all went in: this shows nothing")
				}
				setMaxMemory(t, db, 0)
			}
			began, had := time.Now(), acked()
			eventually(t, "something to go on", func() bool { return acked() > had || had == clients*messages })
			t.Log("the next acknowledged after", time.Since(began))
			eventually(t, "all to be acknowledged", func() bool { return acked() == clients*messages })
			t.Log("all acknowledged after", time.Since(began))
			sending.Wait()
			for n, p := range list {
				if p.closed.Load() {
					t.Errorf("socket %d was closed", n)
				}
			}
			t.Log("leases lapsed:", a.stats.leaseLapses.Load(), b.stats.leaseLapses.Load())
		})
	}
}
