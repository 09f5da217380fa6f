package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// idleRooms opens rooms, changes something in each, leaves them, and measures what they cost when no
// node has them in memory any more.
func (b *bench) idleRooms(ctx context.Context) error {
	if err := b.visit(ctx, b.idle/4); err != nil { // so that what grows once has grown
		return err
	}
	memory, resident, err := b.memory(ctx)
	if err != nil {
		return err
	}
	stored, err := b.redisUse(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := b.visit(ctx, b.idle); err != nil {
		return err
	}
	took := time.Since(began)
	memoryNow, residentNow, err := b.memory(ctx)
	if err != nil {
		return err
	}
	now, err := b.redisUse(ctx)
	if err != nil {
		return err
	}
	each := func(more float64) float64 { return more / float64(b.idle) }
	perNode := each(memoryNow-memory) / float64(len(b.cluster.Nodes))
	on := fmt.Sprintf("%d rooms, each visited once by a client that makes a patch; all saved and let go after %v", b.idle, took.Round(time.Second))
	b.table.value("memory of an idle room in a node", fmt.Sprintf("%.0f B (resident: %.0f B)", perNode, each(residentNow-resident)/float64(len(b.cluster.Nodes))),
		"≤ 1 KiB", within(perNode, 1024), on+"; heap after garbage collection")
	b.table.value("memory of an idle room in Redis", fmt.Sprintf("%.0f B in %.1f keys", each(now.memory-stored.memory), each(float64(now.keys-stored.keys))), "", noTarget, "the same run")
	return nil
}

// memory is what the nodes' heaps hold, and their resident memory, in bytes.
func (b *bench) memory(ctx context.Context) (heaps, resident float64, err error) {
	for _, n := range b.cluster.Nodes {
		h, err := heap(ctx, n)
		if err != nil {
			return 0, 0, err
		}
		heaps += h
		resident += rssOf(n.PID())
	}
	return heaps, resident, nil
}

const evictTimeout = 2 * time.Minute

// visit opens new rooms, one after the other in several ways at once, and waits until no node has them.
func (b *bench) visit(ctx context.Context, count int) error {
	names := make(chan string)
	errs := make([]error, joinsAtOnce)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for name := range names {
				if errs[i] == nil {
					errs[i] = b.visitOne(ctx, i, name)
				}
			}
		})
	}
	for range count {
		b.rooms++
		names <- "room-" + strconv.Itoa(b.rooms)
	}
	close(names)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, evictTimeout)
	defer cancel()
	for {
		rooms := 0.0
		for _, n := range b.cluster.Nodes {
			m, err := metricsOf(ctx, n)
			if err != nil {
				return err
			}
			rooms += m["weft_rooms"]
		}
		if rooms == 0 {
			return nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%.0f rooms are still in memory: %w", rooms, err)
		}
	}
}

func (b *bench) visitOne(ctx context.Context, n int, room string) error {
	c, err := join(ctx, b.node(n), room, "visitor")
	if err != nil {
		return err
	}
	defer c.leave()
	if err := c.write(documentPatch, time.Now()); err != nil {
		return err
	}
	return drain(ctx, []*client{c})
}
