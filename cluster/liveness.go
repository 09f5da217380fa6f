package cluster

import (
	"context"
	"strings"
	"sync"
	"time"
)

// liveness is what a node knows of who lives. A node without a lease does not
// own any more; one whose death is proved, or which has had no lease for long,
// is buried: its sessions are sent off, and if it only slept it finds out and
// begins anew.
type liveness struct {
	inc *incarnation

	looks     chan looked   // the last, unless it has been judged by
	suspected chan struct{} // there is a node of which it is not known whether it lives

	mu         sync.Mutex
	pulses     map[string]*pulse // by incarnation
	blindUntil time.Time         // until when a missing lease says nothing
	lastLook   time.Time         // zero: none yet
	unjudged   bool              // a look at all leases came too soon after the one before
}

type pulse struct {
	watched time.Time // when somebody last asked for it
	known   bool      // Redis had a lease of it, which may be over
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
	// lasts, while one is missing. missingLooks is for how many looks it must be
	// missing: longer than two renewals are apart, as a Redis that has lost its last
	// entries may have lost it for a moment.
	looksPerLease = 20
	missingLooks  = 4
	// maxTombstones is how many of the last dead are remembered.
	maxTombstones = 200
)

func newLiveness(i *incarnation) *liveness {
	return &liveness{inc: i, looks: make(chan looked, 1), suspected: make(chan struct{}, 1), pulses: map[string]*pulse{}}
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
		l.suspect()
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

// suspects reports whether it is not known yet of a node whether it lives, and whether
// Redis may have no lease of it at all, which only a look at all of them shows.
func (l *liveness) suspects() (any, absent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	absent = l.unjudged
	for _, p := range l.pulses {
		if p.expired || p.proved || p.buried {
			continue
		}
		any = any || !p.known || !p.missing.IsZero()
		absent = absent || !p.known
	}
	return any, absent
}

// suspect lets the next look be soon.
func (l *liveness) suspect() {
	select {
	case l.suspected <- struct{}{}:
	default:
	}
}

// blind reports whether a missing lease says nothing now.
func (l *liveness) blind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.blindUntil)
}

// blinded tells that Redis could not be asked.
func (l *liveness) blinded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blindUntil = time.Now().Add(l.inc.config.LeaseTTL)
}

// seen takes what a renewal has seen. Judging may take longer than until the next,
// which then stands for both.
func (l *liveness) seen(s looked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case old := <-l.looks:
		s.forgot = s.forgot || old.forgot || l.tooLong(old.at, s.at)
		l.unjudged = l.unjudged || old.all
	default:
	}
	if s.all {
		l.unjudged = false
	}
	l.looks <- s // there is room, since nobody else puts
}

// tooLong reports whether so much time has passed between two looks that this node or
// Redis must have been away.
func (l *liveness) tooLong(from, to time.Time) bool { return to.Sub(from) > l.inc.config.LeaseTTL/2 }

// run looks after the others until the context ends.
func (l *liveness) run(ctx context.Context) {
	for {
		changed := false
		select {
		case <-ctx.Done():
			return
		case dead := <-l.inc.deaths.dead():
			l.prove(dead)
			changed = true
		case s := <-l.looks:
			changed = l.judge(s, time.Now())
		}
		if changed {
			l.inc.ownership.wakeUp()
		}
		l.bury(ctx)
	}
}

// judge draws the conclusions for all nodes and reports whether anything is new.
func (l *liveness) judge(s looked, now time.Time) (changed bool) {
	ttl := l.inc.config.LeaseTTL
	for id := range s.scores {
		if !strings.HasPrefix(id, tombstone) && s.all {
			l.watch(id)
		}
	}
	l.mu.Lock()
	if s.forgot || !l.lastLook.IsZero() && l.tooLong(l.lastLook, s.at) {
		// Redis has forgotten this node's lease, or one of them was away, and so
		// perhaps the leases of all are missing: who lives renews them first.
		l.blindUntil = now.Add(ttl)
	}
	l.lastLook = s.at
	blind := now.Before(l.blindUntil)
	missing, entombed := false, false
	for id, p := range l.pulses {
		if now.Sub(p.watched) > forgetUnwatched {
			delete(l.pulses, id)
			continue
		}
		if _, gone := s.scores[tombstone+id]; gone && !p.buried {
			p.buried, entombed = true, true
		}
		if p.buried {
			continue
		}
		score, listed := s.scores[id]
		leased := p.known
		if listed || s.all {
			p.known = listed
			leased = score > s.now
		}
		was := p.expired
		switch {
		case leased:
			p.missing, p.expired = time.Time{}, false
		case blind || !p.known && !s.all:
		case p.missing.IsZero():
			p.missing, missing = now, true
		default:
			p.expired = now.Sub(p.missing) >= missingLooks*ttl/looksPerLease
		}
		changed = changed || was != p.expired
	}
	l.mu.Unlock()
	if missing {
		l.suspect()
	}
	if entombed {
		l.inc.ownership.wakeAll()
	}
	return changed || entombed
}

// bury takes for dead, for good, whose death is proved, or who has had no lease for long.
func (l *liveness) bury(ctx context.Context) {
	due := map[string]bool{} // whether it is proved
	l.mu.Lock()
	now := time.Now()
	for id, p := range l.pulses {
		long := !p.missing.IsZero() && now.Sub(p.missing) > buryAfter*l.inc.config.LeaseTTL && !now.Before(l.blindUntil)
		if !p.buried && (p.proved || long) {
			due[id] = p.proved
		}
	}
	l.mu.Unlock()
	for id, proved := range due {
		if buried, err := l.inc.entomb(ctx, id, proved); err != nil || !buried {
			continue // it is tried again after the next look, unless that shows the tombstone
		}
		l.inc.stats.buried.Add(1)
		l.inc.log.Warn("a node is taken for dead; its sessions are sent off", "node", id)
		l.mu.Lock()
		if p := l.pulses[id]; p != nil {
			p.buried = true
		}
		l.mu.Unlock()
		l.inc.ownership.wakeAll()
		l.inc.ownership.wakeUp()
	}
}

// entomb lets Redis remember for a while that a node is dead, and removes what the
// owners have told it. It reports false if the node lives after all.
func (i *incarnation) entomb(ctx context.Context, id string, proved bool) (bool, error) {
	force := 0
	if proved {
		force = 1
	}
	n, err := buryScript.Run(ctx, i.control, []string{i.keys.leases()}, id, tombstone+id, force, rememberGone, maxTombstones).Int()
	if err != nil || n == 0 {
		return false, err
	}
	// One key a command, since in a Redis Cluster these may be where the leases are not.
	pipe := i.control.Pipeline()
	meta := i.keys.outMeta(id)
	markScript.Eval(ctx, pipe, []string{meta}, "gone", 1, rememberGone)
	pipe.Del(ctx, i.keys.out(id))
	_, err = pipe.Exec(ctx)
	return true, err
}
