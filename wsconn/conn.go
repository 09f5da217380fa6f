package wsconn

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/room/protocol"
)

// conn is one WebSocket. It is the [room.Socket] of its session.
type conn struct {
	// fixed after construction
	server *Server
	client *Connection
	net    socket // fixed when the connection opens

	// owned by the reader
	in reader

	// read by the keeper; nanoseconds since the server began
	lastRead   atomic.Int64 // something came in
	lastPing   atomic.Int64
	pingSent   atomic.Int64 // plus one; 0: no ping is unanswered
	writeSince atomic.Int64 // plus one; 0: no write is under way
	grown      atomic.Bool  // the reader has handled messages since it began
	handling   atomic.Bool  // the reader is not reading: its room handles a message

	// tasks are the writer, the gathering timer and the closer; the reader
	// waits for them before it ends.
	tasks sync.WaitGroup

	mu sync.Mutex
	outbox
	drained   chan struct{} // closed when closing and nothing is left to write
	closing   bool          // the close frame is queued, nothing goes behind it
	isDrained bool
	retire    uint32 // fixed: in retireTicks since the server began, when it is too old; 0: never
}

const retireTick = 100 * time.Millisecond

// Send queues a message. A queue that would grow beyond its bound closes the
// socket instead: its client comes back and gets what it missed as a diff.
func (c *conn) Send(f protocol.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	if !c.admit(f.Wire(), c.server.config.MaxQueueBytes) {
		c.closeLocked(protocol.CloseSlowConsumer, closedSlow)
		return
	}
	if f.Soft() {
		c.wakeLocked(soft)
	} else {
		c.wakeLocked(soon)
	}
}

// Close sends what is queued, then the close frame, and ends the connection
// when the peer has answered, or has had the time to.
func (c *conn) Close(why protocol.Close) {
	reason := closedByRoom
	if why.Code == protocol.CodeRestart && c.server.draining.Load() {
		reason = closedDrained // by a node of a cluster, which drains its sockets itself
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why, reason)
}

// closeLocked begins the close that the server wants. The session leaves at
// once, whatever becomes of the socket.
func (c *conn) closeLocked(why protocol.Close, reason closeReason) {
	if c.closing {
		return
	}
	c.server.metrics.closes[reason].Inc()
	if reason == closedSlow {
		c.drop()
	}
	c.queueCloseLocked(ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(why.Code), fitReason(why.Reason)))))
	c.tasks.Go(func() {
		c.client.leave()
		<-c.drained
		if c.net.Conn == nil {
			return // abandoned
		}
		// Nothing comes after the close frame. A peer that is told so need not
		// wait for us, who may be past reading its answer.
		if half, ok := c.net.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_ = c.net.SetReadDeadline(time.Now().Add(c.server.config.closeTimeout))
	})
}

// fitReason makes of an application's words what a close frame can carry.
func fitReason(reason string) string {
	return protocol.CutReason(strings.ToValidUTF8(reason, "\uFFFD"))
}

func (c *conn) queueCloseLocked(frame []byte) {
	c.closing = true
	c.control(frame)
	c.wakeLocked(urgent)
}

// open starts the writer, if there is something to write or to end already.
func (c *conn) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if !c.empty() || c.closing {
		c.startLocked()
	}
}

// abandon ends a connection that has never been opened: its session leaves.
func (c *conn) abandon() {
	c.mu.Lock()
	c.drop()
	c.closing, c.writing = true, false
	if !c.isDrained {
		c.isDrained = true
		close(c.drained)
	}
	c.mu.Unlock()
	c.client.OnClose()
	c.tasks.Wait()
}

// cut ends the connection without a close frame, which would not get through.
func (c *conn) cut(reason closeReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
	if !c.closing {
		c.closing = true
		c.server.metrics.closes[reason].Inc()
	}
	_ = c.net.Close() // which the reader sees, and the writer if there is one
	c.wakeLocked(urgent)
}

// closeWith is closeLocked for the reader, which found the reason.
func (c *conn) closeWith(why protocol.Close, reason closeReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why, reason)
}

// echo answers the peer's close frame: with the same code, or with what is
// wrong with it.
func (c *conn) echo(body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return // it answered ours
	}
	code, reason := ws.ParseCloseFrameData(body)
	switch {
	case len(body) == 0:
	case !validCloseCode(code):
		c.closeLocked(protocol.Close{Code: protocol.CodeProtocolError, Reason: "close code is not valid"}, closedBadFrame)
		return
	case !utf8.ValidString(reason):
		c.closeLocked(protocol.CloseInvalidText, closedBadText)
		return
	default:
		body = ws.NewCloseFrameBody(code, "")
	}
	c.server.metrics.closes[closedByPeer].Inc()
	c.queueCloseLocked(ws.MustCompileFrame(ws.NewCloseFrame(body)))
}

// validCloseCode reports whether a peer may send the code: it is a registered
// one that is not reserved for what no frame says, or a private one.
func validCloseCode(code ws.StatusCode) bool {
	switch code {
	case 1004, 1005, 1006:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}

// pong answers a ping.
func (c *conn) pong(body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	// One answer stands for all the pings that came while it waited.
	c.answer = ws.MustCompileFrame(ws.NewPongFrame(body))
	c.wakeLocked(urgent)
}

// read is the connection's life: it ends when the connection has.
//
// Handling a message takes more stack than waiting for one, and a stack that
// has grown stays so. When the socket has been quiet, a new reader on a fresh
// stack takes over: an idle connection costs 6 KB with it and 8 KB without.
func (c *conn) read() {
	why := stillOpen
	for why == stillOpen {
		switch err := c.in.wait(c); err {
		case nil:
			why = c.in.frame(c)
		case errQuiet: //nolint:errorlint // wait does not wrap it
			c.in.shed()
			c.grown.Store(false)
			c.server.tasks.Go(c.read)
			return
		default:
			why = closedGone
		}
	}
	c.in.release()
	c.end(why)
	c.server.forget(c)
}

// interrupt makes the reader notice that the socket is quiet.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return // the deadline is the close's
	}
	_ = c.net.SetReadDeadline(time.Now())
	if !c.writing && c.slot == 0 {
		c.queue = nil
	}
}

// end sees the connection off.
func (c *conn) end(why closeReason) {
	c.client.OnClose()
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if !closing {
		c.cut(why) // the peer is gone without a word: there is nobody to write to
	}
	<-c.drained
	_ = c.net.Close()
	c.tasks.Wait()
}
