package room

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// Session is one client's connection to a room, as whoever holds the socket
// sees it. It is safe for concurrent use, but messages take effect in the order
// in which Receive is called with them.
type Session interface {
	// ID is the session's id, unique among all that ever were.
	ID() string
	// Receive handles the text of one message, which it does not keep. A
	// message of the wrong shape closes the socket.
	Receive(text []byte)
	// Info describes the session; the error says that it has left.
	Info() (SessionInfo, error)
	// Leave removes the session from the room. It may be called again.
	Leave()
}

func newSessionID() string { return rand.Text() }

type localSession struct {
	room *Room
	seat *seat
}

func (s *localSession) ID() string                 { return s.seat.id }
func (s *localSession) Leave()                     { s.room.leave(s.seat) }
func (s *localSession) Info() (SessionInfo, error) { return s.room.Session(s.seat.id) }

func (s *localSession) Receive(text []byte) {
	s.room.inbound.Receive(s, &s.seat.refresher, text)
}

// The methods of an [InboundSession].

// Describe says whose session it is; after it has left, of no client.
func (s *localSession) Describe() (roomID, session, client string) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	client, _, _ = s.room.state.Session(s.seat.id)
	return s.room.id, s.seat.id, client
}

// Handle applies a message.
func (s *localSession) Handle(m *protocol.Message) bool {
	r := s.room
	r.manager.stats.received.Add(1)
	r.callbacks.wait(r.manager.ctx.Done())
	e := Event{Kind: Received, Session: s.seat.id, Message: m}
	if m.Kind == protocol.Reconnect {
		e.Now = Clock(time.Now())
	}
	r.apply(e)
	return true
}

// Regrant changes the session's grant.
func (s *localSession) Regrant(g Grant) bool {
	s.room.mu.Lock()
	defer s.room.unlock()
	if !s.hereLocked() {
		return false
	}
	s.room.applyLocked(Event{Kind: Regrant, Session: s.seat.id, Grant: g})
	return s.hereLocked()
}

// Refuse closes the session's socket, unless the session has left.
func (s *localSession) Refuse(c protocol.Close) {
	_ = s.room.Disconnect(s.seat.id, c) // it may have left
}

// Go runs a task of the manager's, unless the session has left.
func (s *localSession) Go(task func()) bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if !s.hereLocked() {
		return false
	}
	s.room.manager.tasks.Go(task)
	return true
}

func (s *localSession) hereLocked() bool {
	return !s.room.closed && s.room.seats[s.seat.id] == s.seat
}

// SessionRemoved says which session has left a room.
type SessionRemoved struct {
	Session   string
	Client    string
	Remaining int // sessions
}

// DocumentPatch is a change to a document, after it was applied.
type DocumentPatch struct {
	Session   string
	Client    string
	Timestamp int64
	// Patches is the list of patches as it came, JSON.
	Patches json.RawMessage
}
