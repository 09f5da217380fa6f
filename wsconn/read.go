package wsconn

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/room/protocol"
)

// reader takes frames from a socket. While the socket is quiet it holds
// nothing but a small buffer.
type reader struct {
	buf        []byte // buf[start:end] has been read and not been used
	start, end int
	header     bytes.Reader
	scratch    [ws.MaxHeaderSize]byte

	message    *[]byte // of which only a part is here; nil: none
	fragmented bool    // frames of the message are still to come
}

const (
	quietBuffer = 128
	busyBuffer  = 2 << 10 // for sockets whose messages are larger than that
	keepMessage = 256 << 10
)

var messages = sync.Pool{New: func() any { return new([]byte) }}

// shed gives up what a busy socket needs and a quiet one does not.
func (r *reader) shed() {
	if len(r.buf) > quietBuffer {
		r.buf = make([]byte, quietBuffer)
	}
	r.start, r.end = 0, 0
}

// newReader returns a reader that begins with what has been read already.
func newReader(early []byte) reader {
	r := reader{buf: make([]byte, max(quietBuffer, len(early)))}
	r.end = copy(r.buf, early)
	return r
}

// wait waits until there is something to read. It keeps its hands off the
// stack: this is where idle connections spend their time.
func (r *reader) wait(c *conn) error {
	for r.start == r.end {
		n, err := c.readSome(r.buf)
		r.start, r.end = 0, n
		if err != nil && (err != errQuiet || r.message == nil) { //nolint:errorlint // readSome does not wrap it, and a stack may not grow here
			return err
		}
	}
	return nil
}

// frame reads one frame and handles what it completes. It says why the
// connection must end, if it must.
func (r *reader) frame(c *conn) closeReason {
	h, err := r.readHeader(c)
	if errors.Is(err, ws.ErrHeaderLengthMSB) {
		return r.refuse(c, protocol.Close{Code: protocol.CodeProtocolError, Reason: err.Error()}, closedBadFrame)
	}
	if err != nil {
		return closedGone
	}
	state := ws.StateServerSide
	if r.fragmented {
		state |= ws.StateFragmented
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return r.refuse(c, protocol.Close{Code: protocol.CodeProtocolError, Reason: protocol.CutReason(err.Error())}, closedBadFrame)
	}
	if h.OpCode.IsControl() {
		return r.control(c, h)
	}
	if h.OpCode == ws.OpBinary {
		return r.refuse(c, protocol.CloseBinary, closedBinary)
	}
	if h.Length > int64(c.server.config.MaxMessageBytes-r.messageLen()) { // a sum might overflow
		return r.refuse(c, protocol.CloseTooBig, closedTooBig)
	}
	text, err := r.readData(c, h)
	if err != nil {
		return closedGone
	}
	r.fragmented = !h.Fin
	if r.fragmented {
		return stillOpen
	}
	if !utf8.Valid(text) {
		return r.refuse(c, protocol.CloseInvalidText, closedBadText)
	}
	c.server.metrics.received.Inc()
	c.handling.Store(true)
	c.client.OnMessage(text)
	c.handling.Store(false)
	r.release()
	c.grown.Store(true)
	return stillOpen
}

func (r *reader) control(c *conn, h ws.Header) closeReason {
	body, err := r.payload(c, int(h.Length))
	if err != nil {
		return closedGone
	}
	ws.Cipher(body, h.Mask, 0)
	switch h.OpCode {
	case ws.OpPing:
		c.pong(body)
	case ws.OpClose:
		c.echo(body)
		return closedByPeer
	}
	return stillOpen
}

// refuse closes the connection for what was read, and reads on without looking
// until the peer has closed too: closing a socket with bytes unread would make
// the kernel throw away the close frame.
func (r *reader) refuse(c *conn, why protocol.Close, reason closeReason) closeReason {
	c.closeWith(why, reason)
	for {
		if _, err := c.net.read(r.buf); err != nil {
			return reason
		}
	}
}

func (r *reader) messageLen() int {
	if r.message == nil {
		return 0
	}
	return len(*r.message)
}

