package cluster

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// outbox takes what this node's partitions tell other edges to their streams, in
// order for each edge, one round trip at a time for all. See retell.go for what
// Redis forgets on the way.
type outbox struct {
	inc    *incarnation
	kicked chan struct{}
	script pipelined
	space  sync.Cond // of those who wait until there is less

	mu     sync.Mutex
	queues map[string]*outQueue // by edge, for as long as that lives
	size   int                  // bytes that wait, of all
	kept   int                  // bytes that are kept to be told again, of all
	closed bool
	parted uint64 // items that were too large for one entry
}

// outQueue is what an edge is told.
type outQueue struct {
	items   []outItem  // wait to become entries
	entries []outEntry // that are kept, then those that wait
	next    int        // the first that waits, as an index of entries
	number  uint64     // of the last entry that was made
	force   bool       // the next entry goes in though others before it are missing
	full    time.Time  // since when the edge's stream is, zero: it is not
	tried   time.Time  // when that was found last
}

// outItem is one thing for an edge.
type outItem struct {
	from *partition // nil: nobody who could be fenced
	data []byte
	then []func() // are called, with the outbox locked, when it is in the stream, or cannot be any more
}

// outEntry is an entry of an edge's stream. Those of an owner are numbered from 1.
type outEntry struct {
	number uint64
	data   []byte
	then   []func()
	put    time.Time // when it was known to be in the stream
}

// What an entry of an edge's stream consists of: a kind, a length, and data.
const (
	outBundle   = 1 // of outputs
	outReleased = 2 // a partition is given to the edge's node: number, epoch
	outPart     = 3 // of a larger bundle: owner, item, part, number of parts, data
)

const (
	maxEntry  = 1 << 20 // bytes of one entry of an edge's stream
	maxOutbox = 64 << 20
	// maxOutWhenFull bounds an edge's stream while Redis is full: what is in it is about
	// to be read and cut off.
	maxOutWhenFull = 1 << 20
	// fullPause is how often a stream that is full is looked at. One that stays so
	// for a lease's time is cut, for its node does not read it.
	fullPause = 5 * time.Millisecond
)

func newOutbox(i *incarnation) *outbox {
	o := &outbox{inc: i, kicked: make(chan struct{}, 1), queues: map[string]*outQueue{}, script: pipelined{script: emitScript}}
	o.space.L = &o.mu
	return o
}

// put queues an item for an edge. It waits while too much waits already, unless
// the node ends.
func (o *outbox) put(edge string, kind byte, from *partition, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.size > maxOutbox && !o.closed {
		o.space.Wait()
	}
	if o.closed {
		return
	}
	q := o.queues[edge]
	if q == nil {
		q = &outQueue{}
		o.queues[edge] = q
	}
	add := func(kind byte, data []byte) {
		data = frameOut(kind, data)
		o.size += len(data)
		q.items = append(q.items, outItem{from: from, data: data})
	}
	if len(data) <= maxEntry {
		add(kind, data)
	} else {
		o.parted++
		parts := (len(data) + maxEntry - 1) / maxEntry
		for n := range parts {
			part := appendText(nil, o.inc.id)
			part = binary.AppendUvarint(part, o.parted)
			part = binary.AppendUvarint(part, uint64(n))
			part = binary.AppendUvarint(part, uint64(parts))
			part = append(part, data[n*maxEntry:min((n+1)*maxEntry, len(data))]...)
			add(outPart, part)
		}
	}
	o.kick()
}

func frameOut(kind byte, data []byte) []byte {
	b := make([]byte, 0, len(data)+10)
	return append(binary.AppendUvarint(append(b, kind), uint64(len(data))), data...)
}

func (o *outbox) kick() {
	select {
	case o.kicked <- struct{}{}:
	default:
	}
}

// flushed returns a channel that is closed when all that is queued now is in
// the streams, or its edge is gone.
func (o *outbox) flushed() <-chan struct{} {
	done := make(chan struct{})
	o.mu.Lock()
	defer o.mu.Unlock()
	open := 1
	then := func() {
		if open--; open == 0 {
			close(done)
		}
	}
	for _, q := range o.queues {
		if last := q.last(); last != nil {
			open++
			*last = append(*last, then)
		}
	}
	then()
	return done
}

// emitting is one entry on its way.
type emitting struct {
	edge   string
	number uint64
	cmd    *redis.Cmd
}

