package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/store"
)

// ownership decides which partitions this node owns: it claims those that the
// ring gives it and nobody owns, and hands over those that the ring gives to
// another. The ring says who should own, Redis says who does.
type ownership struct {
	inc   *incarnation
	woken chan struct{}
	// These bound what a node does at the same time: saving rooms, and building
	// large diffs.
	savers, builders chan struct{}

	mu      sync.Mutex
	owned   map[int]*partition
	offered map[int]bool // the owner before has released it to this node
	leaving bool
	rounds  int // of contending
	ring    *ring
	since   time.Time // when the ring became what it is
}

func newOwnership(i *incarnation) *ownership {
	return &ownership{
		inc: i, woken: make(chan struct{}, 1), savers: make(chan struct{}, savesAtOnce),
		builders: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		owned:    map[int]*partition{}, offered: map[int]bool{},
	}
}

func (o *ownership) wakeUp() {
	select {
	case o.woken <- struct{}{}:
	default:
	}
}

// wakeAll lets all partitions look who is dead.
func (o *ownership) wakeAll() {
	for _, p := range o.list() {
		p.wake()
	}
}

func (o *ownership) list() []*partition {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*partition, 0, len(o.owned))
	for _, p := range o.owned {
		list = append(list, p)
	}
	return list
}

// offer tells that a partition was released to this node.
func (o *ownership) offer(n int) {
	o.mu.Lock()
	o.offered[n] = true
	o.mu.Unlock()
	o.wakeUp()
}

// ended tells that a partition is over.
func (o *ownership) ended(p *partition) {
	o.mu.Lock()
	if o.owned[p.number] == p {
		delete(o.owned, p.number)
	}
	o.mu.Unlock()
	o.inc.stats.rooms.set(p.number, 0)
	o.wakeUp()
}

// contendInterval is how often a node looks whether it should own something else.
const contendInterval = 500 * time.Millisecond

// ringSettles is how long a ring must have been the same before partitions are
// handed over by it: nodes hear of each other at different times, and what one
// gives to another should not be given back.
const ringSettles = 300 * time.Millisecond

// run contends until the context ends.
func (o *ownership) run(ctx context.Context) {
	tick := time.NewTicker(contendInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.woken:
		case <-tick.C:
		case <-o.inc.gossip.changed():
		}
		o.contend(ctx)
	}
}

// seats are who should own what, as far as this node knows.
type seating struct {
	ring   *ring
	newest map[string]member // by name
}

// seating is the ring of the nodes that are ready and live.
func (o *ownership) seating() seating {
	members := o.inc.gossip.members()
	o.inc.hints.watch(members)
	s := seating{newest: newestOf(members)}
	var names []string
	for name, m := range s.newest {
		o.inc.liveness.watch(m.incarnation)
		if m.state == memberReady && !o.inc.liveness.dead(m.incarnation) {
			names = append(names, name)
		}
	}
	s.ring = newRing(names)
	return s
}

// owner is the incarnation that should own a partition, empty if none should.
func (s *seating) owner(n int) string { return s.newest[s.ring.owner(n)].incarnation }

// contend claims and hands over what should be.
func (o *ownership) contend(ctx context.Context) {
	s := o.seating()
	if !o.inc.lease.valid() {
		return
	}
	var wanted, others []int
	o.mu.Lock()
	o.rounds++
	if o.ring == nil || *o.ring != *s.ring {
		o.ring, o.since = s.ring, time.Now()
	}
	settled := time.Since(o.since) >= ringSettles
	for n := range partitions {
		should := s.owner(n)
		p := o.owned[n]
		switch {
		case p == nil && !o.leaving && (should == o.inc.id || o.offered[n]):
			wanted = append(wanted, n)
		case p == nil && !o.leaving && o.rounds%strayRounds == 0:
			others = append(others, n)
		case p != nil && settled && should != "" && should != o.inc.id:
			select {
			case p.giving <- should:
			default: // it is on its way
			}
		}
	}
	clear(o.offered)
	o.mu.Unlock()
	if err := o.claim(ctx, wanted, others); err != nil && ctx.Err() == nil {
		o.inc.trouble.note("partitions cannot be claimed", err)
	}
}

// strayRounds is how often, in rounds, a node looks for partitions that are said
// to be its own and are not, as after Redis has lost that they were released.
const strayRounds = 10

