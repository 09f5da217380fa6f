package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/weftsync/weft/store"
)

// handsAtOnce: see [ownership].
const handsAtOnce = 8

// offer tells that the owner of a partition has released it to this node.
func (o *ownership) offer(n int, epoch uint64) {
	o.mu.Lock()
	o.offered[n] = epoch
	o.mu.Unlock()
	select {
	case o.offers <- struct{}{}:
	default:
	}
}

// takeOffers claims what was released to this node. What it does not get, the
// ring will give to somebody.
func (o *ownership) takeOffers(ctx context.Context) {
	var chances []chance
	o.mu.Lock()
	for n, epoch := range o.offered {
		if o.owned[n] == nil && !o.leaving {
			chances = append(chances, chance{partition: n, seen: strconv.FormatUint(epoch, 10), offered: true})
		}
	}
	clear(o.offered)
	o.mu.Unlock()
	if !o.inc.lease.valid() {
		return
	}
	if err := o.claim(ctx, chances); err != nil && ctx.Err() == nil {
		o.inc.trouble.note("partitions cannot be claimed", err)
	}
}

// alone reports whether there is nobody to hand over to.
func (o *ownership) alone() bool {
	s := o.seating()
	for n := range partitions {
		if owner := s.owner(n); owner != "" && owner != o.inc.id {
			return false
		}
	}
	return true
}

// drain hands over all partitions and claims no more. The error says that some
// are still owned when the context ends, or the lease has.
func (o *ownership) drain(ctx context.Context) error {
	o.mu.Lock()
	o.leaving = true
	o.mu.Unlock()
	s := o.seating()
	for {
		list := o.list()
		if len(list) == 0 {
			return nil
		}
		if !o.inc.lease.valid() {
			return fmt.Errorf("partitions not handed over since the lease is not valid any more: %d", len(list))
		}
		for _, p := range list {
			select {
			case p.giving <- s.owner(p.number):
			default:
			}
		}
		again := time.After(contendInterval) // for all that could not be handed over
		for waiting := true; waiting && len(list) > 0; {
			select {
			case <-list[0].finished:
				list = list[1:]
			case <-again:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("partitions not handed over in time: %d", len(o.list()))
			}
		}
	}
}

// handOver gives the partition to another node, or, if it is empty, to
// whichever wants it. It reports false if it still is this one's.
func (p *partition) handOver(to string) bool {
	began := time.Now()
	p.inc.readers.remove(p)
	for len(p.queue) > 0 {
		p.process(p.drain(nil))
	}
	ctx, cancel := context.WithTimeout(p.ctx, handOverTimeout)
	defer cancel()
	p.given.Store(true)
	err := p.release(ctx, to)
	if err != nil {
		p.given.Store(false)
		if p.ctx.Err() != nil {
			return true
		}
		p.inc.trouble.note("partitions cannot be handed over", err)
		p.inc.readers.add(p, p.fold.position)
		return false
	}
	p.inc.stats.handOvers.Add(1)
	p.inc.stats.handOverTime.Add(int64(time.Since(began)))
	if to != "" {
		p.inc.outbox.put(to, outReleased, nil, binary.AppendUvarint(binary.AppendUvarint(nil, uint64(p.number)), p.epoch))
	}
	return true
}

// handOverTimeout is how long the last outputs and the release may take.
const handOverTimeout = 3 * time.Second

func (p *partition) release(ctx context.Context, to string) error {
	p.building.Wait() // it is a matter of milliseconds, and would cost the sessions their sockets
	select {
	case <-p.inc.outbox.flushed():
	case <-ctx.Done():
		return ctx.Err()
	}
	err := p.fencedRun(ctx, releaseScript, nil, p.fold.position.String(), to)
	switch {
	case store.IsFenced(err):
		return p.ctx.Err()
	case store.IsForgotten(err):
		p.mend()
	}
	return err
}
