package cluster

import (
	"context"
	"time"
)

const (
	firstDoubt   = 3 * time.Second
	longestDoubt = time.Minute
	tendInterval = 100 * time.Millisecond
)

// tend asks after what was not confirmed for long, and appends again what found a
// log full, until the context ends.
func (e *edge) tend(ctx context.Context) {
	tick := time.NewTicker(tendInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for n := range e.partitions {
			e.doubt(&e.partitions[n])
		}
	}
}

func (e *edge) doubt(p *edgePartition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full {
		p.full = false
		e.kickLocked(p)
	}
	if len(p.sender.batches) == 0 || p.sender.next < len(p.sender.batches) {
		return // nothing is appended, or something is being appended
	}
	patience := min(firstDoubt<<min(p.doubts, 10), longestDoubt)
	if time.Since(p.progress) < patience {
		return
	}
	e.inc.stats.doubts.Add(1)
	p.progress = time.Now()
	p.doubts++
	p.sender.doubt()
	e.kickLocked(p)
}
