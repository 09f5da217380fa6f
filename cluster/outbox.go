package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// outbox takes what this node's partitions tell other edges to their streams, in
// order for each edge, one round trip at a time for all.
type outbox struct {
	inc    *incarnation
	kicked chan struct{}
	script pipelined
	space  sync.Cond // of those who wait until there is less

	mu     sync.Mutex
	queues map[string]*outQueue // by edge
	size   int                  // bytes of all
	closed bool
	parted uint64 // items that were too large for one entry
}

// outQueue is what waits for one edge; it is never empty.
type outQueue struct {
	items []outItem
	full  time.Time // since when the edge's stream is, zero: it is not
	tried time.Time // when that was found last
}

// outItem is one thing for an edge.
type outItem struct {
	from *partition // nil: nobody who could be fenced
	data []byte
	then func() // is called, with the outbox locked, when it is in the stream, or cannot be any more
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
		o.queues[edge] = q // it gets an item below
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
	open := len(o.queues)
	if open == 0 {
		close(done)
		return done
	}
	for _, q := range o.queues {
		last := &q.items[len(q.items)-1]
		before := last.then
		last.then = func() {
			if before != nil {
				before()
			}
			if open--; open == 0 {
				close(done)
			}
		}
	}
	return done
}

// emitting is one entry on its way.
type emitting struct {
	edge  string
	items int
	size  int
	cmd   *redis.Cmd
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
	for edge, q := range o.queues {
		for n := range q.items {
			if then := q.items[n].then; then != nil {
				then()
			}
		}
		delete(o.queues, edge)
	}
	o.size, o.closed = 0, true
	o.space.Broadcast()
}

// emit sends the first entry of every queue, but those that were found full just
// now, of which it tells.
func (o *outbox) emit(ctx context.Context) (round []emitting, full bool) {
	i := o.inc
	pipe := i.writing.Pipeline()
	o.mu.Lock()
	for edge, q := range o.queues {
		if time.Since(q.tried) < fullPause {
			full = true
			continue
		}
		enough := 0
		if i.liveness.dead(edge) || !q.full.IsZero() && time.Since(q.full) > i.config.LeaseTTL {
			enough = 1
		}
		var data []byte
		n, size := 0, 0
		for n < len(q.items) && (n == 0 || len(data)+len(q.items[n].data) <= maxEntry) {
			x := &q.items[n]
			if x.from == nil || !x.from.fenced.Load() {
				data = append(data, x.data...)
			}
			size += len(x.data)
			n++
		}
		x := emitting{edge: edge, items: n, size: size}
		if len(data) > 0 {
			x.cmd = o.script.eval(ctx, pipe, []string{i.keys.out(edge), i.keys.outMeta(edge)},
				rand.Text(), i.config.MaxOutBytes, data, enough, maxOutWhenFull)
		}
		round = append(round, x)
	}
	o.mu.Unlock()
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	return round, full
}

// settle takes what was emitted out of the queues. It reports false if
// something should be tried again later.
func (o *outbox) settle(round []emitting) bool {
	i := o.inc
	o.mu.Lock()
	defer o.mu.Unlock()
	well := true
	for n := range round {
		x := &round[n]
		q := o.queues[x.edge]
		if x.cmd != nil {
			there, err := x.cmd.Int()
			o.script.heard(err)
			if err != nil {
				i.stats.emitErrors.Add(1)
				if !strings.HasPrefix(err.Error(), "NOSCRIPT") {
					i.trouble.note("what nodes tell each other cannot be stored", err)
					well = false
				}
				continue
			}
			if there < 0 {
				if q.tried = time.Now(); q.full.IsZero() {
					q.full = q.tried
				}
				continue
			}
			q.full, q.tried = time.Time{}, time.Time{}
			i.stats.emitted.Add(1)
			if there == 0 {
				i.stats.toDead.Add(1)
			}
		}
		for k := range x.items {
			o.size -= len(q.items[k].data)
			if then := q.items[k].then; then != nil {
				then()
			}
		}
		if q.items = q.items[x.items:]; len(q.items) == 0 {
			delete(o.queues, x.edge)
		}
	}
	o.space.Broadcast()
	return well
}
