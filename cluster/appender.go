package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// appender puts an edge's batches into the logs: all that are ready, of all
// partitions, in one round trip at a time. What comes meanwhile goes with the
// next.
type appender struct {
	inc    *incarnation
	kicked chan struct{}
	script pipelined

	mu   sync.Mutex
	list []*edgePartition // with something to append
}

func newAppender(i *incarnation) *appender {
	return &appender{inc: i, kicked: make(chan struct{}, 1), script: pipelined{script: appendScript}}
}

// kick tells that a partition has something to append. It is called with the
// partition locked, once until the appender has taken everything.
func (a *appender) kick(p *edgePartition) {
	a.mu.Lock()
	a.list = append(a.list, p)
	a.mu.Unlock()
	select {
	case a.kicked <- struct{}{}:
	default:
	}
}

// maxRound is how many bytes go in one round trip, or one batch.
const maxRound = 1 << 20

// run appends until the context ends.
func (a *appender) run(ctx context.Context) {
	wait := backoff{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.kicked:
		}
		for {
			round := a.take(ctx)
			if len(round) == 0 {
				break
			}
			if a.append(ctx, round) {
				wait = backoff{}
			} else if !wait.wait(ctx) {
				return
			}
		}
	}
}

// appending is one batch on its way.
type appending struct {
	p     *edgePartition
	b     *batch
	data  []byte
	redis *server
	cmd   *redis.Cmd
}

// take takes the next batch of each partition that has one, and whose Redis has space.
func (a *appender) take(ctx context.Context) []appending {
	a.mu.Lock()
	list := a.list
	a.list = nil
	a.mu.Unlock()
	var round []appending
	size := 0
	for n, p := range list {
		if size > maxRound {
			a.mu.Lock()
			a.list = append(a.list, list[n:]...)
			a.mu.Unlock()
			break
		}
		server := a.inc.headroom.of(ctx, p.number)
		p.mu.Lock()
		if server.full.Load() {
			p.dirty, p.full = false, true
			p.mu.Unlock()
			continue
		}
		b := p.sender.take()
		p.dirty, p.full = b != nil, false
		p.mu.Unlock()
		if b == nil {
			continue
		}
		data := encodeBatch(b)
		size += len(data)
		round = append(round, appending{p: p, b: b, data: data, redis: server})
	}
	return round
}

// append appends what was taken. It reports false if Redis is in trouble, and
// everything should be tried again later.
func (a *appender) append(ctx context.Context, round []appending) bool {
	i := a.inc
	pipe := i.writing.Pipeline()
	for n := range round {
		x := &round[n]
		x.cmd = a.script.eval(ctx, pipe, []string{i.keys.log(x.p.number), i.keys.meta(x.p.number)}, x.data, i.config.MaxLogBytes)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	well := true
	for n := range round {
		x := &round[n]
		_, err := x.cmd.Text()
		full := errors.Is(err, redis.Nil)
		a.script.heard(x.cmd.Err())
		x.p.mu.Lock()
		switch {
		case err == nil:
			x.p.sender.appended(x.b)
			x.p.progress = time.Now()
			i.stats.appended.Add(1)
			i.headroom.spend(x.redis, len(x.data))
		case isFull(err):
			x.p.sender.unknown()
			i.headroom.refused(x.redis)
			x.p.full, x.p.dirty = true, false
		case full:
			x.p.sender.unknown()
			i.stats.logFull.Add(1)
			x.p.full, x.p.dirty = true, false // its neighbours need not wait for it
		default:
			x.p.sender.unknown()
			i.stats.appendErrors.Add(1)
			if !strings.HasPrefix(err.Error(), "NOSCRIPT") {
				i.trouble.note("the log cannot be appended to", err)
				well = false
			}
		}
		if !x.p.full {
			if x.p.dirty = x.p.sender.pending(); x.p.dirty {
				a.kick(x.p)
			}
		}
		x.p.mu.Unlock()
	}
	return well
}

// backoff waits longer from time to time.
type backoff struct{ last time.Duration }

const (
	shortestBackoff = 5 * time.Millisecond
	longestBackoff  = 250 * time.Millisecond
)

// wait waits; it reports false if the context ends before.
func (b *backoff) wait(ctx context.Context) bool {
	b.last = min(max(2*b.last, shortestBackoff), longestBackoff)
	t := time.NewTimer(b.last)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
