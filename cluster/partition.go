package cluster

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/store"
)

// partition is a partition at its owner: the fold of its log, in one goroutine,
// from the claim until it is handed over, or another node has claimed it.
type partition struct {
	inc    *incarnation
	number int
	epoch  uint64
	log    *logState
	fold   *fold
	heard  bool // this node has heard all that the previous owner has told it
	chain  store.Chain

	ctx    context.Context
	cancel context.CancelFunc
	fenced atomic.Bool // somebody else owns it: nothing is told any more
	given  atomic.Bool // it is being handed over: what is refused from now on is no surprise
	tasks  sync.WaitGroup

	building sync.WaitGroup // large diffs
	builds   []<-chan struct{}
	queued   atomic.Int64 // bytes in queue
	passed   atomic.Bool  // readers wait for space in it
	queue    chan []logEntry
	doubted  chan struct{} // Redis may have forgotten something
	woken    chan struct{} // something is to be looked at
	giving   chan string   // to which incarnation to hand over; "" is to whom wants it
	saving   chan saved    // outcome of the save that is under way; nil: none is
	nextSave time.Time     // not before this
	failures int           // of saves, one after the other
	lastUse  map[string]time.Time
	sentOff  map[string]time.Time // edges that this one has sent off, and when
	finished chan struct{}
}

// logState is what the owner knows of its log beside the fold.
type logState struct {
	last    string // id of the last entry that was read; empty: not known
	quiet   ID     // the previous owner has told everything up to here
	entries []entrySize
	since   time.Time // of the first of entries, about
}

// entrySize is an entry that has not been trimmed.
type entrySize struct {
	id   ID
	size int
}

const (
	maxQueue      = 16       // reads
	maxQueueBytes = 16 << 20 // bytes of them, about
)

// claimed is what a claim has returned.
type claimed struct {
	epoch uint64
	base  partitionCheckpoint
	quiet ID
	tries map[place]int
	// offered says that the previous owner has told this node of the release, and
	// before that, by the same way, of everything else.
	offered bool
}

func newPartition(i *incarnation, number int, c claimed) *partition {
	p := &partition{
		inc: i, number: number, epoch: c.epoch, log: &logState{quiet: c.quiet}, heard: c.offered,
		queue: make(chan []logEntry, maxQueue), doubted: make(chan struct{}, 1), woken: make(chan struct{}, 1),
		giving: make(chan string, 1), lastUse: map[string]time.Time{}, sentOff: map[string]time.Time{},
		finished: make(chan struct{}),
	}
	if c.base.position != (ID{}) {
		p.log.last = c.base.position.String() // after which the log goes on
	}
	p.ctx, p.cancel = context.WithCancel(i.ctx)
	p.fold = newFold(c.base, partitionSource{p})
	p.fold.tries = c.tries
	p.fold.beforeApply = i.config.beforeApply
	return p
}

// fence ends it without a word: another node owns the partition.
func (p *partition) fence() {
	if !p.fenced.Swap(true) && !p.given.Load() {
		p.inc.stats.fenced.Add(1)
		p.inc.log.Info("a partition has another owner now", "partition", p.number, "epoch", p.epoch)
	}
	p.cancel()
}

func (p *partition) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *partition) full() bool {
	return len(p.queue) == cap(p.queue) || p.queued.Load() > maxQueueBytes
}

// passOver reports whether nothing more should be read for it now; then it wakes
// the readers when that is over.
func (p *partition) passOver() bool {
	if !p.full() {
		return false
	}
	p.passed.Store(true)
	return p.full() // or the queue was emptied before anybody knew
}

// give hands over entries that were read; there is room for them.
func (p *partition) give(entries []logEntry) {
	for n := range entries {
		p.queued.Add(int64(len(entries[n].data)))
	}
	p.queue <- entries
}

// doubt lets the partition look whether Redis has forgotten something.
func (p *partition) doubt() {
	select {
	case p.doubted <- struct{}{}:
	default:
	}
}