// claim claims those of the wanted partitions that nobody owns, and those of
// the others that only this node can.
func (o *ownership) claim(ctx context.Context, wanted, others []int) error {
	mine := len(wanted)
	wanted = append(wanted, others...)
	if len(wanted) == 0 {
		return nil
	}
	k := o.inc.keys
	pipe := o.inc.control.Pipeline()
	for _, n := range wanted {
		pipe.HMGet(ctx, k.own(n), "epoch", "owner", "released")
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return err
	}
	var free []int
	var seen []string
	var taken []bool // from a dead owner
	for at, cmd := range cmds {
		values := cmd.(*redis.SliceCmd).Val()
		epoch, _ := values[0].(string)
		owner, _ := values[1].(string)
		released, _ := values[2].(string)
		if at >= mine && (owner != o.inc.id || released == "1") {
			continue
		}
		if owner != "" && owner != o.inc.id && released != "1" {
			o.inc.liveness.watch(owner)
			if !o.inc.liveness.dead(owner) {
				continue
			}
		}
		if epoch == "" {
			epoch = "0"
		}
		free, seen = append(free, wanted[at]), append(seen, epoch)
		taken = append(taken, owner != "" && owner != o.inc.id && released != "1")
	}
	if len(free) == 0 {
		return nil
	}
	pipe = o.inc.control.Pipeline()
	now := strconv.FormatInt(time.Now().UnixMicro(), 10)
	evals := make([]*redis.Cmd, len(free))
	for at, n := range free {
		evals[at] = claimScript.Eval(ctx, pipe, []string{k.own(n), k.base(n), k.tries(n)}, seen[at], o.inc.id, now)
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	var errs []error
	for at, n := range free {
		c, err := parseClaimed(evals[at])
		switch {
		case errors.Is(err, redis.Nil): // somebody else was faster
		case err != nil:
			errs = append(errs, fmt.Errorf("partition %d: %w", n, err))
		default:
			if taken[at] {
				o.inc.stats.takeovers.Add(1)
			}
			o.own(n, c)
		}
	}
	return errors.Join(errs...)
}

func parseClaimed(cmd *redis.Cmd) (c claimed, err error) {
	values, err := cmd.Slice()
	if err != nil {
		return c, err
	}
	text := func(n int) string {
		s, _ := values[n].(string)
		return s
	}
	if len(values) != 5 {
		return c, errEncoding
	}
	if c.epoch, err = strconv.ParseUint(text(0), 10, 64); err != nil {
		return c, err
	}
	if text(1) != "" {
		if c.base.position, err = ParseID(text(1)); err != nil {
			return c, err
		}
	}
	if c.base.edges, err = parseEdges([]byte(text(2))); err != nil {
		return c, err
	}
	if text(3) != "" {
		if c.quiet, err = ParseID(text(3)); err != nil {
			return c, err
		}
	}
	c.tries = map[place]int{}
	list, _ := values[4].([]any)
	for n := 0; n+1 < len(list); n += 2 {
		field, _ := list[n].(string)
		value, _ := list[n+1].(string)
		tries, err := strconv.Atoi(value)
		if at, ok := parsePlace(field); ok && err == nil {
			c.tries[at] = tries
		}
	}
	return c, nil
}

// own begins to own a partition.
func (o *ownership) own(n int, c claimed) {
	p := newPartition(o.inc, n, c)
	o.mu.Lock()
	before := o.owned[n]
	o.owned[n] = p
	o.mu.Unlock()
	if before != nil {
		before.fence()
	}
	o.inc.stats.claims.Add(1)
	o.inc.tasks.Go(p.run)
}

// verify fences the partitions that others have claimed meanwhile.
func (o *ownership) verify(ctx context.Context) error {
	list := o.list()
	if len(list) == 0 {
		return nil
	}
	pipe := o.inc.control.Pipeline()
	for _, p := range list {
		pipe.HMGet(ctx, o.inc.keys.own(p.number), "epoch", "owner")
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return err
	}
	for at, cmd := range cmds {
		values := cmd.(*redis.SliceCmd).Val()
		text, _ := values[0].(string)
		owner, _ := values[1].(string)
		epoch, _ := strconv.ParseUint(text, 10, 64)
		if p := list[at]; epoch > p.epoch || epoch == p.epoch && owner != o.inc.id {
			p.fence()
		}
	}
	return nil
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
		p.inc.outbox.put(to, outReleased, nil, binary.AppendUvarint(nil, uint64(p.number)))
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
	err := p.fencedRun(ctx, releaseScript, []string{p.inc.keys.meta(p.number)}, p.fold.position.String(), to)
	switch {
	case store.IsFenced(err):
		return p.ctx.Err()
	case isBehind(err):
		p.mend()
	}
	return err
}
