package cluster

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"sync/atomic"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// seat is a session at its edge.
type seat struct {
	edge      *edge
	partition *edgePartition
	id, room  string
	client    string
	socket    room.Socket

	// entered gets, once, nil when the room has the session, or why it has not.
	entered chan error
	waiting atomic.Int64 // bytes that are not confirmed
	left    atomic.Bool

	// guarded by partition.mu
	joined bool // what the room says is for it from here on
	grant  room.Grant
	// While its owner builds a large diff for it, what comes after it waits.
	backlog room.Backlog[protocol.Frame]

	refresher room.Refresher
}

func newSeat(e *edge, p *edgePartition, roomID string, o room.ConnectOptions) *seat {
	return &seat{
		edge: e, partition: p, id: rand.Text(), room: roomID, client: o.Client,
		entered: make(chan error, 1), socket: o.Socket, grant: o.Grant,
		refresher: room.Refresher{Authorize: o.OnTokenRefresh},
	}
}

func (s *seat) ID() string { return s.id }

// Info describes the session; the error is [room.ErrNoSession].
func (s *seat) Info() (room.SessionInfo, error) {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	if s.left.Load() {
		return room.SessionInfo{}, fmt.Errorf("%w: %s", room.ErrNoSession, s.id)
	}
	return room.SessionInfo{ID: s.id, Client: s.client, Permission: s.grant.Permission, Metadata: s.grant.Metadata}, nil
}

func (s *seat) Leave() {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	s.edge.removeLocked(s)
}

// tell sends a frame, or keeps it until what must go first has come; the
// partition is locked.
func (s *seat) tell(f protocol.Frame) {
	switch {
	case !s.backlog.Building():
		s.socket.Send(f)
	case !s.backlog.Keep(f, f.Len(), room.DefaultMaxWaitingBytes):
		s.edge.inc.stats.slow.Add(1)
		s.edge.closeSeatLocked(s, protocol.CloseSlowConsumer)
	}
}

// built sends the diff, and then what waited for it.
func (s *seat) built(diff protocol.Frame) {
	if !s.backlog.Building() {
		return // the previous owner had sent it, or had begun to
	}
	if !diff.IsZero() {
		s.socket.Send(diff)
	}
	for _, f := range s.backlog.End() {
		s.socket.Send(f)
	}
}

// Receive checks a message and sends it on its way to the room's owner. It
// waits while too much is on its way already.
func (s *seat) Receive(text []byte) {
	if s.edge.inbound.Receive(s, &s.refresher, text) {
		s.edge.inc.stats.received.Add(1)
		s.send(item{kind: itemMessage, room: s.room, session: s.id, text: text})
	}
}

// The methods of a [room.InboundSession].

// Describe says whose session it is.
func (s *seat) Describe() (roomID, session, client string) { return s.room, s.id, s.client }

// Handle refuses what no owner could take.
func (s *seat) Handle(m *protocol.Message) bool {
	if never := s.edge.inc.config.Limits.Refuse(m); never != nil && s.mayWrite() {
		s.Refuse(*never)
		return false
	}
	return true
}

func (s *seat) mayWrite() bool {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	return s.grant.Permission == room.ReadWrite
}

// Regrant sends a grant on its way to the room's owner.
func (s *seat) Regrant(g room.Grant) bool {
	s.send(item{kind: itemRegrant, room: s.room, session: s.id, grant: g})
	return !s.left.Load()
}

// Refuse closes the session's socket, unless the session has left.
func (s *seat) Refuse(c protocol.Close) {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	if !s.left.Load() {
		s.edge.closeSeatLocked(s, c)
	}
}

// Go runs a task of the incarnation's. One that ends takes out all seats before it
// waits for its tasks.
func (s *seat) Go(task func()) bool {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	if s.left.Load() {
		return false
	}
	s.edge.inc.tasks.Go(task)
	return true
}

// send queues an item, of whose text it keeps a copy.
func (s *seat) send(it item) {
	n := it.size()
	if !s.edge.reserve(s, n) {
		return
	}
	it.text = bytes.Clone(it.text)
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	if s.left.Load() {
		s.edge.free(n)
		return
	}
	s.waiting.Add(int64(n))
	s.edge.queueLocked(s.partition, it)
}

// reserve counts n bytes as on their way, as soon as the session and the node may
// have as much. One that has nothing else there may have any number. It reports
// false if the session has left.
func (e *edge) reserve(s *seat, n int) bool {
	if e.tryReserve(s, n) {
		return true
	}
	e.inc.stats.held.Add(1)
	e.space.L.Lock()
	defer e.space.L.Unlock()
	e.waiters++
	defer func() { e.waiters-- }()
	for !s.left.Load() {
		if e.tryReserve(s, n) {
			return true
		}
		e.space.Wait()
	}
	return false
}

func (e *edge) tryReserve(s *seat, n int) bool {
	if mine := int(s.waiting.Load()); mine > 0 && mine+n > e.inc.config.MaxSessionBytes {
		return false
	}
	for {
		all := e.buffered.Load()
		if all > 0 && int(all)+n > e.inc.config.MaxBufferBytes {
			return false
		}
		if e.buffered.CompareAndSwap(all, all+int64(n)) {
			return true
		}
	}
}

// free counts n bytes as not on their way any more.
func (e *edge) free(n int) {
	e.buffered.Add(-int64(n))
	e.space.L.Lock()
	defer e.space.L.Unlock()
	if e.waiters > 0 {
		e.space.Broadcast()
	}
}
