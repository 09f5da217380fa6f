package cluster

import (
	"context"
	"sync/atomic"
	"time"
)

// lease is how a node shows in Redis that it lives. While it cannot, it must
// stop to speak as an owner before others may think that it is dead. It stops
// after 0.8 of the lease; the key ends after 0.9; and with the time in which the
// others make sure that it is missing they own after little more than the whole.
type lease struct {
	inc    *incarnation
	until  atomic.Int64 // until when it may speak, in time since inc.start
	lapsed bool         // what it owned must be looked at again
	count  atomic.Int64 // of renewals that Redis has acknowledged
	soon   chan struct{}
}

func newLease(i *incarnation) *lease { return &lease{inc: i, soon: make(chan struct{}, 1)} }

// hurry lets the next renewal, which cuts off what was read, not wait for its time.
func (l *lease) hurry() {
	select {
	case l.soon <- struct{}{}:
	default:
	}
}

// valid reports whether the node may speak as an owner.
func (l *lease) valid() bool { return int64(time.Since(l.inc.start)) < l.until.Load() }

// run renews the lease until the incarnation ends.
func (l *lease) run(ctx context.Context) {
	tick := time.NewTicker(l.inc.config.LeaseTTL / renewals)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.soon:
		}
		if l.inc.buried.Load() {
			return
		}
		if err := l.renew(ctx); err != nil && ctx.Err() == nil && !l.inc.buried.Load() {
			l.inc.trouble.note("the lease cannot be renewed", err)
		}
	}
}

// renew renews the lease once and cuts off what has been read of the node's
// stream. A lease that had lapsed counts again only after what the node owned
// has been found to be its own still.
func (l *lease) renew(ctx context.Context) error {
	i := l.inc
	if l.until.Load() > 0 && !l.valid() && !l.lapsed {
		l.lapsed = true
		i.stats.leaseLapses.Add(1)
		i.log.Warn("the lease has lapsed: until it is renewed, nothing is told to clients; is Redis slow or unreachable?", "ttl", i.config.LeaseTTL)
	}
	began := time.Since(i.start)
	next, got := i.inbox.read()
	alive, err := renewScript.Run(ctx, i.control,
		i.keys.life(i.id),
		(i.config.LeaseTTL * 9 / 10).Milliseconds(), next, got, rememberGone, l.count.Load()+1).Int()
	if err != nil {
		return err
	}
	if alive == 0 {
		i.end(errBuried)
		return errBuried
	}
	l.count.Add(1)
	i.inbox.cutOff(got)
	if l.lapsed {
		if err := i.ownership.verify(ctx); err != nil {
			return err
		}
		l.lapsed = false
		i.log.Info("the lease is valid again")
	}
	l.until.Store(int64(began + i.config.LeaseTTL*8/10))
	i.trouble.over()
	return nil
}

// wait waits until the node may speak. It reports false if the context ends
// before.
func (l *lease) wait(ctx context.Context) bool {
	for !l.valid() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(leasePoll):
		}
	}
	return true
}

// renewals is how often a lease is renewed in the time for which it lasts.
const renewals = 8

// leasePoll is how often a lapsed lease is looked at.
const leasePoll = 5 * time.Millisecond
