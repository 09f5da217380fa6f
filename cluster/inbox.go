package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// inbox reads the edge's own stream: what owners on other nodes tell it. The
// entries of each such node are numbered, so that one that is missing is noticed,
// whatever the reason, and one that comes again is passed over.
type inbox struct {
	inc    *incarnation
	bell   *bell               // wakes it for the end
	parts  map[string]*parting // by owner
	told   map[string]uint64   // the number of the last entry, by owner's node; owned by run
	forgot time.Time           // when the last dead nodes were
	much   chan struct{}       // what was read and is still in Redis is

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
	return &inbox{inc: i, bell: newBell(i, "in"), parts: map[string]*parting{}, told: map[string]uint64{}, much: make(chan struct{}, 1)}
}

// open makes the stream. Both keys must be there before a script uses them, since a slot of a Redis Cluster that is moving
// has no place for a key that is not. Each command has one.
func (x *inbox) open(ctx context.Context) error {
	pipe := x.inc.control.Pipeline()
	out, meta := x.inc.keys.out(x.inc.id), x.inc.keys.outMeta(x.inc.id)
	// The node prolongs that. Without a lease, as of a node that starts while Redis is
	// slow and begins again and again, it must not stay for ever.
	ringScript.Eval(ctx, pipe, []string{out}, rememberGone)
	pipe.XTrimMaxLen(ctx, out, 0)
	markScript.Eval(ctx, pipe, []string{meta}, "got", 0, rememberGone)
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
	x.got = max(0, x.got-got) // it may have begun to read all again
}

// run reads until the context ends.
func (x *inbox) run(ctx context.Context) {
	i := x.inc
	wait, allowed := backoff{}, allowance{}
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
			found, err = x.bell.read(ctx, i.reading, allowed.entries(), maxBlock, []string{i.keys.out(i.id)}, []string{last.String()})
		}
		if err != nil {
			if ctx.Err() == nil {
				sure = false
				allowed.failed()
				i.trouble.note("what other nodes tell cannot be read", err)
				wait.wait(ctx)
			}
			continue
		}
		wait = backoff{}
		allowed.took(found)
		x.forget(ctx)
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
	id, _ := ParseID(m.ID) // Redis makes no others
	owner, _ := m.Values["o"].(string)
	text, _ := m.Values["n"].(string)
	data, _ := m.Values["b"].(string)
	x.mu.Lock()
	x.last = id
	x.got += len(data)
	x.mu.Unlock()
	number, _ := strconv.ParseUint(text, 10, 64)
	if number <= x.told[owner] {
		return // it came before
	}
	if number > x.told[owner]+1 || m.Values["c"] == "1" {
		x.inc.log.Warn("updates of other nodes were lost; the sockets close, and their clients come back for a diff", "owner", owner)
		x.inc.edge.missed()
		clear(x.parts)
	}
	x.told[owner] = number
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

// resume reads all that is in the stream again, after Redis was away: it may be
// another one by now, which has forgotten some of what was read, and has new entries in
// places that were read.
func (x *inbox) resume(ctx context.Context) error {
	i := x.inc
	gone, err := i.control.HExists(ctx, i.keys.outMeta(i.id), "gone").Result()
	if err != nil {
		return err
	}
	if gone { // the stream went with that
		i.end(errBuried)
		return errBuried
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last, x.got = ID{}, 0
	return nil
}

// forget lets go of what is known of nodes that are dead, from time to time.
func (x *inbox) forget(ctx context.Context) {
	if time.Since(x.forgot) < rememberTold {
		return
	}
	x.forgot = time.Now()
	var fields []string
	for owner := range x.told {
		if x.inc.liveness.buried(owner) {
			delete(x.told, owner)
			fields = append(fields, lastOf(owner))
		}
	}
	if len(fields) > 0 {
		_ = x.inc.control.HDel(ctx, x.inc.keys.outMeta(x.inc.id), fields...).Err() // they go with the node
	}
}

// rememberTold is how often they are forgotten.
const rememberTold = time.Minute