// release gives back the message's buffer.
func (r *reader) release() {
	if r.message == nil {
		return
	}
	if cap(*r.message) <= keepMessage {
		*r.message = (*r.message)[:0]
		messages.Put(r.message)
	}
	r.message = nil
}

// readHeader reads the next frame's header.
func (r *reader) readHeader(c *conn) (ws.Header, error) {
	if err := r.need(c, 2); err != nil {
		return ws.Header{}, err
	}
	size := 2
	switch second := r.buf[r.start+1]; second & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if r.buf[r.start+1]&0x80 != 0 {
		size += 4
	}
	if err := r.need(c, size); err != nil {
		return ws.Header{}, err
	}
	r.header.Reset(r.buf[r.start : r.start+size])
	r.start += size
	return ws.ReadHeaderBuffer(&r.header, r.scratch[:])
}

// need waits until n bytes, which fit the buffer, have been read.
func (r *reader) need(c *conn, n int) error {
	for r.end-r.start < n {
		if r.start > 0 && len(r.buf)-r.start < n {
			r.end = copy(r.buf, r.buf[r.start:r.end])
			r.start = 0
		}
		if r.start == r.end {
			r.start, r.end = 0, 0
		}
		got, err := c.readSome(r.buf[r.end:])
		r.end += got
		if err != nil && err != errQuiet { //nolint:errorlint // readSome does not wrap it
			return err
		}
	}
	return nil
}

// payload returns the next n bytes, which fit the buffer.
func (r *reader) payload(c *conn, n int) ([]byte, error) {
	if err := r.need(c, n); err != nil {
		return nil, err
	}
	body := r.buf[r.start : r.start+n]
	r.start += n
	return body, nil
}

// readData reads a data frame's payload and returns the message so far, or the
// whole of it without copying it if it came in one frame that fits the buffer.
func (r *reader) readData(c *conn, h ws.Header) ([]byte, error) {
	n := int(h.Length)
	if n > len(r.buf) && n <= busyBuffer {
		grown := make([]byte, busyBuffer)
		r.end = copy(grown, r.buf[r.start:r.end])
		r.start, r.buf = 0, grown
	}
	if n <= len(r.buf) && h.Fin && !r.fragmented {
		body, err := r.payload(c, n)
		if err == nil {
			ws.Cipher(body, h.Mask, 0)
		}
		return body, err
	}
	if r.message == nil {
		r.message = messages.Get().(*[]byte)
	}
	message := *r.message
	begin := len(message)
	early := min(n, r.end-r.start)
	message = append(message, r.buf[r.start:r.start+early]...)
	r.start += early
	for rest := n - early; rest > 0; {
		if len(message) == cap(message) {
			// Grow with what has come, not with what was announced; and by
			// more than this frame needs, if it is one of many small ones.
			more := max(len(message), busyBuffer)
			if h.Fin {
				more = min(more, rest)
			}
			grown := make([]byte, len(message), len(message)+more)
			copy(grown, message)
			message = grown
		}
		into := message[len(message):min(cap(message), len(message)+rest)]
		got, err := c.readSome(into)
		message = message[:len(message)+got]
		rest -= got
		if err != nil && err != errQuiet { //nolint:errorlint // readSome does not wrap it
			*r.message = message
			return nil, err
		}
	}
	ws.Cipher(message[begin:], h.Mask, 0)
	*r.message = message
	return message, nil
}

// errQuiet interrupts a read of a socket that has been quiet.
var errQuiet = errors.New("the socket is quiet")

// readSome reads what is there, or waits for it. It returns bytes or an error,
// never both.
func (c *conn) readSome(b []byte) (int, error) {
	n, err := c.net.read(b)
	if n > 0 {
		c.lastRead.Store(c.server.now())
		c.server.metrics.receivedBytes.Add(float64(n))
		return n, nil
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closing {
			_ = c.net.SetReadDeadline(time.Time{})
			return 0, errQuiet
		}
	}
	return 0, err
}
