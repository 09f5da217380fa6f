package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// edge is a node towards its sockets: what they send goes into the logs of
// their rooms' partitions, and what owners tell goes to them.
type edge struct {
	inc        *incarnation
	partitions [partitions]edgePartition
	inbound    *room.Inbound
	closed     atomic.Bool

	space    sync.Cond    // of those whose sockets wait
	waiters  int          // in space
	buffered atomic.Int64 // bytes of all sessions that are not confirmed
	count    atomic.Int64 // sessions

	asking sync.Mutex
	asked  uint64
	asks   map[uint64]chan *reply
}

// edgePartition is a partition as an edge sees it.
type edgePartition struct {
	number int

	mu       sync.Mutex
	sender   *sender
	receiver receiver
	rooms    map[string]*edgeRoom
	dirty    bool // the appender knows that there is something to append
	full     bool // the log, or Redis, was full when that was tried
	// When something that is appended and not confirmed is appended again.
	progress time.Time
	doubts   int
}

// edgeRoom is the sessions of a room at an edge.
type edgeRoom struct {
	seats []*seat // in the order of joining
	byID  map[string]*seat
}

func newEdge(i *incarnation) *edge {
	e := &edge{inc: i, asks: map[uint64]chan *reply{}}
	e.space.L = new(sync.Mutex)
	e.inbound = room.NewInbound(i.ctx, room.InboundConfig{
		Limits: i.config.Limits.Limits, AuthorizeTimeout: i.config.AuthorizeTimeout, Logger: i.log, Violations: &i.stats.violations,
	})
	for n := range e.partitions {
		e.partitions[n] = edgePartition{number: n, sender: newSender(i.id, i.config.Limits)}
	}
	return e
}

// sendLocked queues an item for the log; p.mu is held.
func (e *edge) sendLocked(p *edgePartition, s *seat, it item) {
	n := it.size()
	e.buffered.Add(int64(n))
	if s != nil {
		s.waiting.Add(int64(n))
	}
	e.queueLocked(p, it)
}

// queueLocked queues an item whose bytes are counted.
func (e *edge) queueLocked(p *edgePartition, it item) {
	if p.sender.idle() {
		p.progress, p.doubts = time.Now(), 0
	}
	p.sender.add(it)
	e.kickLocked(p)
}