// run owns the partition until it is over.
func (p *partition) run() {
	defer close(p.finished)
	defer p.inc.ownership.ended(p)
	defer p.tasks.Wait()
	defer p.cancel()
	if err := p.load(); err != nil {
		if p.ctx.Err() == nil {
			p.inc.log.Error("a partition cannot be loaded; another try follows", "partition", p.number, "error", err)
		}
		return
	}
	p.inc.readers.add(p, p.fold.position)
	defer p.inc.readers.remove(p)
	interval := p.inc.config.SaveInterval
	tick := time.NewTimer(rand.N(interval)) // so that not all partitions are saved at once
	defer tick.Stop()
	p.sendOff()
	var to string            // to whom to hand over
	asked := false           // to hand over
	var turn chan<- struct{} // nil: to nobody
	for {
		select {
		case <-p.ctx.Done():
			return
		case entries := <-p.queue:
			p.process(p.drain(entries))
		case <-p.doubted:
			if p.process(p.drain(nil)); p.forgotten() {
				p.mend()
			}
		case <-p.woken:
			p.sendOff()
			if p.redisFull() {
				p.save(true)
			}
		case <-tick.C:
			tick.Reset(interval)
			p.sendOff()
			p.evict()
			p.save(p.redisFull())
		case s := <-p.saving:
			p.saved(s)
			if asked && !(to == "" && p.save(true)) {
				turn = p.inc.ownership.handing
			}
		case to = <-p.giving:
			first := !asked
			asked = true
			switch {
			case to == "" && (p.saving != nil || p.save(true)):
				// Nobody is there to replay the log: whoever comes some time finds all saved.
			case first && p.logBytes() > handOverLog && p.save(true):
				// The successor need not replay all that; asked again, it does.
			default:
				turn = p.inc.ownership.handing
			}
		case turn <- struct{}{}:
			over := p.handOver(to)
			asked, turn = false, nil
			<-p.inc.ownership.handing
			if over {
				return
			}
		}
	}
}

// redisFull reports whether its Redis lacks the space that its log takes.
func (p *partition) redisFull() bool { return p.inc.headroom.of(p.ctx, p.number).full.Load() }

// load computes the rooms as the log has them now.
func (p *partition) load() error {
	if !p.heard {
		err := partitionSource{p}.again("it is not known what the previous owner has told", p.inc.inbox.caughtUp)
		if err != nil {
			return err
		}
	}
	return p.replay()
}

// drain takes what else is in the queue.
func (p *partition) drain(entries []logEntry) []logEntry {
	for {
		select {
		case more := <-p.queue:
			entries = append(entries, more...)
			continue
		default:
		}
		break
	}
	size := 0
	for n := range entries {
		size += len(entries[n].data)
	}
	p.queued.Add(-int64(size))
	if p.passed.Swap(false) {
		p.inc.readers.wake()
	}
	return entries
}

// replay reads the log as it stands.
func (p *partition) replay() error {
	began := time.Now()
	after, count := p.fold.position, 0
	var allowed allowance
	for more := true; more; {
		var entries []logEntry
		var err error
		if entries, more, err = (partitionSource{p}).read(&allowed, after, "+"); err != nil {
			return err
		}
		if len(entries) > 0 {
			after = entries[len(entries)-1].id
			count += len(entries)
			p.process(entries)
		}
	}
	p.inc.stats.replayed.Add(int64(count))
	p.inc.stats.replayTime.Add(int64(time.Since(began)))
	return p.ctx.Err()
}

// process applies entries and tells the edges what comes of them.
func (p *partition) process(entries []logEntry) {
	t := telling{p: p}
	for n := range entries {
		e := &entries[n]
		if p.log.last != "" && e.before != p.log.last {
			t.emit()
			p.mend()
		}
		b, err := parseBatch(e.data)
		if err == nil {
			p.bring(&t, &b)
		}
		p.log.last = e.id.String()
		if len(p.log.entries) == 0 {
			p.log.since = time.Now()
		}
		p.log.entries = append(p.log.entries, entrySize{e.id, len(e.data)})
		if err != nil {
			p.inc.stats.unreadable.Add(1)
			p.inc.log.Error("an entry of the log is unreadable and is passed over; are there nodes of another version?", "partition", p.number, "id", e.id.String(), "error", err)
			p.fold.position = e.id
			p.chain.Read(p.log.last)
			continue
		}
		if _, known := p.fold.edges[b.edge]; !known {
			p.inc.liveness.watch(b.edge) // sendOff goes on doing so
		}
		outputs, verdict := p.fold.apply(e.id, &b)
		p.chain.Read(p.log.last)
		for k := range b.items {
			if name := b.items[k].room; name != "" {
				p.lastUse[name] = time.Now()
			}
		}
		p.inc.stats.applied.Add(1)
		if verdict == duplicate {
			p.inc.stats.duplicates.Add(1)
		}
		if e.id.After(p.log.quiet) {
			t.add(e.id, b.edge, outputs, verdict)
		}
	}
	t.emit()
}

// telling gathers what to tell whom, one bundle for each edge.
type telling struct {
	p     *partition
	edges map[string]*bundle
	order []string
	diffs []output // that are to be built
}

