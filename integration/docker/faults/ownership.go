package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
)

// Partitions is how many partitions rooms fall into.
const Partitions = 271

// PartitionOf is the partition of a room.
func PartitionOf(room string) int { return int(xxhash.Sum64String(room) % Partitions) }

// Claim is that a partition got an owner: an incarnation, which begins with its node's name and a dot.
type Claim struct {
	At        time.Duration // when it was seen
	Partition int
	Epoch     string
	Owner     string
	Before    string // the previous owner
}

// Node is the name of the owner's node.
func (c Claim) Node() string { return NodeOf(c.Owner) }

// NodeOf is the name of an incarnation's node.
func NodeOf(incarnation string) string {
	if i := strings.LastIndexByte(incarnation, '.'); i >= 0 {
		return incarnation[:i]
	}
	return incarnation
}

// Ownership watches in Redis who owns what. It looks again and again, so of two claims of a partition
// within one look it sees the later one only.
type Ownership struct {
	client *redis.Client
	prefix string
	every  time.Duration
	since  func() time.Duration
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	now    [Partitions]Claim // what stands in Redis
	claims []Claim
}

// WatchOwnership watches until Close; since is the clock of the claims. While Redis does not answer, it
// sees nothing.
func WatchOwnership(client *redis.Client, prefix string, every time.Duration, since func() time.Duration) *Ownership {
	ctx, stop := context.WithCancel(context.Background())
	o := &Ownership{client: client, prefix: prefix, every: every, since: since, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.watch(ctx)
	}()
	return o
}

// Close ends the watching.
func (o *Ownership) Close() {
	o.stop()
	<-o.done
}

// Claims are all that were seen since it began, in order. Who owned before does not count.
func (o *Ownership) Claims() []Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Claim(nil), o.claims...)
}

// Owner is the last claim of a partition that was seen; the zero Claim if there is none.
func (o *Ownership) Owner(partition int) Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now[partition]
}

func (o *Ownership) watch(ctx context.Context) {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		o.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *Ownership) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var answers [Partitions]*redis.SliceCmd
	_, err := o.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range answers {
			answers[i] = p.HMGet(ctx, fmt.Sprintf("%s{p%d}:own", o.prefix, i), "epoch", "owner")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, answer := range answers {
		epoch, _ := answer.Val()[0].(string)
		owner, _ := answer.Val()[1].(string)
		if epoch == "" || epoch == o.now[i].Epoch {
			continue
		}
		first := o.now[i].Epoch == ""
		o.now[i] = Claim{At: o.since(), Partition: i, Epoch: epoch, Owner: owner, Before: o.now[i].Owner}
		if !first {
			o.claims = append(o.claims, o.now[i])
		}
	}
}

// PerPartition counts the claims of each partition within a time.
func PerPartition(claims []Claim, from, to time.Duration) [Partitions]int {
	var n [Partitions]int
	for _, c := range claims {
		if c.At >= from && c.At <= to {
			n[c.Partition]++
		}
	}
	return n
}
