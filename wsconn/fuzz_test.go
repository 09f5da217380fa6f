package wsconn_test

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// FuzzRead sends a server arbitrary bytes, in pieces of an arbitrary size: the
// connection ends soon after the bytes do, and takes no more memory than they
// and the limits allow.
func FuzzRead(f *testing.F) {
	for _, script := range [][]byte{
		frame(ws.OpText, true, `{"type":"patch"}`),
		slices.Concat(frame(ws.OpText, false, "a"), frame(ws.OpPing, true, "p"), frame(ws.OpContinuation, true, "b")),
		slices.Concat(frame(ws.OpText, false, "x"), header(0x80, 1<<63-1)),
		header(0x81, 1<<63),
		append(header(0x81, 5000), "some of it"...),
		frame(ws.OpText, true, strings.Repeat("x", 5000)),
		frame(ws.OpClose, true, closeBody(1000, "bye")),
		frame(ws.OpClose, true, "\x03"),
		frame(ws.OpBinary, true, "x"),
		{0x81, 0x05, 'h', 'e', 'l', 'l', 'o'},
	} {
		f.Add(script, uint16(len(script)))
		f.Add(slices.Concat(script, script), uint16(1))
		f.Add(script, uint16(7))
	}
	f.Fuzz(func(t *testing.T, script []byte, size uint16) {
		rooms := newLobby()
		server := newServer(t, wsconn.Config{Rooms: rooms, MaxMessageBytes: 10_000})
		client := plug(t, server, who)
		g := next(t, rooms.guests)
		drained := make(chan struct{})
		go func() { // what the server says, as any client reads it
			defer close(drained)
			_, _ = io.Copy(io.Discard, client)
		}()
		client.SetWriteDeadline(time.Now().Add(10 * time.Second))
		for piece := range slices.Chunk(script, max(1, int(size))) {
			if _, err := client.Write(piece); err != nil {
				if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
					t.Fatal("the server reads no more and does not close")
				}
				break
			}
		}
		g.Socket.Send(protocol.Synced(1))
		client.Conn.Close()
		until(t, "the connection has ended", func() bool { return server.Connections() == 0 })
		next(t, g.left)
		total := 0
		for len(g.got) > 0 {
			text := <-g.got
			total += len(text)
			if len(text) > 10_000 {
				t.Fatalf("a message of %d bytes", len(text))
			}
		}
		if total > len(script) {
			t.Fatalf("%d bytes of messages from %d", total, len(script))
		}
		<-drained
	})
}
