package wsconn_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/wsconn"
)

// meet returns a client on a pipe and the guest that it is in its lobby.
func meet(t testing.TB, config wsconn.Config) (*client, *guest) {
	t.Helper()
	rooms := newLobby()
	config.Rooms = rooms
	c := plug(t, newServer(t, config), who)
	g := next(t, rooms.guests)
	c.send("hello") // which arrives when the session is ready
	g.expect(t, "hello")
	return c, g
}

func TestFramesSplitAtEveryByte(t *testing.T) {
	c, g := meet(t, wsconn.Config{})
	text := strings.Repeat("é", 70) // with a header of 4 bytes
	script := slices.Concat(
		frame(ws.OpText, true, "one"),
		frame(ws.OpText, true, ""),
		frame(ws.OpText, false, "tw"), frame(ws.OpPong, true, "not asked for"), frame(ws.OpContinuation, true, "o"),
		frame(ws.OpText, true, text),
		frame(ws.OpText, false, text[:71]), frame(ws.OpContinuation, false, ""), frame(ws.OpContinuation, true, text[71:]),
	)
	for at := 1; at < len(script); at++ {
		c.raw(script[:at])
		c.raw(script[at:])
		g.expect(t, "one", "", "two", text, text)
	}
	for _, b := range script {
		c.raw([]byte{b})
	}
	g.expect(t, "one", "", "two", text, text)
	c.raw(bytes.Repeat(script, 50))
	for range 50 {
		g.expect(t, "one", "", "two", text, text)
	}
}

// Messages around the sizes at which the reader changes its ways, cut so that
// frames end and begin in one read.
func TestMessagesOfAllSizes(t *testing.T) {
	c, g := meet(t, wsconn.Config{})
	var script []byte
	var want []string
	for _, size := range []int{1, 125, 126, 500, 504, 505, 512, 513, 4080, 4096, 4097, 65535, 65536, 300_000, 3, 5000, 600} {
		text := strings.Repeat(string(rune('a'+len(want))), size)
		want = append(want, text, text)
		script = append(script, frame(ws.OpText, true, text)...)
		script = append(script, frame(ws.OpText, false, text[:size/3])...)
		script = append(script, frame(ws.OpContinuation, true, text[size/3:])...)
	}
	for _, piece := range []int{len(script), 1 << 16, 4096, 1000, 511} {
		for part := range slices.Chunk(script, piece) {
			c.raw(part)
		}
		g.expect(t, want...)
	}
}

func TestPingBetweenFragments(t *testing.T) {
	c, g := meet(t, wsconn.Config{})
	c.raw(frame(ws.OpText, false, "be"))
	c.raw(frame(ws.OpPing, true, "are you there?"))
	c.expectFrame(ws.OpPong, "are you there?")
	c.raw(frame(ws.OpContinuation, true, "gin"))
	g.expect(t, "begin")
	c.raw(frame(ws.OpPing, true, ""))
	c.expectFrame(ws.OpPong, "")
	longest := strings.Repeat("p", 125)
	c.raw(frame(ws.OpPing, true, longest))
	c.expectFrame(ws.OpPong, longest)
}

// Pauses, in which a quiet socket gives up what it can, cost nothing of what
// comes: not between messages, nor frames, nor in the middle of either.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, g := meet(t, wsconn.Config{PingInterval: time.Hour}) // a pong would split frames
		closed := alive(c)
		long := strings.Repeat("long ", 2000)
		script := slices.Concat(
			frame(ws.OpText, true, "one"), frame(ws.OpText, false, "tw"), frame(ws.OpContinuation, false, "o"),
			frame(ws.OpContinuation, true, ""), frame(ws.OpText, true, long), frame(ws.OpText, true, "three"))
		for _, size := range []int{1, 5, 9, 600, len(script)} {
			for piece := range slices.Chunk(script[:60], size) {
				c.raw(piece)
				time.Sleep(5 * time.Second)
			}
			for piece := range slices.Chunk(script[60:], 3000) {
				c.raw(piece)
				time.Sleep(5 * time.Second)
			}
			g.expect(t, "one", "two", long, "three")
		}
		g.Socket.Close(closeRestart)
		if body := <-closed; body != closeBody(1012, "server is restarting") {
			t.Errorf("closed with %q", body)
		}
	})
}

func header(first byte, length uint64) []byte {
	b := append([]byte{first, 0x80 | 127}, make([]byte, 12)...)
	binary.BigEndian.PutUint64(b[2:], length)
	return b
}

