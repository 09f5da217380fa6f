package wsconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// Rooms is where sessions live: a [room.Manager], or a node of a cluster.
type Rooms interface {
	// Connect adds a session to a room, which is loaded if need be. An error
	// that has a method CloseSocket() protocol.Close says what the client is told.
	Connect(ctx context.Context, roomID string, o room.ConnectOptions) (room.Session, error)
}

// ErrConnectionClosed says that the socket closed before the session was ready.
var ErrConnectionClosed = errors.New("socket closed before the session was ready")

// Bounds on what a client may send before its session is ready.
const maxPendingMessages = 1000

// Connection takes one client from its URL to its session and back: it
// authorizes, joins the room, keeps what the client sends meanwhile, and passes
// on what comes after. Its methods may be called concurrently, but messages
// take effect in the order of the calls.
type Connection struct {
	// fixed after construction
	socket     room.Socket
	rooms      Rooms
	authorizer authz.Authorizer
	grace      time.Duration
	maxPending int // bytes
	log        *slog.Logger
	cancel     context.CancelFunc
	ready      chan struct{} // closed when session or err is set

	mu           sync.Mutex
	pending      [][]byte
	pendingBytes int
	session      room.Session
	err          error
	closed       bool
	expiry       *time.Timer

	tasks sync.WaitGroup // the expiry's goroutine, and those of Accept
}

func newConnection(socket room.Socket, rooms Rooms, authorizer authz.Authorizer, grace time.Duration, maxPending int, log *slog.Logger) *Connection {
	return &Connection{
		socket: socket, rooms: rooms, authorizer: authorizer, grace: grace,
		maxPending: maxPending, log: log, cancel: func() {}, ready: make(chan struct{}),
	}
}

// run makes the session for [Accept]. On failure it closes the socket and says why.
func (c *Connection) run(ctx context.Context, query string, request *http.Request, timeout time.Duration) {
	defer close(c.ready)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	c.mu.Lock()
	c.cancel = cancel
	closed := c.closed
	c.mu.Unlock()
	defer func() {
		cancel()
		c.mu.Lock()
		c.cancel = func() {} // lets go of the context
		c.mu.Unlock()
	}()
	if closed {
		c.err = ErrConnectionClosed
		return
	}
	target, err := parseQuery(query)
	var grant room.Grant
	if err == nil {
		grant, err = c.authorize(ctx, authz.Info{RoomID: target.room, ClientID: target.client, Token: target.token, Request: request})
	}
	if err == nil {
		err = c.enter(ctx, target, grant)
	}
	if err == nil {
		return
	}
	c.mu.Lock()
	if c.closed {
		err = ErrConnectionClosed // whatever that made the authorizer or the room say
	}
	c.err = err
	c.pending = nil
	c.mu.Unlock()
	if !errors.Is(err, ErrConnectionClosed) {
		reason := closeFor(err)
		c.log.Info("a connection was refused", "room", cut(target.room, maxLogged), "code", reason.Code, "reason", reason.Reason, "cause", causeOf(err, target.token))
		c.socket.Close(reason)
	}
}