func (t *telling) add(id ID, from string, outputs []output, v verdict) {
	b := t.bundle(from, id)
	b.confirmed = t.p.fold.edges[from].number
	switch v {
	case gap:
		b.expected = b.confirmed + 1
	case applied:
		b.expected = 0
	}
	for n := range outputs {
		o := &outputs[n]
		if o.diff != nil {
			t.diffs = append(t.diffs, *o)
			o.diff, o.hold = nil, true
		}
		b := t.bundle(o.edge, id)
		b.outputs = append(b.outputs, *o)
	}
}

func (t *telling) bundle(edge string, upto ID) *bundle {
	b := t.edges[edge]
	if b == nil {
		if t.edges == nil {
			t.edges = map[string]*bundle{}
		}
		b = &bundle{edge: edge, owner: t.p.inc.id, partition: t.p.number, epoch: t.p.epoch}
		t.edges[edge] = b
		t.order = append(t.order, edge)
	}
	b.upto = upto
	return b
}

// emit tells everything that was gathered, if the node may still speak.
func (t *telling) emit() {
	p := t.p
	if len(t.order) == 0 {
		return
	}
	if !p.inc.lease.wait(p.ctx) || p.ctx.Err() != nil {
		return
	}
	for _, edge := range t.order {
		b := t.edges[edge]
		if edge == p.inc.id {
			p.inc.edge.hear(b)
			continue
		}
		p.inc.outbox.put(edge, outBundle, p, encodeBundle(b))
	}
	diffs := t.diffs
	t.edges, t.order, t.diffs = nil, nil, nil
	for n := range diffs {
		p.building.Add(1)
		over := make(chan struct{})
		p.builds = append(p.builds, over)
		p.tasks.Go(func() {
			defer p.building.Done()
			defer close(over)
			p.build(&diffs[n])
		})
	}
}

// build builds a large diff, which others need not wait for, and sends it.
func (p *partition) build(o *output) {
	select {
	case p.inc.ownership.builders <- struct{}{}:
		defer func() { <-p.inc.ownership.builders }()
	case <-p.ctx.Done():
		return
	}
	late := output{room: o.room, to: o.to, late: true, frame: o.diff.Frame()}
	t := telling{p: p}
	b := t.bundle(o.edge, ID{})
	b.outputs = append(b.outputs, late)
	t.emit()
}

// sendOff lets the sessions of nodes leave that were taken for dead.
func (p *partition) sendOff() {
	for edge, mark := range p.fold.edges {
		if mark.gone != 0 || edge == p.inc.id {
			continue
		}
		p.inc.liveness.watch(edge)
		if !p.inc.liveness.buried(edge) {
			continue
		}
		const again = 10 * time.Second // it may have been lost
		if since, told := p.sentOff[edge]; told && time.Since(since) < again {
			continue
		}
		p.sentOff[edge] = time.Now()
		p.inc.edge.send(p.number, item{kind: itemEdgeGone, session: edge})
	}
	maps.DeleteFunc(p.sentOff, func(edge string, _ time.Time) bool {
		mark, known := p.fold.edges[edge]
		return !known || mark.gone != 0
	})
}

// lastingAfter is after what time an entry of the log is not forgotten any more:
// a Redis that writes its file every second loses up to two. What is forgotten later than
// that of a room that is not in memory, and only that, is computed from what is left.
const lastingAfter = 5 * time.Second

// evict lets go of rooms that have no sessions, no changes to save, and no use.
func (p *partition) evict() {
	for name, r := range p.fold.rooms {
		if !r.dirty() && p.idle(name) {
			delete(p.fold.rooms, name)
			delete(p.lastUse, name)
		}
	}
	maps.DeleteFunc(p.lastUse, func(name string, _ time.Time) bool { return p.fold.rooms[name] == nil })
	p.inc.stats.rooms.set(p.number, len(p.fold.rooms))
}

// fenceOf is in whose name the partition's owner writes, and after what.
func (p *partition) fenceOf() store.Fence {
	return store.Fence{Partition: p.number, Epoch: p.epoch, Owner: p.inc.id, Chain: &p.chain}
}

// fencedRun runs a fenced script. If it is refused the partition ends, or looks what
// Redis has forgotten.
func (p *partition) fencedRun(ctx context.Context, script *redis.Script, keys []string, args ...any) error {
	err := p.fenceOf().Run(ctx, p.inc.writing, p.inc.keys.prefix, script, keys, args...).Err()
	p.refused(err)
	return err
}

// refused draws the conclusions from what came of a write.
func (p *partition) refused(err error) {
	switch {
	case store.IsFenced(err):
		p.fence()
	case store.IsForgotten(err):
		p.doubt()
	}
}
