package wsconn

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room/protocol"
)

// Socket is a WebSocket of any library.
type Socket interface {
	// Send sends one text message. It may block, but give it a deadline; it is
	// never called twice at the same time. An error means that the socket is
	// of no more use.
	Send(text []byte) error
	// Close sends a close frame and ends the socket. It is called once, when
	// what was sent before is out; that of a slow consumer comes while a Send
	// is still stuck, and ends it. The reason fits a close frame. Close may
	// wait for the peer, but not for OnClose.
	Close(code int, reason string) error
}

// AcceptOptions says who wants to connect. Socket, URL, Rooms and Authorizer
// must be set; the rest means what it means in [Config].
type AcceptOptions struct {
	Socket Socket
	// URL is the request's URL, or its path and query.
	URL string
	// Request is passed to the authorizer; it may be nil.
	Request    *http.Request
	Rooms      Rooms
	Authorizer authz.Authorizer

	HandshakeTimeout time.Duration
	TokenGrace       time.Duration
	MaxMessageBytes  int
	MaxQueueBytes    int
	Logger           *slog.Logger
}

// Accept connects a socket of any library to its room. It returns at once:
// [Connection.Ready] waits for the session. The caller reads the socket and
// calls OnMessage with what it reads, and OnClose when it has closed.
//
// Accept writes to the socket from a goroutine of its own, which ends after
// OnClose. A socket that sends more slowly than the room talks is closed once
// MaxQueueBytes are waiting.
func Accept(ctx context.Context, o AcceptOptions) *Connection {
	config := Config{
		HandshakeTimeout: o.HandshakeTimeout, TokenGrace: o.TokenGrace,
		MaxMessageBytes: o.MaxMessageBytes, MaxQueueBytes: o.MaxQueueBytes, Logger: o.Logger,
	}.withDefaults()
	q := &queuedSocket{socket: o.Socket, bound: config.MaxQueueBytes}
	c := newConnection(q, o.Rooms, o.Authorizer, config.TokenGrace, config.MaxMessageBytes, config.Logger)
	q.client = c
	u, err := url.Parse(o.URL)
	if err != nil {
		c.err = &ConnectError{"invalid-url", "Could not parse connect URL"}
		q.Close(closeFor(c.err))
		close(c.ready)
		return c
	}
	c.tasks.Go(func() { c.run(ctx, u.RawQuery, o.Request, config.HandshakeTimeout) })
	return c
}

// queuedSocket makes a room's socket of one that may block.
type queuedSocket struct {
	socket Socket
	bound  int
	client *Connection

	mu      sync.Mutex
	outbox  // of texts, not of frames
	closing *protocol.Close
	ended   bool // the socket has been told to close
}

func (q *queuedSocket) Send(f protocol.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing != nil {
		return
	}
	if !q.admit(f.Text(), q.bound) {
		q.drop()
		q.closeLocked(protocol.CloseSlowConsumer)
		q.endLocked() // what is being sent may be stuck
		return
	}
	q.wakeLocked()
}

func (q *queuedSocket) Close(why protocol.Close) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closeLocked(why)
}

// closeLocked begins the close. The session leaves at once, whatever becomes
// of the socket.
func (q *queuedSocket) closeLocked(why protocol.Close) {
	if q.closing == nil {
		why.Reason = fitReason(why.Reason)
		q.closing = &why
		q.client.tasks.Go(q.client.leave)
		q.wakeLocked()
	}
}

// endLocked tells the socket to close.
func (q *queuedSocket) endLocked() {
	if q.ended {
		return
	}
	q.ended = true
	why := *q.closing
	q.client.tasks.Go(func() { _ = q.socket.Close(int(why.Code), why.Reason) })
}

func (q *queuedSocket) wakeLocked() {
	if !q.writing {
		q.writing = true
		q.client.tasks.Go(q.write)
	}
}

// write sends what is queued, and then the close, if there is one.
func (q *queuedSocket) write() {
	for err := error(nil); ; {
		q.mu.Lock()
		if err != nil {
			q.drop()
			q.closeLocked(protocol.Close{Code: protocol.CodeGoingAway, Reason: "the socket failed"})
		}
		if q.empty() {
			defer q.mu.Unlock()
			q.writing = false
			if q.closing != nil {
				q.endLocked()
			}
			return
		}
		text := q.pop()
		q.mu.Unlock()
		err = q.socket.Send(text)
	}
}
