package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// inbox reads the edge's own stream: what owners on other nodes tell it. The
// entries form a chain, each with the name of the one before it, so that a
// missing one is noticed, whyever it is missing.
type inbox struct {
	inc   *incarnation
	bell  *bell               // wakes it for the end
	parts map[string]*parting // by owner
	much  chan struct{}       // what was read and is still in Redis is

	name string // of the last entry that was read

	mu   sync.Mutex
	last ID  // the last entry that was read
	done ID  // the last whose items were delivered
	got  int // bytes that were read and are still in Redis
}

// parting is something that comes in parts.
type parting struct {
	item, next, parts uint64
	data              []byte
	at                time.Time // of the last part
}

const (
	maxPartings = 64        // things that come in parts at the same time
	maxParted   = 512 << 20 // bytes of one
	// forgetParts is after what time the rest does not come any more: its owner
	// has died.
	forgetParts = time.Minute
)

func newInbox(i *incarnation) *inbox {
	return &inbox{inc: i, bell: newBell(i, "in"), parts: map[string]*parting{}, much: make(chan struct{}, 1)}
}

// open makes the stream, whose chain begins with a name that nobody else has. Both keys
// must be there before a script uses them, since a slot of a Redis Cluster that is moving
// has no place for a key that is not. Each command has one.
func (x *inbox) open(ctx context.Context) error {
	x.name = rand.Text()
	pipe := x.inc.control.Pipeline()
	out, meta := x.inc.keys.out(x.inc.id), x.inc.keys.outMeta(x.inc.id)
	// The node prolongs that. Without a lease, as of a node that starts while Redis is
	// slow and begins again and again, it must not stay for ever.
	ringScript.Eval(ctx, pipe, []string{out}, rememberGone)
	pipe.XTrimMaxLen(ctx, out, 0)
	markScript.Eval(ctx, pipe, []string{meta}, "last", x.name, rememberGone)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("begin this node's stream: %w", err)
	}
	return nil
}

const (
	tidyInterval = 250 * time.Millisecond
	// tidyAnyway is after how many of these Redis hears that the stream is still wanted.
	tidyAnyway = 240
)

// tidy cuts off what was read, until the context ends.
func (x *inbox) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-x.much:
		}
		next, got := x.read()
		if got == 0 && n%tidyAnyway != 0 {
			continue
		}
		k := x.inc.keys
		err := tidyScript.Run(ctx, x.inc.control, []string{k.out(x.inc.id), k.outMeta(x.inc.id)}, next, got, rememberGone).Err()
		switch {
		case err == nil:
			x.cutOff(got)
		case ctx.Err() == nil:
			x.inc.trouble.note("what was read cannot be removed", err)
		}
	}
}

// read returns the first id that need stay in Redis, empty if there is nothing
// to remove, and how many bytes come before it.
func (x *inbox) read() (next string, got int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.got == 0 {
		return "", 0
	}
	return x.last.next().String(), x.got
}

// cutOff tells that bytes that were read are in Redis no more.
func (x *inbox) cutOff(got int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got -= got
}

// run reads until the context ends.
func (x *inbox) run(ctx context.Context) {
	i := x.inc
	wait := backoff{}
	sure := true // that the stream is the one that was read before
	for ctx.Err() == nil {
		var err error
		var found []redis.XStream
		if !sure {
			err = x.resume(ctx)
		}
		if err == nil {
			sure = true
			x.mu.Lock()
			last := x.last
			x.mu.Unlock()
			found, err = x.bell.read(ctx, i.reading, []string{i.keys.out(i.id)}, []string{last.String()})
		}
		if err != nil {
			if ctx.Err() == nil {
				sure = false
				i.trouble.note("what other nodes tell cannot be read", err)
				wait.wait(ctx)
			}
			continue
		}
		wait = backoff{}
		for _, stream := range found {
			for _, entry := range stream.Messages {
				x.entry(entry)
				x.delivered()
			}
		}
	}
}

func (x *inbox) delivered() {
	x.mu.Lock()
	x.done = x.last
	much := x.got > min(x.inc.config.MaxOutBytes/8, maxOutWhenFull/2)
	x.mu.Unlock()
	if much {
		select {
		case x.much <- struct{}{}: // it makes room
		default:
		}
	}
}

// caughtUp waits until what is in the stream now has been delivered. The error
// is Redis's, or the context's.
func (x *inbox) caughtUp(ctx context.Context) error {
	text, err := x.inc.control.HGet(ctx, x.inc.keys.outMeta(x.inc.id), "id").Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	last, err := ParseID(text)
	if err != nil {
		return err
	}
	for {
		x.mu.Lock()
		done := x.done
		x.mu.Unlock()
		if !last.After(done) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(inboxPoll):
		}
	}
}

