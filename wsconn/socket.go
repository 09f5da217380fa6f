package wsconn

import (
	"net"
	"syscall"
)

// socket reads and writes a connection. On Linux it does so by system calls
// that Go's scheduler is not told of: on a socket in non-blocking mode they are
// over before another thread could take the processor over, and telling the
// scheduler keeps its monitor thread awake: on a server that wakes some thousand
// times a second for a moment each, that makes all it does cost half as much again.
//
// Reads are made by one goroutine at a time, and so are writes.
type socket struct {
	net.Conn
	raw syscall.RawConn // nil: use the Conn
}

// read reads what is there, or waits for it.
func (s *socket) read(b []byte) (int, error) {
	if s.raw == nil {
		return s.Conn.Read(b)
	}
	return rawRead(s.raw, b)
}

// write writes some of b; it waits until that is possible.
func (s *socket) write(b []byte) (int, error) {
	if s.raw == nil {
		return s.Conn.Write(b)
	}
	return rawWrite(s.raw, b, true)
}

// writeNow writes as much of b as is possible at once, which may be nothing. An
// error is nothing, too: the next write will have it again.
func (s *socket) writeNow(b []byte) int {
	if s.raw == nil {
		return 0
	}
	n, _ := rawWrite(s.raw, b, false)
	return n
}
