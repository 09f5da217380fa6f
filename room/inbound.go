package room

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// Inbound takes what the sockets of sessions send, wherever their rooms are: it
// reads messages, closes who sends one of the wrong shape, and authorizes
// sessions anew. Rooms use it, and so does a node of a cluster for the sessions
// of rooms that other nodes own. It is safe for concurrent use.
type Inbound struct {
	ctx     context.Context
	config  InboundConfig
	parsers sync.Pool
}

// InboundConfig says how an [Inbound] reads and authorizes. All must be set.
type InboundConfig struct {
	Limits           protocol.Limits
	AuthorizeTimeout time.Duration
	Logger           *slog.Logger
	Violations       *atomic.Int64 // counts messages of the wrong shape
}

// InboundSession is a session as an [Inbound] sees it.
type InboundSession interface {
	// Describe says whose session it is.
	Describe() (roomID, session, client string)
	// Handle handles a message, which is good only until it returns, and
	// reports whether the session takes it.
	Handle(m *protocol.Message) bool
	// Regrant changes the session's grant, and reports whether it is still there.
	Regrant(g Grant) bool
	// Refuse closes the session's socket, and the session leaves.
	Refuse(c protocol.Close)
	// Go runs a task that the session's room or node waits for before it ends. It
	// reports false, and does nothing, if the session has left.
	Go(task func()) bool
}

// NewInbound returns an Inbound whose authorizations end with a context.
func NewInbound(ctx context.Context, c InboundConfig) *Inbound {
	in := &Inbound{ctx: ctx, config: c}
	in.parsers.New = func() any { return protocol.NewParser(c.Limits) }
	return in
}

// keepParserBelow is up to which length of a message its parser's buffers are
// worth keeping.
const keepParserBelow = 1 << 20

// Receive reads the text of one message of a session, which it does not keep, and
// sees to it. It reports whether it was one for the room that the session took.
func (in *Inbound) Receive(s InboundSession, r *Refresher, text []byte) (taken bool) {
	parser := in.parsers.Get().(*protocol.Parser)
	m, err := parser.Parse(text)
	switch violation := (*protocol.Violation)(nil); {
	case errors.As(err, &violation):
		in.config.Violations.Add(1)
		roomID, session, _ := s.Describe()
		in.config.Logger.Info("a message has the wrong shape; its sender is closed", "room", roomID, "session", session, "at", violation.Member)
		s.Refuse(violation.Close())
	case m.Kind == protocol.AuthRefresh:
		r.refresh(in, s, m.Token)
	case m.Kind != protocol.Ignored:
		taken = s.Handle(m)
	}
	if len(text) < keepParserBelow {
		in.parsers.Put(parser)
	}
	return taken
}

// TokenRefresh is a client's request to be authorized anew.
type TokenRefresh struct {
	// Context ends when the manager or node closes, or the time for
	// authorization is over. The answer counts for nothing after that, and
	// nobody waits for it.
	Context context.Context
	Room    string
	Session string
	Client  string
	// Token is what the client sent, perhaps empty. It must not be logged.
	Token string
}

// Refresher is the authorization of one session. One runs at a time; of the
// tokens that come meanwhile the last is used.
type Refresher struct {
	// Authorize is asked for a new grant; nil means that tokens are passed over.
	// It is set before the session receives anything.
	Authorize func(TokenRefresh) (Grant, error)

	mu      sync.Mutex // taken before any lock of the session's room or node
	running bool
	next    *string
}

// refresh authorizes a session with a new token and changes its grant, or closes
// it if the token is refused.
func (r *Refresher) refresh(in *Inbound, s InboundSession, token string) {
	if r.Authorize == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		r.next = &token
		return
	}
	r.running = s.Go(func() { r.run(in, s, token) })
}

// run asks until no newer token has come, or nobody is left to be authorized.
func (r *Refresher) run(in *Inbound, s InboundSession, token string) {
	for {
		stays := r.authorize(in, s, token)
		r.mu.Lock()
		next := r.next
		r.next = nil
		r.running = next != nil && stays
		again := r.running
		r.mu.Unlock()
		if !again {
			return
		}
		token = *next
	}
}

// authorize asks once and carries out the answer. It reports whether the session stays.
func (r *Refresher) authorize(in *Inbound, s InboundSession, token string) bool {
	t := TokenRefresh{Token: token}
	t.Room, t.Session, t.Client = s.Describe()
	grant, err := r.ask(in, t)
	if err == nil && !grant.Permission.Valid() {
		err = errors.New("the authorizer granted no valid permission")
	}
	if err != nil {
		in.config.Logger.Info("a token refresh was refused; the session is closed", "room", t.Room, "session", t.Session)
		s.Refuse(protocol.PolicyViolation(ClientReason(err)))
		return false
	}
	return s.Regrant(grant)
}

// ask asks once. It survives an authorizer that panics, and does not wait for one
// that does not heed its context's end: whoever has the session must be able to
// close.
func (r *Refresher) ask(in *Inbound, t TokenRefresh) (Grant, error) {
	ctx, cancel := context.WithTimeout(in.ctx, in.config.AuthorizeTimeout)
	defer cancel()
	t.Context = ctx
	type answer struct {
		grant Grant
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				// Not the panic's own words: they may quote the token.
				a = answer{err: fmt.Errorf("the authorizer panicked: %T", p)}
				in.config.Logger.Error("an authorizer panicked", "room", t.Room, "session", t.Session, "panic", fmt.Sprintf("%T", p))
			}
			answers <- a
		}()
		a.grant, a.err = r.Authorize(t)
	}()
	select {
	case a := <-answers:
		return a.grant, a.err
	case <-ctx.Done():
		return Grant{}, ctx.Err()
	}
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

// defaultAuthorizeTimeout is how long an authorizer may take on a refresh.
const defaultAuthorizeTimeout = 10 * time.Second