func TestBrokenFramesClose(t *testing.T) {
	const limit = 1000
	whole, half := strings.Repeat("x", limit), strings.Repeat("x", limit/2)
	for name, c := range map[string]struct {
		bytes  []byte
		code   int
		reason string
	}{
		"not masked":            {ws.MustCompileFrame(ws.NewTextFrame([]byte("hello"))), 1002, "frames from client to server must be masked"},
		"reserved bit 1":        {[]byte{0xc1, 0x80, 0, 0, 0, 0}, 1002, "non-zero rsv bits with no extension negotiated"},
		"reserved bit 2":        {[]byte{0xa1, 0x80, 0, 0, 0, 0}, 1002, "non-zero rsv bits with no extension negotiated"},
		"reserved bit 3":        {[]byte{0x91, 0x80, 0, 0, 0, 0}, 1002, "non-zero rsv bits with no extension negotiated"},
		"opcode 3":              {[]byte{0x83, 0x80, 0, 0, 0, 0}, 1002, "use of reserved op code"},
		"opcode 11":             {[]byte{0x8b, 0x80, 0, 0, 0, 0}, 1002, "use of reserved op code"},
		"ping too long":         {frame(ws.OpPing, true, strings.Repeat("x", 126)), 1002, "control frame payload limit exceeded"},
		"ping in fragments":     {frame(ws.OpPing, false, ""), 1002, "control frame is not final"},
		"continuation of none":  {frame(ws.OpContinuation, true, "x"), 1002, "unexpected continuation data frame"},
		"text within a message": {slices.Concat(frame(ws.OpText, false, "x"), frame(ws.OpText, true, "x")), 1002, "unexpected non-continuation data frame"},
		"length of 64 bits":     {header(0x81, 1<<63), 1002, "header error: the most significant bit must be 0"},
		"binary":                {frame(ws.OpBinary, true, "x"), 1003, "binary messages are not part of the protocol"},
		"not UTF-8":             {frame(ws.OpText, true, "a\xff"), 1007, "text is not UTF-8"},
		"half a rune":           {slices.Concat(frame(ws.OpText, false, "a\xc3"), frame(ws.OpContinuation, true, "")), 1007, "text is not UTF-8"},
		"surrogate":             {frame(ws.OpText, true, "\xed\xa0\x80"), 1007, "text is not UTF-8"},
		"too long":              {frame(ws.OpText, true, whole+"x"), 1009, "message is too big"},
		"too long in fragments": {slices.Concat(frame(ws.OpText, false, half), frame(ws.OpContinuation, false, half), frame(ws.OpContinuation, true, "x")), 1009, "message is too big"},
		"longest length":        {header(0x81, 1<<63-1), 1009, "message is too big"},
		"longest length behind": {slices.Concat(frame(ws.OpText, false, "x"), header(0x80, 1<<63-1)), 1009, "message is too big"},
	} {
		t.Run(name, func(t *testing.T) {
			rooms := newLobby()
			url := listen(t, newServer(t, wsconn.Config{Rooms: rooms, MaxMessageBytes: limit}))
			client := dial(t, url+"/?"+who)
			g := next(t, rooms.guests)
			client.raw(frame(ws.OpText, true, whole)) // the longest that is allowed
			g.expect(t, whole)
			client.raw(c.bytes)
			client.raw(bytes.Repeat(frame(ws.OpText, true, "after"), 100)) // unread, it must not cost the client the reason
			client.expectClose(c.code, c.reason)
			client.expectEnd()
			next(t, g.left)
			if len(g.got) > 0 {
				t.Errorf("the session got %s", <-g.got)
			}
		})
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// An announced length is not memory yet.
func TestAnnouncedMessageTakesNoMemory(t *testing.T) {
	rooms := newLobby()
	server := newServer(t, wsconn.Config{Rooms: rooms})
	var clients []*client
	for range 20 {
		clients = append(clients, plug(t, server, who))
		next(t, rooms.guests)
	}
	before := allocated()
	for _, c := range clients {
		c.raw(append(header(0x81, 32<<20), "only this"...))
	}
	if used := allocated() - before; used > 2<<20 {
		t.Errorf("%d bytes were allocated for 20 headers", used)
	}
}

// A message in many small frames costs what it is long, not its square.
func TestManySmallFragments(t *testing.T) {
	c, g := meet(t, wsconn.Config{})
	const n = 10_000
	before := allocated()
	c.raw(frame(ws.OpText, false, "x"))
	for range n {
		f := frame(ws.OpContinuation, false, "x")
		c.raw(f[:len(f)-1]) // so that the header is read without the payload
		c.raw(f[len(f)-1:])
	}
	c.raw(frame(ws.OpContinuation, true, ""))
	g.expect(t, strings.Repeat("x", n+1))
	if used := allocated() - before; used > 10<<20 {
		t.Errorf("%d bytes were allocated for a message of %d", used, n)
	}
}
