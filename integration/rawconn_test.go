package integration

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// rawConn speaks just enough WebSocket to break its rules: it sends frames before the handshake is
// answered, and it never answers pings, or reads, unless told to.
type rawConn struct {
	*net.TCPConn
	in *bufio.Reader
}

// rawDial writes the upgrade request and the given text frames in a single write, and does not wait
// for an answer.
func rawDial(t testing.TB, wsURL string, frames ...string) *rawConn {
	t.Helper()
	u, err := url.Parse(wsURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	out := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", u.RequestURI(), u.Host)
	for _, text := range frames {
		out = appendFrame(out, 1, []byte(text))
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	return &rawConn{conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// upgraded reads the answer to the upgrade request.
func (c *rawConn) upgraded(t testing.TB) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade was answered %s", resp.Status)
	}
}

// readFrame reads one frame from the server: its opcode and payload.
func (c *rawConn) readFrame() (opcode byte, payload []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x80 == 0 || head[1]&0x80 != 0 {
		return 0, nil, errors.New("the server sent a fragment, or masked a frame")
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.in, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.in, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.in, payload)
	return head[0] & 0x0f, payload, err
}

// closing reads on until the server's close frame, and counts the text frames before it.
func (c *rawConn) closing(t testing.TB) (texts int, why closeInfo) {
	t.Helper()
	for {
		op, payload, err := c.readFrame()
		switch {
		case err != nil:
			t.Fatalf("the connection ended without a close frame, after %d text frames: %v", texts, err)
		case op == 1:
			texts++
		case op == 8 && len(payload) < 2:
			return texts, closeInfo{code: 1005}
		case op == 8:
			return texts, closeInfo{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
		}
	}
}

// appendFrame appends a client's frame. Its mask is all zeros, so that the payload stays readable.
func appendFrame(out []byte, opcode byte, payload []byte) []byte {
	out = append(out, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = append(out, 0x80|126)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	default:
		out = append(out, 0x80|127)
		out = binary.BigEndian.AppendUint64(out, uint64(n))
	}
	out = append(out, 0, 0, 0, 0)
	return append(out, payload...)
}
