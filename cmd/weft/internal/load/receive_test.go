package load

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func newTestClient(rec *recorder) *client {
	c := &client{cfg: &Config{}, rec: rec, synced: make(chan struct{}), acked: make(chan struct{}, 1), ended: make(chan struct{})}
	c.handle = c.message
	return c
}

// pair returns the two ends of a connection: over loopback TCP, which a receiver adopts, or of a
// kind that only an own reader can read, as with TLS.
func pair(t *testing.T, tcp bool) (client, server net.Conn) {
	t.Helper()
	if !tcp {
		client, server = net.Pipe()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if server, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func startTestReceivers(t *testing.T, rec *recorder) *receivers {
	t.Helper()
	rx, err := startReceivers(rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rx.stop)
	return rx
}

func within(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(20 * time.Second):
		t.Fatalf("not %s in 20 s", what)
	}
}

func TestBothReadersTakeInEverything(t *testing.T) {
	for name, tcp := range map[string]bool{"receiver": true, "own reader": false} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			rx := startTestReceivers(t, rec)
			mine, theirs := pair(t, tcp)
			c := newTestClient(rec)
			synced := ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"type":"synced","timestamp":1}`)))
			// The beginning came with the handshake's answer.
			if err := attach(c, rx, mine, synced[:7]); err != nil {
				t.Fatal(err)
			}
			if _, err := theirs.Write(synced[7:]); err != nil {
				t.Fatal(err)
			}
			within(t, "synced", c.synced)
			if _, err := theirs.Write(ws.MustCompileFrame(ws.NewPingFrame([]byte("hi")))); err != nil {
				t.Fatal(err)
			}
			pong, err := ws.ReadFrame(theirs)
			if err != nil || pong.Header.OpCode != ws.OpPong || !pong.Header.Masked || string(ws.UnmaskFrameInPlace(pong).Payload) != "hi" {
				t.Errorf("answer to a ping: %+v, %v", pong, err)
			}
			// The last message and the end come together.
			if _, err := theirs.Write(ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"type":"ack","messageId":"seed-1"}`)))); err != nil {
				t.Fatal(err)
			}
			theirs.Close()
			within(t, "ended", c.ended)
			if len(c.acked) != 1 || rec.failures()["read: connection ended"] != 1 {
				t.Errorf("acks %d, errors %v", len(c.acked), rec.failures())
			}
			c.conn.Close()
		})
	}
}

func TestCloseEndsReceivingWithoutAnError(t *testing.T) {
	for name, tcp := range map[string]bool{"receiver": true, "own reader": false} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			rx := startTestReceivers(t, rec)
			mine, theirs := pair(t, tcp)
			c := newTestClient(rec)
			if err := attach(c, rx, mine, nil); err != nil {
				t.Fatal(err)
			}
			said := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(theirs)
				said <- b
			}()
			c.close()
			within(t, "ended", c.ended)
			if b := <-said; len(b) == 0 || ws.OpCode(b[0]&0x0f) != ws.OpClose {
				t.Errorf("said %x, want a close frame", b)
			}
			if len(rec.failures()) != 0 {
				t.Errorf("errors = %v", rec.failures())
			}
			if _, err := c.conn.Write([]byte("x")); err == nil {
				t.Error("can be written to after close")
			}
		})
	}
}

func TestWriteToServerThatDoesNotReadEnds(t *testing.T) {
	rec := newRecorder()
	rx := startTestReceivers(t, rec)
	mine, _ := pair(t, true)
	c := newTestClient(rec)
	if err := attach(c, rx, mine, nil); err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := c.conn.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
}
