package cluster

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// lease is how a node shows in Redis that it lives: it writes there until when it may
// own. While it cannot, it must stop to speak as an owner before others may think that
// it is dead. It stops after 0.8 of the lease, which is when it ends in Redis; and with the
// time in which the others make sure that it is missing they own after little more than
// the whole.
//
// All leases are in one sorted set, so that renewing one's own and looking at all the
// others is one round trip, whose reply is as long as those are many that do not live.
// It is one key, so that a slot of a Redis Cluster that is moving changes nothing.
type lease struct {
	inc    *incarnation
	until  atomic.Int64 // until when it may speak, in time since inc.start
	lapsed bool         // what it owned must be looked at again

	// of the goroutine that renews
	renewals int     // that Redis has acknowledged
	stored   float64 // what the last of them wrote
	// What Redis's clock said last, in ms, and when it was asked, in time since inc.start.
	// What is counted on from there is late by no more than a round trip, and never early:
	// a lease must not end before the node falls silent.
	clock   int64
	clockAt time.Duration
}

// looked is what a renewal has seen.
type looked struct {
	// forgot: Redis does not have the lease of the node that looks as that was.
	forgot bool
	// scores are the ends of leases that are over, and the marks of the dead; if all, the
	// others, too.
	scores map[string]float64
	now    float64 // by Redis's clock, in ms
	all    bool
	at     time.Time
}

func newLease(i *incarnation) *lease { return &lease{inc: i} }

// valid reports whether the node may speak as an owner.
func (l *lease) valid() bool { return int64(time.Since(l.inc.start)) < l.until.Load() }

// run renews the lease until the incarnation ends, and more often while it is not known
// whether another's counts as missing.
func (l *lease) run(ctx context.Context) {
	i := l.inc
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		every := i.config.LeaseTTL / renewals
		if unsure, _ := i.liveness.suspects(); unsure {
			every = i.config.LeaseTTL / looksPerLease
		}
		pause.Reset(l.untilNext(every))
		select {
		case <-ctx.Done():
			return
		case <-i.liveness.suspected:
			continue
		case <-pause.C:
		}
		if i.buried.Load() {
			return
		}
		if err := l.renew(ctx); err != nil && ctx.Err() == nil && !i.buried.Load() {
			i.liveness.blinded()
			i.trouble.note("the lease cannot be renewed", err)
		}
	}
}

// untilNext is how long the next renewal waits. All nodes renew at the same moments by
// Redis's clock, which wakes up once for all of them: that is a third of what it costs if
// each comes alone.
func (l *lease) untilNext(every time.Duration) time.Duration {
	now := time.Duration(l.redisTime(time.Since(l.inc.start))) * time.Millisecond
	wait := every - now%every
	if wait < every/4 { // it is about to be, or has just been
		wait += every
	}
	return wait
}

// redisTime is what Redis's clock says, or will have said soon, in ms.
func (l *lease) redisTime(at time.Duration) int64 {
	return l.clock + (at - l.clockAt).Milliseconds()
}

// renew renews the lease once and looks at those of the others. A lease that had
// lapsed counts again only after what the node owned has been found to be its own
// still.
func (l *lease) renew(ctx context.Context) error {
	i := l.inc
	if l.until.Load() > 0 && !l.valid() && !l.lapsed {
		l.lapsed = true
		i.stats.leaseLapses.Add(1)
		i.log.Warn("the lease has lapsed: until it is renewed, nothing is told to clients; is Redis slow or unreachable?", "ttl", i.config.LeaseTTL)
	}
	began := time.Since(i.start)
	seen, err := l.exchange(ctx)
	if err != nil {
		return err
	}
	if _, gone := seen.scores[tombstone+i.id]; gone {
		i.end(errBuried)
		return errBuried
	}
	i.liveness.seen(seen)
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

// exchange writes until when the lease lasts, and reads what Redis has of the others.
// The mark that this node is dead is read after that: who makes it sees that the lease
// is over, or is seen.
func (l *lease) exchange(ctx context.Context) (looked, error) {
	i := l.inc
	if l.clock == 0 {
		began := time.Since(i.start)
		t, err := i.control.Time(ctx).Result()
		if err != nil {
			return looked{}, err
		}
		l.clock, l.clockAt = t.UnixMilli(), began
	}
	key := i.keys.leases()
	began := time.Since(i.start)
	now := l.redisTime(began)
	till := float64(now + (i.config.LeaseTTL * 8 / 10).Milliseconds())
	_, absent := i.liveness.suspects()
	seen := looked{scores: map[string]float64{}, all: absent || l.renewals%looksAtAll == 0}
	pipe := i.control.Pipeline()
	clock := pipe.Time(ctx)
	had := pipe.ZScore(ctx, key, i.id)
	wrote := pipe.ZAdd(ctx, key, redis.Z{Score: till, Member: i.id})
	gone := pipe.ZScore(ctx, key, tombstone+i.id)
	last := strconv.FormatInt(now+10, 10) // what is not over is told by the exact time
	if seen.all {
		last = "+inf"
	}
	others := pipe.ZRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{Min: "-inf", Max: last})
	_, _ = pipe.Exec(ctx) // each has its own error
	if redis.HasErrorPrefix(wrote.Err(), "OOM") {
		wrote.SetErr(renewScript.Run(ctx, i.control, []string{key}, i.id, till).Err())
	}
	for _, cmd := range []redis.Cmder{clock, had, wrote, gone, others} {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return looked{}, err
		}
	}
	seen.forgot = had.Val() < l.stored // 0: it has none
	for _, z := range others.Val() {
		seen.scores[z.Member.(string)] = z.Score
	}
	if gone.Err() == nil {
		seen.scores[tombstone+i.id] = gone.Val()
	}
	l.clock, l.clockAt = clock.Val().UnixMilli(), began
	seen.now, seen.at = float64(l.clock), time.Now()
	l.stored = till
	l.renewals++
	return seen, nil
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

const (
	// renewals is how often a lease is renewed in the time for which it lasts.
	renewals = 6
	// looksAtAll is how often all leases are read and not only those that are over, in
	// renewals. Only that shows that Redis has none of a node at all.
	looksAtAll = 6
	// tombstone begins the mark of a node that was taken for dead.
	tombstone = "!"
)

// leasePoll is how often a lapsed lease is looked at.
const leasePoll = 5 * time.Millisecond