// send queues an item of no session.
func (e *edge) send(n int, it item) {
	p := &e.partitions[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	e.sendLocked(p, nil, it)
}

func (e *edge) kickLocked(p *edgePartition) {
	if !p.dirty {
		p.dirty = true
		e.inc.appender.kick(p)
	}
}

// ask sends a question through the log and waits for the reply.
func (e *edge) ask(ctx context.Context, it item) (*reply, error) {
	answer := make(chan *reply, 1)
	e.asking.Lock()
	e.asked++
	it.ask = e.asked
	e.asks[it.ask] = answer
	e.asking.Unlock()
	defer func() {
		e.asking.Lock()
		delete(e.asks, it.ask)
		e.asking.Unlock()
	}()
	if e.closed.Load() {
		return nil, ErrLeft
	}
	if int(e.buffered.Load()) > e.inc.config.MaxBufferBytes {
		return nil, ErrOverloaded
	}
	e.send(partitionOf(it.room), it)
	select {
	case r := <-answer:
		if r == nil {
			return nil, ErrNoAnswer
		}
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-e.inc.ctx.Done():
		return nil, ErrLeft
	}
}

func (e *edge) answered(r *reply) {
	e.asking.Lock()
	defer e.asking.Unlock()
	if answer := e.asks[r.ask]; answer != nil {
		select {
		case answer <- r:
		default: // told again
		}
	}
}

// hear takes what an owner tells of a partition.
func (e *edge) hear(b *bundle) {
	p := &e.partitions[b.partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.receiver.accept(b, func(name string) bool { return p.rooms[name] != nil })
	if h.stale {
		e.inc.stats.staleBundles.Add(1)
		return
	}
	if h.other {
		e.closeBuildingLocked(p)
	}
	if b.confirmed > 0 {
		e.confirmedLocked(p, b)
	}
	if b.expected > 0 {
		if !p.sender.expected(b.expected, b.upto) {
			e.inc.end(errLost)
			return
		}
		e.kickLocked(p)
	}
	for i := range h.outputs {
		e.deliverLocked(p, &h.outputs[i])
	}
	for _, name := range h.missing {
		e.inc.stats.gaps.Add(1)
		e.closeRoomLocked(p, name, closeMissed)
	}
}

// closeMissed is told to sockets for which something got lost on its way.
var closeMissed = protocol.Close{Code: protocol.CodeTryLater, Reason: "updates were missed; come back for them"}

func (e *edge) confirmedLocked(p *edgePartition, b *bundle) {
	done := p.sender.confirmed(b.confirmed, b.upto)
	if len(done) == 0 {
		return
	}
	p.progress, p.doubts = time.Now(), 0
	total := 0
	for _, batch := range done {
		for i := range batch.items {
			it := &batch.items[i]
			n := it.size()
			total += n
			if it.session != "" && it.kind != itemEdgeGone {
				if s := p.seat(it.room, it.session); s != nil {
					s.waiting.Add(-int64(n))
				}
			}
		}
	}
	e.free(total)
}

func (p *edgePartition) seat(roomID, session string) *seat {
	if r := p.rooms[roomID]; r != nil {
		return r.byID[session]
	}
	return nil
}

// deliverLocked passes one output on to whom it is for.
func (e *edge) deliverLocked(p *edgePartition, o *output) {
	if o.reply != nil {
		e.answered(o.reply)
		return
	}
	if o.to != "" {
		if s := p.seat(o.room, o.to); s != nil {
			e.deliverTo(s, o)
		}
		return
	}
	r := p.rooms[o.room]
	if r == nil {
		return
	}
	sent := int64(0)
	for n := len(r.seats) - 1; n >= 0; n-- { // telling may close one, which then is no more in the list
		if s := r.seats[n]; s.joined && s.id != o.except {
			s.tell(o.frame)
			sent++
		}
	}
	e.inc.stats.deliveries.Add(sent)
}

func (e *edge) deliverTo(s *seat, o *output) {
	switch {
	case o.joined:
		s.enterLocked()
	case o.close != nil:
		e.closeSeatLocked(s, *o.close)
	case o.grant != nil:
		s.grant = *o.grant
	case o.late:
		s.built(o.frame)
		e.inc.stats.deliveries.Add(1)
	case o.hold && s.backlog.Building():
		// It asks again before it was answered; only its last question counts.
		e.closeSeatLocked(s, closeMissed)
	case o.hold:
		if s.joined {
			s.backlog.Begin()
		}
	case s.joined && !o.frame.IsZero():
		s.tell(o.frame)
		e.inc.stats.deliveries.Add(1)
	}
}

// closeBuildingLocked closes the sockets for which the previous owner was
// building a diff, which it does no more.
func (e *edge) closeBuildingLocked(p *edgePartition) {
	for _, r := range p.rooms {
		for _, s := range slices.Clone(r.seats) {
			if s.backlog.Building() {
				e.closeSeatLocked(s, protocol.CloseRestart)
			}
		}
	}
}

// closeSeatLocked closes a socket, and its session leaves.
func (e *edge) closeSeatLocked(s *seat, c protocol.Close) {
	s.endLocked(c)
	e.removeLocked(s)
}

// removeLocked takes a session out, here and in the log.
func (e *edge) removeLocked(s *seat) {
	if s.left.Swap(true) {
		return
	}
	p := s.partition
	r := p.rooms[s.room]
	delete(r.byID, s.id)
	r.seats = slices.DeleteFunc(r.seats, func(x *seat) bool { return x == s })
	if len(r.seats) == 0 {
		delete(p.rooms, s.room)
		p.receiver.forget(s.room)
	}
	e.count.Add(-1)
	if e.inc.ctx.Err() == nil {
		e.sendLocked(p, nil, item{kind: itemLeave, room: s.room, session: s.id})
	}
	e.space.L.Lock()
	if e.waiters > 0 {
		e.space.Broadcast()
	}
	e.space.L.Unlock()
}
