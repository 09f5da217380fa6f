package cluster

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis may forget an entry of an edge's stream before the edge has read it, and
// nothing in the stream would show that. So the entries that an owner's node puts there
// are numbered, and beside the stream stands the last number of each. An entry goes in
// only after the one before it; an owner that finds another number there, at its next
// entry or when it looks, which it does every second while that can still happen, puts
// in again what is missing. The edge passes over numbers that it has had, and closes its
// sockets where one is missing that nobody has any more.

// maxKept bounds what is kept to be told again.
const maxKept = 64 << 20

// putLocked notes that an entry is in the stream.
func (o *outbox) putLocked(q *outQueue, number uint64) {
	if q.next == len(q.entries) || q.entries[q.next].number != number {
		return // it is to be told again meanwhile
	}
	e := &q.entries[q.next]
	q.next++
	q.force = false
	e.put = time.Now()
	call(e.then)
	e.then = nil
	o.size -= len(e.data)
	o.kept += len(e.data)
	for o.kept > maxKept && q.next > 0 {
		o.letGoLocked(q)
	}
}

// letGoLocked stops keeping the oldest entry that is kept.
func (o *outbox) letGoLocked(q *outQueue) {
	o.kept -= len(q.entries[0].data)
	q.entries[0] = outEntry{}
	q.entries = q.entries[1:]
	q.next--
}

// goBackLocked tells an edge again what Redis has forgotten: all after a number. If
// that is not kept any more the edge finds it missing.
func (o *outbox) goBackLocked(edge string, number uint64) {
	q := o.queues[edge]
	o.inc.stats.retold.Add(1)
	n := 0
	for n < q.next && q.entries[n].number <= number {
		n++
	}
	for k := n; k < q.next; k++ {
		o.kept -= len(q.entries[k].data)
		o.size += len(q.entries[k].data)
	}
	q.next = n
	if n == len(q.entries) { // nothing is kept: an entry that says only that
		q.number++
		q.entries = append(q.entries, outEntry{number: q.number})
	}
	q.force = q.entries[n].number > number+1
	o.kick()
}

// watch looks whether Redis still has what was put into the streams, until the
// context ends.
func (o *outbox) watch(ctx context.Context) {
	tick := time.NewTicker(verifyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := o.look(ctx); err != nil && ctx.Err() == nil {
			o.inc.trouble.note("it is not known whether what nodes tell each other is stored", err)
		}
	}
}

// looking is a look at one edge's stream.
type looking struct {
	edge   string
	number uint64 // that must be there
	cmd    *redis.SliceCmd
}

func (o *outbox) look(ctx context.Context) error {
	list := o.kepts()
	if len(list) == 0 {
		return nil
	}
	began := time.Now()
	pipe := o.inc.control.Pipeline()
	for n := range list {
		list[n].cmd = pipe.HMGet(ctx, o.inc.keys.outMeta(list[n].edge), "gone", lastOf(o.inc.id))
	}
	_, err := pipe.Exec(ctx) // each command has its own, of which this is one
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.space.Broadcast()
	for n := range list {
		x := &list[n]
		q := o.queues[x.edge]
		if q == nil || x.cmd.Err() != nil {
			continue
		}
		values := x.cmd.Val()
		if values[0] != nil {
			o.dropLocked(x.edge)
			continue
		}
		text, _ := values[1].(string)
		number, _ := strconv.ParseUint(text, 10, 64) // 0: there is none
		if number < x.number {
			o.goBackLocked(x.edge, number)
			continue
		}
		for q.next > 0 && began.Sub(q.entries[0].put) > lastingAfter {
			o.letGoLocked(q)
		}
	}
	return err
}

// kepts lists the edges for which something is kept, and forgets those that are gone.
func (o *outbox) kepts() (list []looking) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for edge, q := range o.queues {
		switch {
		case o.inc.liveness.buried(edge):
			o.dropLocked(edge)
		case q.next > 0:
			list = append(list, looking{edge: edge, number: q.entries[q.next-1].number})
		}
	}
	o.space.Broadcast()
	return list
}

// lastOf is where, beside an edge's stream, the last number of an owner's node stands.
func lastOf(owner string) string { return "o:" + owner }