// enter takes a client that has a grant into its room.
func (c *Connection) enter(ctx context.Context, t target, grant room.Grant) error {
	session, err := c.rooms.Connect(ctx, t.room, room.ConnectOptions{
		Socket: c.socket,
		Client: t.client,
		Grant:  grant,
		OnTokenRefresh: func(r room.TokenRefresh) (room.Grant, error) {
			grant, err := c.authorize(r.Context, authz.Info{RoomID: t.room, ClientID: t.client, Token: r.Token})
			if err != nil {
				c.log.Info("a new token was refused", "room", cut(t.room, maxLogged), "cause", causeOf(err, r.Token))
				return grant, err
			}
			c.mu.Lock()
			c.expireLocked(grant.Expires)
			c.mu.Unlock()
			return grant, nil
		},
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		session.Leave()
		return ErrConnectionClosed
	}
	pending := c.pending
	c.session, c.pending = session, nil
	c.expireLocked(grant.Expires)
	c.mu.Unlock()
	// Unlocked, because the room may call the application back. Messages that
	// come meanwhile wait until the session is ready.
	for _, text := range pending {
		session.Receive(text)
	}
	return nil
}

// errAuthorization wraps what an authorizer says.
type errAuthorization struct{ err error }

func (e *errAuthorization) Error() string { return "authorize: " + e.err.Error() }
func (e *errAuthorization) Unwrap() error { return e.err }

func (c *Connection) authorize(ctx context.Context, info authz.Info) (grant room.Grant, err error) {
	defer func() {
		if p := recover(); p != nil {
			// Not the panic's own words: they may quote the token.
			err = &errAuthorization{fmt.Errorf("the authorizer panicked: %T", p)}
		}
	}()
	grant, err = c.authorizer.Authorize(ctx, info)
	if err == nil && !grant.Permission.Valid() {
		err = errors.New("the authorizer granted no valid permission")
	}
	if err != nil {
		return room.Grant{}, &errAuthorization{err}
	}
	return grant, nil
}

// closeFor says to a client why it has no session.
func closeFor(err error) protocol.Close {
	var query *ConnectError
	var refused *errAuthorization
	var told interface{ CloseSocket() protocol.Close }
	switch {
	case errors.As(err, &query):
		return protocol.PolicyViolation(query.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return protocol.Close{Code: protocol.CodeTryLater, Reason: notInTime}
	case errors.As(err, &refused):
		return protocol.PolicyViolation(room.ClientReason(refused.err))
	case errors.As(err, &told):
		return told.CloseSocket()
	case errors.Is(err, room.ErrFull):
		return protocol.CloseRoomFull
	case errors.Is(err, room.ErrClosed):
		return protocol.CloseRestart
	case errors.Is(err, room.ErrBadSnapshot):
		return protocol.Close{Code: protocol.CodeInternal, Reason: "room cannot be loaded: its stored snapshot is unreadable"}
	default:
		return protocol.Close{Code: protocol.CodeInternal, Reason: "room cannot be loaded"}
	}
}

// expireLocked closes the socket some time after the grant has ended, unless
// it is called again before.
func (c *Connection) expireLocked(at time.Time) {
	c.stopExpiryLocked()
	if at.IsZero() || c.closed {
		return
	}
	c.tasks.Add(1)
	c.expiry = time.AfterFunc(time.Until(at)+c.grace, func() {
		defer c.tasks.Done()
		c.socket.Close(protocol.CloseTokenExpired)
	})
}

func (c *Connection) stopExpiryLocked() {
	if c.expiry != nil && c.expiry.Stop() {
		c.tasks.Done()
	}
	c.expiry = nil
}

// Ready waits for the session. The error is the context's, a [*ConnectError],
// [ErrConnectionClosed], or says what the authorizer or the room said; the
// socket has been closed then.
func (c *Connection) Ready(ctx context.Context) (room.Session, error) {
	select {
	case <-c.ready:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.session, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// OnMessage takes the text of a message, which it does not keep. Messages that
// come before the session is ready are handled then; more than 1000 of them, or
// more bytes than one message may have, close the socket.
func (c *Connection) OnMessage(text []byte) {
	c.mu.Lock()
	session := c.session
	if session == nil {
		defer c.mu.Unlock()
		if c.closed || c.err != nil {
			return
		}
		if len(c.pending) >= maxPendingMessages || c.pendingBytes+len(text) > c.maxPending {
			c.closed, c.pending = true, nil
			c.cancel()
			c.socket.Close(protocol.PolicyViolation("too many messages before the session was ready"))
			return
		}
		c.pending = append(c.pending, append([]byte(nil), text...))
		c.pendingBytes += len(text)
		return
	}
	c.mu.Unlock()
	<-c.ready // what came before is handled first
	session.Receive(text)
}

// OnClose tells that the socket has closed; the session leaves its room. It
// waits for the connection's goroutines, of which the authorizer may be one, and
// may be called again.
func (c *Connection) OnClose() {
	c.leave()
	c.tasks.Wait()
}

// leave takes the session from its room, or keeps it from coming to be.
func (c *Connection) leave() {
	c.mu.Lock()
	c.closed = true
	session := c.session
	c.cancel()
	c.stopExpiryLocked()
	c.mu.Unlock()
	if session != nil {
		session.Leave()
	}
}

// OnError tells that the socket has failed, which ends it.
func (c *Connection) OnError(error) { c.OnClose() }

// Session is the session, or nil while it is not ready.
func (c *Connection) Session() room.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}
