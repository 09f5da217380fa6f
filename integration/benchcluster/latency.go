package main

import (
	"context"
	"fmt"
	"time"
)

const (
	latencyRooms = 50
	latencyEvery = 100 * time.Millisecond // of each room's one writer: 500 patches a second in all
)

// latency times acks at 500 patches a second in all: half of the clients are at the owners of their
// rooms, half are not; then the same load on a node without a cluster.
func (b *bench) latency(ctx context.Context) error {
	var at []seat
	for i := range latencyRooms {
		owner := b.node(i)
		rooms, err := b.newRooms(ctx, owner, 1)
		if err != nil {
			return err
		}
		if i/len(b.cluster.Nodes)%2 == 0 {
			at = append(at, seat{rooms[0], owner})
		} else {
			at = append(at, seat{rooms[0], b.node(i + 1)})
		}
	}
	clients, err := b.seats(ctx, at)
	if err != nil {
		return err
	}
	defer leaveAll(clients)
	var local, remote []*client
	for i, c := range clients {
		if at[i].node == b.node(i) {
			local = append(local, c)
		} else {
			remote = append(remote, c)
		}
	}

	if err := b.single.Start(ctx); err != nil {
		return err
	}
	defer b.single.Stop()
	alone := make([]seat, latencyRooms)
	for i := range alone {
		alone[i] = seat{fmt.Sprintf("room-%d", i), b.single}
	}
	singles, err := b.seats(ctx, alone)
	if err != nil {
		return err
	}
	defer leaveAll(singles)

	var own, other, single spread
	for round := range b.rounds + 1 {
		for _, list := range [][]*client{clients, singles} {
			d := b.duration
			if round == 0 {
				d = time.Second // to warm up
			}
			if _, err := writeFor(ctx, list, documentPatch, latencyEvery, d); err != nil {
				return err
			}
		}
		forOwn, forOther, forSingle := waitsOf(local), waitsOf(remote), waitsOf(singles)
		if round > 0 {
			own.add(forOwn)
			other.add(forOther)
			single.add(forSingle)
		}
	}
	on := fmt.Sprintf("%d rooms × %d patches/s, ", latencyRooms, time.Second/latencyEvery)
	b.table.times("ack through another node", other, 600*time.Microsecond, 3*time.Millisecond, on+"half of the writers not at their room's owner: these")
	b.table.times("ack at the owner", own, 0, 0, "the same run: those at their room's owner")
	b.table.times("ack of a node without a cluster", single, 0, 0, on+"one node with the file store, in turn with the above")
	adds := other.percentile(50) - own.percentile(50)
	b.table.value("what forwarding adds", millis(adds), "p50 ≤ 300µs", within(float64(adds), float64(300*time.Microsecond)), "difference of the first two p50")
	adds = own.percentile(50) - single.percentile(50)
	b.table.value("what the log adds", millis(adds), "", noTarget, "difference of the second and third p50")
	return nil
}
