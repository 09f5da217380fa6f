package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
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

	waiting atomic.Int64 // bytes that are not confirmed
	left    atomic.Bool

	// guarded by partition.mu
	joined bool // what the room says is for it from here on
	grant  room.Grant
	// While its owner builds a large diff for it, what comes after it waits.
	building  bool
	held      []protocol.Frame
	heldBytes int

	refreshing sync.Mutex
	authorize  func(room.TokenRefresh) (room.Grant, error)
	running    bool
	next       *string // the newest token that came meanwhile
}

func newSeat(e *edge, p *edgePartition, roomID string, o room.ConnectOptions) *seat {
	return &seat{
		edge: e, partition: p, id: rand.Text(), room: roomID, client: o.Client,
		socket: o.Socket, grant: o.Grant, authorize: o.OnTokenRefresh,
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

// maxHeld is how many bytes wait behind a diff that is being built. A session
// for which there is more comes back and gets another diff.
const maxHeld = 8 << 20

// tell sends a frame, or keeps it until what must go first has come; the
// partition is locked.
func (s *seat) tell(f protocol.Frame) {
	if !s.building {
		s.socket.Send(f)
		return
	}
	if s.heldBytes += f.Len(); s.heldBytes > maxHeld {
		s.edge.inc.stats.slow.Add(1)
		s.edge.closeSeatLocked(s, protocol.CloseSlowConsumer)
		return
	}
	s.held = append(s.held, f)
}

// built sends the diff, and then what waited for it.
func (s *seat) built(diff protocol.Frame) {
	if !s.building {
		return // the owner before had sent it, or had begun to
	}
	if !diff.IsZero() {
		s.socket.Send(diff)
	}
	for _, f := range s.held {
		s.socket.Send(f)
	}
	s.building, s.held, s.heldBytes = false, nil, 0
}

// keepParserBelow is up to which length of a message its parser's buffers are
// worth keeping.
const keepParserBelow = 1 << 20

// Receive checks a message and sends it on its way to the room's owner. It
// waits while too much is on its way already.
func (s *seat) Receive(text []byte) {
	e := s.edge
	parser := e.parsers.Get().(*protocol.Parser)
	m, err := parser.Parse(text)
	violation := (*protocol.Violation)(nil)
	kind, token := protocol.Ignored, ""
	if err == nil {
		kind, token = m.Kind, m.Token
	}
	if len(text) < keepParserBelow {
		e.parsers.Put(parser)
	}
	switch {
	case errors.As(err, &violation):
		e.inc.stats.violations.Add(1)
		e.inc.log.Info("a message has the wrong shape; its sender is closed", "room", s.room, "session", s.id, "at", violation.Member)
		s.close(violation.Close())
	case kind == protocol.AuthRefresh:
		s.refresh(token)
	case kind != protocol.Ignored:
		e.inc.stats.received.Add(1)
		s.send(item{kind: itemMessage, room: s.room, session: s.id, text: text})
	}
}

func (s *seat) close(c protocol.Close) {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	if !s.left.Load() {
		s.edge.closeSeatLocked(s, c)
	}
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

// refresh authorizes the session with a new token and changes its grant, or
// closes it if the token is refused. One authorization runs at a time; of the
// tokens that come meanwhile the last is used.
func (s *seat) refresh(token string) {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if s.authorize == nil || s.left.Load() {
		return
	}
	if s.running {
		s.next = &token
		return
	}
	s.partition.mu.Lock() // an incarnation that ends takes out all seats before it waits for its tasks
	defer s.partition.mu.Unlock()
	if !s.left.Load() {
		s.running = true
		s.edge.inc.tasks.Go(func() { s.authorizeAll(token) })
	}
}

func (s *seat) authorizeAll(token string) {
	for {
		grant, err := s.askOnce(token)
		if err == nil && !grant.Permission.Valid() {
			err = errors.New("the authorizer granted no valid permission")
		}
		if err != nil {
			s.edge.inc.log.Info("a token refresh was refused; the session is closed", "room", s.room, "session", s.id)
			s.close(protocol.PolicyViolation(room.ClientReason(err)))
		} else {
			s.send(item{kind: itemRegrant, room: s.room, session: s.id, grant: grant})
		}
		s.refreshing.Lock()
		next := s.next
		s.next = nil
		s.running = next != nil && !s.left.Load()
		again := s.running
		s.refreshing.Unlock()
		if !again {
			return
		}
		token = *next
	}
}

// askOnce survives an authorizer that panics, and does not wait for one that
// does not heed its context's end: a node must be able to leave.
func (s *seat) askOnce(token string) (room.Grant, error) {
	ctx, cancel := context.WithTimeout(s.edge.inc.ctx, s.edge.inc.config.AuthorizeTimeout)
	defer cancel()
	type answer struct {
		grant room.Grant
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a = answer{err: fmt.Errorf("the authorizer panicked: %T", p)}
				s.edge.inc.log.Error("an authorizer panicked", "room", s.room, "session", s.id, "panic", fmt.Sprintf("%T", p))
			}
			answers <- a
		}()
		a.grant, a.err = s.authorize(room.TokenRefresh{Context: ctx, Room: s.room, Session: s.id, Client: s.client, Token: token})
	}()
	select {
	case a := <-answers:
		return a.grant, a.err
	case <-ctx.Done():
		return room.Grant{}, ctx.Err()
	}
}
