package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// liveness is what a node knows of who lives. A node without a lease does not
// own any more; one whose death is proved, or which has had no lease for long,
// is buried: its sessions are sent off, and if it only slept it finds out and
// begins anew.
type liveness struct {
	inc *incarnation

	mu     sync.Mutex
	pulses map[string]*pulse // by incarnation

	blindUntil time.Time // until when a missing lease says nothing
	lastLook   time.Time
}

type pulse struct {
	watched time.Time // when somebody last asked for it
	missing time.Time // since when it has no lease; zero: it has one
	expired bool      // it has had none for long enough
	proved  bool      // it is dead
	buried  bool
}

const (
	// forgetUnwatched is after what time nobody is interested in a node any more.
	forgetUnwatched = 10 * time.Minute
	// buryAfter is how long a node may be without a lease before it is buried,
	// in leases: long enough for a node that paused or lost Redis to keep its
	// sockets.
	buryAfter = 3
	// looksPerLease is how often leases are looked at in the time for which one
	// lasts. missingLooks is for how many looks one must be missing: longer than
	// two renewals are apart, as a Redis that has lost its last entries may have
	// lost it for a moment.
	looksPerLease = 20
	missingLooks  = 3
)

func newLiveness(i *incarnation) *liveness {
	return &liveness{inc: i, pulses: map[string]*pulse{}}
}

// watch makes sure that it is known whether a node lives.
func (l *liveness) watch(incarnation string) {
	if incarnation == "" || incarnation == l.inc.id {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pulses[incarnation]
	if p == nil {
		p = &pulse{}
		l.pulses[incarnation] = p
	}
	p.watched = time.Now()
}

// prove tells that a node is dead.
func (l *liveness) prove(incarnation string) {
	l.watch(incarnation)
	l.mu.Lock()
	p := l.pulses[incarnation]
	known := p == nil || p.proved || p.buried
	if p != nil {
		p.proved = true
	}
	l.mu.Unlock()
	if !known {
		l.inc.stats.provedDead.Add(1)
		l.inc.log.Warn("a node has died", "node", incarnation)
	}
}

// dead reports whether a node cannot own anything: it is dead, or has no lease.
func (l *liveness) dead(incarnation string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pulses[incarnation]
	return p != nil && (p.proved || p.buried || p.expired)
}

// buried reports whether a node's sessions must be sent off.
func (l *liveness) buried(incarnation string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pulses[incarnation]
	return p != nil && p.buried
}

// run looks after the others until the context ends.
func (l *liveness) run(ctx context.Context) {
	l.lastLook = time.Now()
	tick := time.NewTicker(l.inc.config.LeaseTTL / looksPerLease)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case dead := <-l.inc.hints.dead():
			l.prove(dead)
			l.inc.ownership.wakeUp()
		case <-tick.C:
		}
		l.look(ctx)
	}
}

// look asks Redis for the leases and buries who must be.
func (l *liveness) look(ctx context.Context) {
	i := l.inc
	now := time.Now()
	if now.Sub(l.lastLook) > i.config.LeaseTTL/2 {
		// This node, or Redis, was away, and so perhaps the leases of all: who
		// lives renews them first.
		l.blindUntil = now.Add(i.config.LeaseTTL)
	}
	list := l.watched(now)
	renewed := i.lease.count.Load()
	pipe := i.control.Pipeline()
	own := pipe.Get(ctx, i.keys.lease(i.id))
	for _, id := range list {
		pipe.Exists(ctx, i.keys.lease(id))
		pipe.Exists(ctx, i.keys.gone(id))
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && err != redis.Nil {
		l.blindUntil = time.Now().Add(i.config.LeaseTTL)
		return // lastLook stays
	}
	answers := intsOf(cmds[1:])
	if known, err := own.Int64(); err != nil || known < renewed {
		// Redis has forgotten this node's lease, and so perhaps those of others.
		l.blindUntil = time.Now().Add(i.config.LeaseTTL)
	}
	if now.Before(l.blindUntil) {
		l.lastLook = time.Now()
		return
	}
	l.lastLook = time.Now()
	changed := false
	for n, id := range list {
		changed = l.judge(ctx, id, answers[2*n] > 0, answers[2*n+1] > 0, now) || changed
	}
	if changed {
		i.ownership.wakeUp()
	}
}

func (l *liveness) watched(now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for id, p := range l.pulses {
		switch {
		case now.Sub(p.watched) > forgetUnwatched:
			delete(l.pulses, id)
		case !p.buried:
			list = append(list, id)
		}
	}
	return list
}

// judge draws the conclusions for one node and reports whether anything is new.
func (l *liveness) judge(ctx context.Context, id string, leased, gone bool, now time.Time) bool {
	i := l.inc
	l.mu.Lock()
	p := l.pulses[id]
	if p == nil {
		l.mu.Unlock()
		return false
	}
	was := p.expired
	switch {
	case leased:
		p.missing, p.expired = time.Time{}, false
	case p.missing.IsZero():
		p.missing = now
	default:
		p.expired = now.Sub(p.missing) >= missingLooks*i.config.LeaseTTL/looksPerLease
	}
	bury := p.proved || !p.missing.IsZero() && now.Sub(p.missing) > buryAfter*i.config.LeaseTTL
	proved, is := p.proved, p.expired
	l.mu.Unlock()
	if !gone && bury {
		force := 0
		if proved {
			force = 1
		}
		n, err := buryScript.Run(ctx, i.control,
			i.keys.life(id), force, rememberGone).Int()
		gone = err == nil && n == 1
		if gone {
			i.stats.buried.Add(1)
			i.log.Warn("a node is taken for dead; its sessions are sent off", "node", id)
		}
	}
	if gone {
		l.mu.Lock()
		p.buried = true
		l.mu.Unlock()
		i.ownership.wakeAll()
	}
	return gone || was != is
}