// run emits until the context ends.
func (o *outbox) run(ctx context.Context) {
	defer o.giveUp()
	wait := backoff{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.kicked:
		}
		for {
			if !o.inc.lease.wait(ctx) {
				return
			}
			round, full := o.emit(ctx)
			if len(round) == 0 {
				if !full {
					break
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(fullPause):
				}
				continue
			}
			if o.settle(round) {
				wait = backoff{}
			} else if !wait.wait(ctx) {
				return
			}
		}
	}
}

// giveUp lets go of everything, and of those who wait for it.
func (o *outbox) giveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for edge := range o.queues {
		o.dropLocked(edge)
	}
	o.closed = true
	o.space.Broadcast()
}

// emit sends the next entry of every queue that has one, but those that were found full
// just now, of which it tells.
func (o *outbox) emit(ctx context.Context) (round []emitting, full bool) {
	i := o.inc
	pipe := i.writing.Pipeline()
	o.mu.Lock()
	for edge, q := range o.queues {
		if !o.readyLocked(q) {
			continue
		}
		if time.Since(q.tried) < fullPause {
			full = true
			continue
		}
		enough := 0
		if i.liveness.dead(edge) || !q.full.IsZero() && time.Since(q.full) > i.config.LeaseTTL {
			enough = 1
		}
		force := 0
		if q.force {
			force = 1
		}
		e := &q.entries[q.next]
		round = append(round, emitting{edge: edge, number: e.number, cmd: o.script.eval(ctx, pipe, []string{i.keys.out(edge), i.keys.outMeta(edge)},
			i.id, e.number, force, i.config.MaxOutBytes, e.data, enough, maxOutWhenFull)})
	}
	o.mu.Unlock()
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	return round, full
}

// readyLocked makes the next entry of what waits, unless there is one, and reports
// whether there is.
func (o *outbox) readyLocked(q *outQueue) bool {
	for q.next == len(q.entries) && len(q.items) > 0 {
		e := outEntry{number: q.number + 1}
		n, size := 0, 0
		for n < len(q.items) && (n == 0 || len(e.data)+len(q.items[n].data) <= maxEntry) {
			x := &q.items[n]
			if x.from == nil || !x.from.fenced.Load() {
				e.data = append(e.data, x.data...)
			}
			e.then = append(e.then, x.then...)
			size += len(x.data)
			n++
		}
		if q.items = q.items[n:]; len(q.items) == 0 {
			q.items = nil
		}
		o.size += len(e.data) - size
		if len(e.data) == 0 {
			call(e.then)
			continue
		}
		q.number = e.number
		q.entries = append(q.entries, e)
	}
	return q.next < len(q.entries)
}

func call(list []func()) {
	for _, f := range list {
		f()
	}
}

// last is who is told when all that waits now is in the stream, nil if nothing waits.
func (q *outQueue) last() *[]func() {
	switch {
	case len(q.items) > 0:
		return &q.items[len(q.items)-1].then
	case q.next < len(q.entries):
		return &q.entries[len(q.entries)-1].then
	}
	return nil
}

// settle draws the conclusions from what came of a round. It reports false if
// something should be tried again later.
func (o *outbox) settle(round []emitting) bool {
	i := o.inc
	o.mu.Lock()
	defer o.mu.Unlock()
	well := true
	for n := range round {
		x := &round[n]
		q := o.queues[x.edge]
		if q == nil {
			continue
		}
		code, err := x.cmd.Int64()
		o.script.heard(err)
		switch {
		case err != nil:
			i.stats.emitErrors.Add(1)
			if !strings.HasPrefix(err.Error(), "NOSCRIPT") {
				i.trouble.note("what nodes tell each other cannot be stored", err)
				well = false
			}
		case code == 0:
			i.stats.toDead.Add(1)
			o.dropLocked(x.edge)
		case code == -1:
			if q.tried = time.Now(); q.full.IsZero() {
				q.full = q.tried
			}
		case code < -1:
			o.goBackLocked(x.edge, uint64(-2-code))
		default:
			q.full, q.tried = time.Time{}, time.Time{}
			i.stats.emitted.Add(1)
			o.putLocked(q, x.number)
		}
	}
	o.space.Broadcast()
	return well
}

// dropLocked lets go of an edge and of all that it was to be told.
func (o *outbox) dropLocked(edge string) {
	q := o.queues[edge]
	delete(o.queues, edge)
	for n := range q.items {
		o.size -= len(q.items[n].data)
		call(q.items[n].then)
	}
	for n := range q.entries {
		if n < q.next {
			o.kept -= len(q.entries[n].data)
		} else {
			o.size -= len(q.entries[n].data)
		}
		call(q.entries[n].then)
	}
}
