package main

import (
	"context"
	"fmt"
	"time"
)

const (
	fanEvery = 50 * time.Millisecond // between the patches of the one writer
	viewers  = 1000
)

// fanOut counts what one room's owner puts into Redis for a patch, with few and with many viewers.
func (b *bench) fanOut(ctx context.Context) error {
	for _, count := range []int{len(b.cluster.Nodes), viewers} {
		if err := b.fanOutTo(ctx, count); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) fanOutTo(ctx context.Context, count int) error {
	owner := b.node(0)
	rooms, err := b.newRooms(ctx, owner, 1)
	if err != nil {
		return err
	}
	at := []seat{{rooms[0], b.node(1)}}
	for i := range count {
		at = append(at, seat{rooms[0], b.node(i)})
	}
	clients, err := b.seats(ctx, at)
	if err != nil {
		return err
	}
	defer leaveAll(clients)
	if _, err := writeFor(ctx, clients[:1], documentPatch, fanEvery, time.Second); err != nil { // to warm up
		return err
	}
	if err := awaitQuiet(ctx, clients[1:], 0); err != nil {
		return err
	}
	waitsOf(clients[:1])

	used, err := b.redisUse(ctx)
	if err != nil {
		return err
	}
	seen := got(clients[1:])
	before, err := metricsOf(ctx, owner)
	if err != nil {
		return err
	}
	sent, err := writeFor(ctx, clients[:1], documentPatch, fanEvery, b.duration)
	if err != nil {
		return err
	}
	if err := awaitQuiet(ctx, clients[1:], seen); err != nil {
		return err
	}
	after, err := metricsOf(ctx, owner)
	if err != nil {
		return err
	}
	now, err := b.redisUse(ctx)
	if err != nil {
		return err
	}
	const emitted = "weft_cluster_emitted_total"
	others := float64(len(b.cluster.Nodes) - 1)
	each := (after[emitted] - before[emitted]) / float64(sent) / others
	delivered := float64(got(clients[1:])-seen) / float64(sent)
	b.table.value(fmt.Sprintf("entries per patch and other node, %d viewers", count), fmt.Sprintf("%.2f", each), "≤ 1", within(each, 1.05),
		fmt.Sprintf("1 room, 1 writer × %d/s, viewers spread over three nodes; each patch reached %.1f of them; Redis CPU per patch %.0f µs",
			time.Second/fanEvery, delivered, 1e6*(now.cpu-used.cpu)/float64(sent)))
	var acks spread
	acks.add(waitsOf(clients[:1]))
	b.table.times(fmt.Sprintf("ack with %d viewers", count), acks, 0, 0, "the same run; the writer is not at the owner")
	return nil
}
