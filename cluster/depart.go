package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

func (e *edge) closeRoomLocked(p *edgePartition, name string, c protocol.Close) {
	if r := p.rooms[name]; r != nil {
		for _, s := range slices.Clone(r.seats) {
			e.closeSeatLocked(s, c)
		}
	}
}

func (e *edge) closeSockets(c protocol.Close) {
	for n := range e.partitions {
		p := &e.partitions[n]
		p.mu.Lock()
		for name := range p.rooms {
			e.closeRoomLocked(p, name, c)
		}
		p.mu.Unlock()
	}
}

// missed closes all sockets, since something that other nodes told got lost,
// and nobody knows for whom it was.
func (e *edge) missed() {
	e.inc.stats.gaps.Add(1)
	e.closeSockets(closeMissed)
	e.asking.Lock()
	defer e.asking.Unlock()
	for _, answer := range e.asks { // it may be what got lost
		select {
		case answer <- nil:
		default: // it is answered
		}
	}
}

// closeAll closes all sockets at once and takes no more.
func (e *edge) closeAll(c protocol.Close) {
	e.closed.Store(true)
	e.closeSockets(c)
}

// closePaced closes all sockets, Config.DrainRate a second or faster if the
// context would end before, and in no order, so that their clients do not all come
// to the other nodes at once. It takes at most four fifths of the time that is
// left. Sessions that their rooms do not have yet end at once.
func (e *edge) closePaced(ctx context.Context, c protocol.Close) {
	e.closed.Store(true)
	var seats []*seat
	for n := range e.partitions {
		p := &e.partitions[n]
		p.mu.Lock()
		for _, r := range p.rooms {
			for _, s := range slices.Clone(r.seats) {
				if s.joined {
					seats = append(seats, s)
				} else {
					e.closeSeatLocked(s, c)
				}
			}
		}
		p.mu.Unlock()
	}
	rand.Shuffle(len(seats), func(a, b int) { seats[a], seats[b] = seats[b], seats[a] })
	closed, err := room.CloseAtPace(ctx, e.inc.config.DrainRate, len(seats), func(n int) {
		s := seats[n]
		s.partition.mu.Lock()
		defer s.partition.mu.Unlock()
		if !s.left.Load() {
			e.closeSeatLocked(s, c)
		}
	})
	if err != nil {
		e.inc.log.Warn("there was no time left to close the sockets at their pace: the rest closes at once", "sockets", len(seats)-closed)
		e.closeSockets(c)
	}
}

// depart tells every partition that this edge goes, and waits until that and
// all before it has been applied. The error says that it was not. If all nodes
// leave at the same time, what nobody owns any more is left to the next that
// starts.
func (e *edge) depart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, departTimeout)
	defer cancel()
	alone := false // nobody else is left to own what this node does not
	for n := range e.partitions {
		p := &e.partitions[n]
		p.mu.Lock()
		if p.sender.number > 0 || !p.sender.idle() {
			e.sendLocked(p, nil, item{kind: itemEdgeGone, session: e.inc.id})
		}
		p.mu.Unlock()
	}
	for round := 0; ; round++ {
		if round%aloneRounds == 0 {
			alone = e.inc.ownership.alone()
		}
		waiting := 0
		for n := range e.partitions {
			p := &e.partitions[n]
			p.mu.Lock()
			if !p.sender.idle() && (!alone || e.inc.ownership.owns(n)) {
				waiting++
			}
			p.mu.Unlock()
		}
		if waiting == 0 {
			return nil
		}
		if !e.inc.lease.valid() || len(e.inc.headroom.full()) > 0 {
			return errDepart // Redis is away, or full
		}
		select {
		case <-ctx.Done():
			return errDepart
		case <-time.After(departPoll):
		}
	}
}

// errDepart: see [edge.depart].
var errDepart = errors.New("not every session was taken out of its room in time; the other nodes will do it")

const (
	departTimeout = 5 * time.Second
	departPoll    = 2 * time.Millisecond
	aloneRounds   = 20 // polls between two looks who else is there
)
