package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/store"
)

// Redis may go back to an earlier moment: a replica takes over that lagged, or a machine
// loses power with the last second of the file. All that an owner writes in its name is
// a chain, see [store.Chain], and the log is one, too; so it notices, at
// its next write, before it uses a room that it has just read, or when it looks,
// which it does every second. Then it mends: it takes from Redis what it does
// not know itself, and writes all that it knows again.

// bring loads the rooms that a batch is about before it is applied, and makes sure
// that Redis has not forgotten what was in their checkpoints. If it has, the
// partition is mended as it was before the batch.
func (p *partition) bring(t *telling, b *batch) {
	for p.ctx.Err() == nil {
		loaded := p.fold.bring(b)
		if len(loaded) == 0 || !p.forgotten() {
			return
		}
		for _, name := range loaded {
			delete(p.fold.rooms, name)
		}
		t.emit()
		p.mend()
	}
}

// forgotten asks Redis whether it has what the owner has written and read.
func (p *partition) forgotten() (is bool) {
	_ = partitionSource{p}.again("it is not known what Redis has forgotten", func(ctx context.Context) error {
		list := []*partition{p}
		results, err := p.inc.ownership.look(ctx, list)
		is = err == nil && store.IsForgotten(results[0])
		return err
	})
	return is
}

// look asks Redis, in one round trip, whether it has what the owners of partitions have
// written and read, and returns for each why not. The error is trouble with Redis.
func (o *ownership) look(ctx context.Context, list []*partition) ([]error, error) {
	pipe := o.inc.control.Pipeline()
	cmds := make([]*redis.Cmd, len(list))
	o.looking.Lock()
	for n, p := range list {
		keys, args := p.fenceOf().Look(o.inc.keys.prefix)
		cmds[n] = o.lookScript.eval(ctx, pipe, keys, args...)
	}
	o.looking.Unlock()
	_, _ = pipe.Exec(ctx) // each has its own error
	results := make([]error, len(list))
	o.looking.Lock()
	defer o.looking.Unlock()
	for n, cmd := range cmds {
		err := cmd.Err()
		if err != nil && !store.IsForgotten(err) && !store.IsFenced(err) {
			o.lookScript.heard(err)
			return nil, err
		}
		o.lookScript.heard(nil)
		results[n] = err
	}
	return results, nil
}

// verify looks at all partitions that this node owns. Those that others have claimed
// end, and those of which Redis has forgotten something are mended.
func (o *ownership) verify(ctx context.Context) error {
	list := slices.DeleteFunc(o.list(), func(p *partition) bool { return p.given.Load() })
	if len(list) == 0 {
		return nil
	}
	results, err := o.look(ctx, list)
	if err != nil {
		return err
	}
	for n, p := range list {
		p.refused(results[n])
	}
	return nil
}

// verifyInterval is how often a node looks whether Redis has forgotten something of
// a partition in which nothing happens.
const verifyInterval = time.Second

// watch looks again and again, and at once after trouble, until the context ends.
func (o *ownership) watch(ctx context.Context) {
	tick := time.NewTicker(verifyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-o.doubts:
		}
		if err := o.verify(ctx); err != nil && ctx.Err() == nil {
			o.inc.trouble.note("it is not known what Redis has forgotten", err)
		}
	}
}

// doubt lets the node look at once.
func (o *ownership) doubt() {
	select {
	case o.doubts <- struct{}{}:
	default:
	}
}

// mend takes from Redis what only Redis knows, and writes all that the owner knows.
func (p *partition) mend() {
	p.inc.stats.mended.Add(1)
	p.inc.log.Warn("Redis has forgotten something of a partition; its owner writes what it knows", "partition", p.number)
	_ = partitionSource{p}.again("a partition cannot be mended", func(context.Context) error { return p.tryMend() })
}

func (p *partition) tryMend() error {
	if p.saving != nil {
		p.saved(<-p.saving)
	}
	p.building.Wait()
	select {
	case <-p.inc.outbox.flushed():
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	p.chain.Read("") // until the log begins where the owner stands
	base, err := p.retake()
	if err != nil {
		return err
	}
	p.fold.adopt(base)
	if err := p.ctx.Err(); err != nil {
		return err
	}
	s := saved{rooms: map[string]any{}, applied: map[string]ID{}, base: p.fold.checkpoint(), trimmed: true}
	for name, r := range p.fold.rooms {
		c := r.checkpoint()
		c.stored = nil // what Redis has may be older than is known
		if !p.storeRoom(&s, name, c) {
			return errors.New("a room was not saved")
		}
	}
	if err := p.trim(s.base, -1, nil); err != nil {
		return err
	}
	p.chain.Read(s.base.position.String())
	p.saved(s)
	p.log.last = "" // whatever the next entry comes after
	return nil
}

// retake takes up the chain again and returns where the log begins in Redis.
func (p *partition) retake() (base partitionCheckpoint, err error) {
	values, err := p.fenceOf().Retake(p.ctx, p.inc.writing, p.inc.keys.prefix, retakeScript, nil, p.fold.position.String()).Slice()
	if err != nil {
		if store.IsFenced(err) {
			p.fence()
		}
		return base, err
	}
	text := func(n int) string {
		s, _ := values[n].(string)
		return s
	}
	if len(values) != 2 {
		return base, errEncoding
	}
	if text(0) != "" {
		if base.position, err = ParseID(text(0)); err != nil {
			return base, fmt.Errorf("where the log begins: %w", err)
		}
	}
	base.edges, err = parseEdges([]byte(text(1)))
	return base, err
}
