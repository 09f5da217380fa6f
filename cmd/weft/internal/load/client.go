package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// client is one connection.
type client struct {
	// Fixed after construction.
	cfg      *Config
	rec      *recorder
	room, id string
	counts   bool // its deliveries are measured
	mask     [4]byte
	conn     wire
	synced   chan struct{} // closed when the server has said `synced`
	acked    chan struct{} // receives for every ack of a seeding patch
	ended    chan struct{} // closed when nothing is received any more

	// Owned by whoever receives.
	frames   frames
	isSynced bool
	handle   func(ws.OpCode, []byte, bool)
	scratch  *scratch // of the current piece of input
	now      int64    // when that was read
	tally    tally
	closed   error // a closedError, once the server has sent a close frame

	closing atomic.Bool // we ended it: its end is no error
	lost    atomic.Bool // it has ended or cannot be written to
}

// tally is what one piece of input amounted to. It is added up before it goes to the recorder's
// shared counters.
type tally struct{ delivered, acks, arrivals int64 }

// dial connects a client and says hello. The caller then waits for c.synced, and closes c in any case.
func dial(ctx context.Context, cfg *Config, rec *recorder, rx *receivers, room, id, hello string, counts bool, source net.IP) (*client, error) {
	c := &client{
		cfg: cfg, rec: rec, room: room, id: id, counts: counts,
		synced: make(chan struct{}), acked: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if _, err := rand.Read(c.mask[:]); err != nil {
		return nil, err
	}
	c.handle = c.message
	target, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: url", ErrConfig)
	}
	query := target.Query()
	query.Set("roomId", room)
	query.Set("clientId", id)
	query.Set("token", cfg.Token(room, id))
	target.RawQuery = query.Encode()

	dialer := ws.Dialer{NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{KeepAlive: -1} // ten thousand of them need no probes
		if source != nil {
			d.LocalAddr = &net.TCPAddr{IP: source}
		}
		return d.DialContext(ctx, network, addr)
	}}
	conn, buffered, _, err := dialer.Dial(ctx, target.String())
	if err != nil {
		return nil, err
	}
	var early []byte // frames that came together with the handshake's answer
	if buffered != nil {
		peeked, _ := buffered.Peek(buffered.Buffered()) // cannot fail: no more than there is
		early = bytes.Clone(peeked)
		ws.PutReader(buffered)
	}
	if err := attach(c, rx, conn, early); err != nil {
		conn.Close()
		return nil, err
	}
	var out bytes.Buffer
	if err := c.write(&out, ws.OpText, []byte(hello)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// write sends one frame, using buf for its bytes. It may be called from several goroutines, each
// with its own buf.
func (c *client) write(buf *bytes.Buffer, op ws.OpCode, payload []byte) error {
	buf.Reset()
	header := ws.Header{Fin: true, OpCode: op, Masked: true, Mask: c.mask, Length: int64(len(payload))}
	if err := ws.WriteHeader(buf, header); err != nil {
		return err
	}
	start := buf.Len()
	buf.Write(payload)
	ws.Cipher(buf.Bytes()[start:], c.mask, 0)
	_, err := c.conn.Write(buf.Bytes())
	return err
}

// finish is called once, when no more input will be processed, with the reason.
func (c *client) finish(err error) {
	c.lost.Store(true)
	var closed closedError
	switch {
	case c.closing.Load():
	case errors.As(err, &closed):
		c.rec.fail(closed.Error())
	default:
		c.rec.fail("read: " + reason(err))
	}
	close(c.ended)
}

// closedError is the code of a close frame that the server sent.
type closedError ws.StatusCode

func (e closedError) Error() string { return "closed " + strconv.Itoa(int(e)) }

// process handles one piece of input. All frames in it arrived at one time: that of the read.
func (c *client) process(b []byte, s *scratch) error {
	c.scratch, c.now, c.tally = s, c.rec.now(), tally{}
	err := c.frames.feed(b, c.handle)
	r := c.rec
	if c.tally != (tally{}) {
		r.delivered.Add(c.tally.delivered)
		r.acks.Add(c.tally.acks)
		r.arrivals.Add(c.tally.arrivals)
	}
	if r.inWindow(c.now) {
		r.bytes.Add(int64(len(b)))
	}
	c.scratch = nil
	if err == nil {
		err = c.closed
	}
	return err
}

// message handles one message or control frame.
func (c *client) message(op ws.OpCode, payload []byte, whole bool) {
	switch op {
	case ws.OpPing:
		var out bytes.Buffer
		// A pong that cannot be written means that the connection has ended, which the reader sees.
		_ = c.write(&out, ws.OpPong, payload)
		return
	case ws.OpText:
	case ws.OpClose:
		code, _ := ws.ParseCloseFrameData(payload)
		c.closed = closedError(code)
		return
	default:
		return
	}
	switch kindOf(payload) {
	case kindPatch:
		// Before `synced`, patches are what the room already held, not deliveries.
		if c.counts && c.isSynced && whole {
			c.deliveries(payload)
		}
	case kindAck:
		tag, ok := ackTag(payload)
		if !ok {
			select {
			case c.acked <- struct{}{}:
			default:
			}
		} else if c.rec.inWindow(tag) {
			c.tally.acks++
			record(c.scratch.ack, c.now-tag)
		}
	case kindSynced:
		if !c.isSynced {
			c.isSynced = true
			close(c.synced)
		}
	case kindMismatch:
		c.rec.fail("version mismatch")
	}
}

func (c *client) deliveries(payload []byte) {
	s := c.scratch
	s.tags = tags(s.tags[:0], payload)
	if c.rec.inWindow(c.now) {
		c.tally.arrivals += int64(len(s.tags))
	}
	for _, tag := range s.tags {
		if c.rec.inWindow(tag) {
			c.tally.delivered++
			record(s.delivery, c.now-tag)
		}
	}
}

// sync waits until the server has answered the client's first frame.
func (c *client) sync(ctx context.Context) error {
	select {
	case <-c.synced:
		return nil
	case <-c.ended:
		return errors.New("connection ended before it was synced")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the connection as a browser does that leaves, and awaits the end of the receiving.
func (c *client) close() {
	c.closing.Store(true)
	var out bytes.Buffer
	_ = c.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_ = c.write(&out, ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
	_ = c.conn.Close()
}

// closeAll ends every client, some at a time.
func closeAll(clients []*client) {
	work := make(chan *client)
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for c := range work {
				c.close()
			}
		})
	}
	for _, c := range clients {
		if c != nil {
			work <- c
		}
	}
	close(work)
	wait.Wait()
}
