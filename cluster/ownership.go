package cluster

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// ownership decides which partitions this node owns: it claims those that the
// ring gives it and nobody owns, and hands over those that the ring gives to
// another. The ring says who should own, Redis says who does.
type ownership struct {
	inc    *incarnation
	woken  chan struct{}
	offers chan struct{} // there are some
	doubts chan struct{} // Redis may have forgotten something
	// These bound what a node does at the same time: saving rooms, and building
	// large diffs.
	savers, builders chan struct{}
	// handing bounds how many partitions are handed over at the same time. Each
	// stands still meanwhile, the longer the more there are.
	handing chan struct{}

	looking    sync.Mutex
	lookScript pipelined

	mu      sync.Mutex
	owned   map[int]*partition
	offered map[int]uint64 // the previous owner has released it to this node, with its epoch
	leaving bool
	rounds  int // of contending
	ring    *ring
	names   []string  // of the nodes in the ring
	since   time.Time // when the ring became what it is
}

func newOwnership(i *incarnation) *ownership {
	return &ownership{
		inc: i, woken: make(chan struct{}, 1), offers: make(chan struct{}, 1), doubts: make(chan struct{}, 1), savers: make(chan struct{}, savesAtOnce),
		builders:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		handing:    make(chan struct{}, handsAtOnce),
		lookScript: pipelined{script: lookScript},
		owned:      map[int]*partition{}, offered: map[int]uint64{},
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

// owns reports whether this node owns a partition.
func (o *ownership) owns(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owned[n] != nil
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
		case <-o.offers:
			o.takeOffers(ctx)
			continue
		case <-o.woken:
		case <-tick.C:
		case <-o.inc.gossip.changed():
		}
		o.contend(ctx)
	}
}

// seating is who should own what, as far as this node knows.
type seating struct {
	ring   *ring
	newest map[string]member // by name
}

// seating is the ring of the nodes that are ready and live.
func (o *ownership) seating() seating {
	members := o.inc.gossip.members()
	o.inc.deaths.watch(members)
	s := seating{newest: newestOf(members)}
	var names []string
	for name, m := range s.newest {
		o.inc.liveness.watch(m.incarnation)
		if m.state == memberReady && !o.inc.liveness.dead(m.incarnation) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ring == nil || !slices.Equal(names, o.names) {
		o.ring, o.names, o.since = newRing(names), names, time.Now()
	}
	s.ring = o.ring
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
	settled := time.Since(o.since) >= ringSettles
	for n := range partitions {
		should := s.owner(n)
		p := o.owned[n]
		switch {
		case p == nil && !o.leaving && should == o.inc.id:
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
	o.mu.Unlock()
	chances, err := o.chances(ctx, wanted, others)
	if err == nil {
		err = o.claim(ctx, chances)
	}
	if err != nil && ctx.Err() == nil {
		o.inc.trouble.note("partitions cannot be claimed", err)
	}
}
