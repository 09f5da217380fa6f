package cluster

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// steadyConn is a connection to Redis on which what is large has the time that it
// needs. The library gives a whole reply, or a whole request, one deadline. Over a
// slow link a large one would never make it, be tried again for ever, and be in
// everybody's way. Here every byte that moves puts the deadline off, as long as
// there are steadyRate of them a second; a connection on which nothing moves for
// a role's timeout is as dead as ever.
//
// So the deadline of a context may be passed by what is well under way.
type steadyConn struct {
	net.Conn
	readStall, writeStall time.Duration

	readBy, writeBy time.Time // zero: no deadline
}

const (
	// steadyRate is how many bytes a second are progress.
	steadyRate = 256 << 10
	// steadyPiece is how much is written between two looks at the clock.
	steadyPiece = 64 << 10
	// sendBuffer bounds what waits in the kernel when a write seems to be over and
	// the time for the reply begins.
	sendBuffer = 256 << 10
)

// steadyDialer dials like the library, and makes the connections steady.
func steadyDialer(o *redis.UniversalOptions) func(context.Context, string, string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: o.DialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	dial, read, write := dialer.DialContext, o.ReadTimeout, o.WriteTimeout
	if o.TLSConfig != nil {
		dial = (&tls.Dialer{NetDialer: dialer, Config: o.TLSConfig}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		limitSendBuffer(conn)
		return &steadyConn{Conn: conn, readStall: read, writeStall: write}, nil
	}
}

func limitSendBuffer(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if c, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = c.SetWriteBuffer(sendBuffer) // without it, slow links get a little less time
	}
}

// NetConn returns the connection below, through which the library looks whether an
// idle one is still open.
func (c *steadyConn) NetConn() net.Conn { return c.Conn }

func (c *steadyConn) SetDeadline(t time.Time) error {
	c.readBy, c.writeBy = t, t
	return c.Conn.SetDeadline(t)
}

func (c *steadyConn) SetReadDeadline(t time.Time) error {
	c.readBy = t
	return c.Conn.SetReadDeadline(t)
}

func (c *steadyConn) SetWriteDeadline(t time.Time) error {
	c.writeBy = t
	return c.Conn.SetWriteDeadline(t)
}

func (c *steadyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if by := putOff(c.readBy, n, c.readStall); by.After(c.readBy) {
		c.readBy = by
		_ = c.Conn.SetReadDeadline(by) // fails only if it is closed, as the next Read says
	}
	return n, err
}

func (c *steadyConn) Write(b []byte) (written int, err error) {
	for {
		n, err := c.Conn.Write(b[:min(len(b), steadyPiece)])
		written += n
		if b = b[n:]; err != nil || len(b) == 0 {
			return written, err
		}
		if by := putOff(c.writeBy, n, c.writeStall); by.After(c.writeBy) {
			c.writeBy = by
			_ = c.Conn.SetWriteDeadline(by)
		}
	}
}

// putOff returns the deadline after n bytes have moved.
func putOff(by time.Time, n int, stall time.Duration) time.Time {
	if by.IsZero() || n <= 0 {
		return by
	}
	by = by.Add(time.Duration(n) * time.Second / steadyRate)
	if latest := time.Now().Add(stall); by.After(latest) {
		return latest
	}
	return by
}
