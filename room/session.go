package room

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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

// keepParserBelow is up to which length of a message its parser's buffers are
// worth keeping.
const keepParserBelow = 1 << 20

func (s *localSession) Receive(text []byte) {
	r := s.room
	parser := r.parsers.Get().(*protocol.Parser)
	m, err := parser.Parse(text)
	switch violation := (*protocol.Violation)(nil); {
	case errors.As(err, &violation):
		r.manager.stats.violations.Add(1)
		r.config.Logger.Info("a message has the wrong shape; its sender is closed", "room", r.id, "session", s.seat.id, "at", violation.Member)
		_ = r.Disconnect(s.seat.id, violation.Close()) // it may have left
	case m.Kind == protocol.AuthRefresh:
		r.refresh(s.seat, m.Token)
	case m.Kind != protocol.Ignored:
		r.manager.stats.received.Add(1)
		r.callbacks.wait(r.manager.ctx.Done())
		r.apply(Event{Kind: Received, Session: s.seat.id, Message: m})
	}
	if len(text) < keepParserBelow {
		r.parsers.Put(parser)
	}
}

// TokenRefresh is a client's request to be authorized anew.
type TokenRefresh struct {
	// Context ends when the room's manager closes or the time for
	// authorization is over.
	Context context.Context
	Room    string
	Session string
	Client  string
	// Token is what the client sent, perhaps empty. It must not be logged.
	Token string
}

// refresh is a session's authorization in progress. One runs at a time; of the
// tokens that come meanwhile the last is used.
type refresh struct {
	authorize func(TokenRefresh) (Grant, error)
	running   bool
	next      *string
}

// refresh authorizes a session with a new token and changes its grant, or
// closes it if the token is refused. Without anyone to ask it does nothing.
func (r *Room) refresh(s *seat, token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.refresh.authorize == nil {
		s.refresh.authorize = r.config.OnTokenRefresh
	}
	if s.refresh.authorize == nil || r.closed || r.seats[s.id] != s {
		return
	}
	if s.refresh.running {
		s.refresh.next = &token
		return
	}
	s.refresh.running = true
	client, _, _ := r.state.Session(s.id)
	r.manager.tasks.Go(func() { r.authorize(s, client, token) })
}

// authorize asks until no newer token has come.
func (r *Room) authorize(s *seat, client, token string) {
	for {
		grant, err := r.ask(s, client, token)
		if !r.authorized(s, grant, err) {
			return
		}
		r.mu.Lock()
		next := s.refresh.next
		if r.seats[s.id] != s {
			next = nil // nobody is left to be authorized
		}
		s.refresh.next = nil
		s.refresh.running = next != nil
		r.mu.Unlock()
		if next == nil {
			return
		}
		token = *next
	}
}

// ask asks once and survives the authorizer's panic.
func (r *Room) ask(s *seat, client, token string) (grant Grant, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the authorizer panicked: %T", p)
			r.config.Logger.Error("an authorizer panicked", "room", r.id, "session", s.id, "panic", fmt.Sprintf("%T", p))
		}
	}()
	ctx, cancel := context.WithTimeout(r.manager.ctx, r.config.AuthorizeTimeout)
	defer cancel()
	return s.refresh.authorize(TokenRefresh{Context: ctx, Room: r.id, Session: s.id, Client: client, Token: token})
}

// authorized carries out one answer and reports whether the session stays.
func (r *Room) authorized(s *seat, grant Grant, err error) bool {
	if err == nil && !grant.Permission.Valid() {
		err = errors.New("the authorizer granted no valid permission")
	}
	if err != nil {
		r.config.Logger.Info("a token refresh was refused; the session is closed", "room", r.id, "session", s.id)
		_ = r.Disconnect(s.id, protocol.PolicyViolation(ClientReason(err)))
		return false
	}
	r.apply(Event{Kind: Regrant, Session: s.id, Grant: grant})
	return true
}

// ClientReason is what a client is told of an authorizer's error. Only words
// that were made for it are shown, by a method ClientReason() string of an
// error in the chain; anything else might say more than a client should know.
func ClientReason(err error) string {
	var told interface{ ClientReason() string }
	if errors.As(err, &told) {
		return told.ClientReason()
	}
	return "authorization failed"
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

// defaultAuthorizeTimeout is how long an authorizer may take on a refresh.
const defaultAuthorizeTimeout = 10 * time.Second