// inboxPoll is how often it is looked whether something was delivered.
const inboxPoll = time.Millisecond

// entry takes one entry of the stream.
func (x *inbox) entry(m redis.XMessage) {
	id, err := ParseID(m.ID)
	before, _ := m.Values["p"].(string)
	name, _ := m.Values["n"].(string)
	data, _ := m.Values["b"].(string)
	if err == nil && before != x.name {
		x.inc.log.Warn("updates of other nodes were lost; the sockets close, and their clients come back for a diff")
		x.inc.edge.missed()
		clear(x.parts)
	}
	x.name = name
	x.mu.Lock()
	x.last = id
	x.got += len(data)
	x.mu.Unlock()
	rest := []byte(data)
	for len(rest) > 0 {
		kind := rest[0]
		r := reader{data: rest[1:]}
		item := r.text()
		if r.err != nil {
			x.inc.log.Error("an entry of this node's stream is unreadable; are there nodes of another version?")
			x.inc.edge.missed()
			return
		}
		rest = r.data
		x.item(kind, item)
	}
}

func (x *inbox) item(kind byte, data []byte) {
	switch kind {
	case outBundle:
		b, err := parseBundle(data)
		if err != nil {
			x.inc.log.Error("what another node tells is unreadable; is it of another version?", "error", err)
			x.inc.edge.missed()
			return
		}
		x.inc.edge.hear(&b)
	case outReleased:
		r := reader{data: data}
		if n, epoch := r.uint(), r.uint(); r.err == nil && n < partitions {
			x.inc.ownership.offer(int(n), epoch)
		}
	case outPart:
		x.part(data)
	}
}

// part puts together what was too large for one entry. It begins with its
// sender's incarnation, that of a bundle's owner.
func (x *inbox) part(data []byte) {
	r := reader{data: data}
	owner := string(r.text())
	item, n, parts := r.uint(), r.uint(), r.uint()
	if r.err != nil {
		return
	}
	p := x.parts[owner]
	if n == 0 && (p == nil || p.item < item) {
		maps.DeleteFunc(x.parts, func(_ string, p *parting) bool { return time.Since(p.at) > forgetParts })
		if p == nil && len(x.parts) >= maxPartings {
			x.inc.edge.missed()
			clear(x.parts)
		}
		p = &parting{item: item, parts: parts}
		x.parts[owner] = p
	}
	if p == nil || p.item != item || p.next != n || len(p.data)+len(r.data) > maxParted {
		return // it came before
	}
	p.data, p.at = append(p.data, r.data...), time.Now()
	if p.next++; p.next == p.parts {
		delete(x.parts, owner) // the first part, were it told again, came in an entry before this one's
		x.item(outBundle, p.data)
	}
}

// resume finds its place in the stream again after Redis was away. It may be
// another one by now, with a shorter stream, or one that grew on from there.
func (x *inbox) resume(ctx context.Context) error {
	i := x.inc
	values, err := i.control.HMGet(ctx, i.keys.outMeta(i.id), "last", "gone").Result()
	if err != nil {
		return err
	}
	last, _ := values[0].(string)
	if values[1] != nil { // the stream went with that
		i.end(errBuried)
		return errBuried
	}
	from, first := "-", true
	for {
		list, err := i.reading.XRangeN(ctx, i.keys.out(i.id), from, "+", readCount).Result()
		if err != nil {
			return err
		}
		for _, m := range list {
			id, _ := ParseID(m.ID)
			name, _ := m.Values["n"].(string)
			before, _ := m.Values["p"].(string)
			switch {
			case name == x.name:
				x.goOn(id)
				return nil
			case first && before == x.name:
				x.goOn(ID{})
				return nil
			}
			first = false
			from = "(" + m.ID
		}
		if len(list) < readCount {
			break
		}
	}
	if first && last == x.name {
		x.goOn(ID{}) // all was read and removed
		return nil
	}
	i.log.Warn("Redis has lost updates of other nodes; the sockets close, and their clients come back for a diff")
	i.edge.missed()
	clear(x.parts)
	// What the stream holds now belongs to sockets that are closed, or is told
	// again: the chain begins anew with what comes next.
	x.name = last
	if from == "-" {
		x.goOn(ID{})
		return nil
	}
	id, err := ParseID(from[1:])
	x.goOn(id)
	return err
}

func (x *inbox) goOn(after ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = after
	if after.After(x.done) {
		x.done = after
	}
}
