package load

import (
	"io"
	"net"
	"time"
)

// wire is a connection as a client uses it. Writes may come from several goroutines: each ends up
// in one piece. Close ends the receiving too, and returns when nothing of it runs any more.
type wire interface {
	io.WriteCloser
	SetWriteDeadline(time.Time) error
}

// attach hands conn to whoever will call c.process with what it receives and c.finish when it has
// ended. Where that can be done, it is a receiver that reads many connections (receive_linux.go).
// Otherwise, and for TLS, it is a goroutine of the connection's own.
//
// early is what has been received already. attach sets c.conn, which whoever receives may use at
// once, to answer a ping. On an error it leaves conn to the caller to close.
func attach(c *client, rx *receivers, conn net.Conn, early []byte) error {
	if ok, err := rx.adopt(c, conn, early); ok || err != nil {
		return err
	}
	o := &ownReader{Conn: conn, ended: make(chan struct{})}
	c.conn = o
	go func() {
		defer close(o.ended)
		c.finish(o.read(c, early))
	}()
	return nil
}

// ownReader is a connection with a reader, a buffer and a scratch for each piece of input.
type ownReader struct {
	net.Conn
	ended chan struct{}
}

func (o *ownReader) read(c *client, early []byte) error {
	buf := make([]byte, 8<<10)
	n := copy(buf, early) // it came out of a smaller buffer
	for {
		if n > 0 {
			s := c.rec.borrow()
			err := c.process(buf[:n], s)
			c.rec.giveBack(s)
			if err != nil {
				return err
			}
		}
		var err error
		if n, err = o.Conn.Read(buf); err != nil {
			return err
		}
	}
}

func (o *ownReader) Close() error {
	err := o.Conn.Close()
	<-o.ended
	return err
}
