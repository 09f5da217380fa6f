package wsconn

import "net"

// socket reads and writes a connection. On Linux it does so by system calls
// that Go's scheduler is not told of: on a socket in non-blocking mode they are
// over before another thread could take the processor over, and telling the
// scheduler keeps its monitor thread awake, which on a server that wakes some
// thousand times a second for a moment each costs a third of all it does.
//
// read, and write with writeNow, may each be used by one goroutine at a time.
type socket struct {
	net.Conn
	reading, writing *rawOp // nil: use the Conn
}

// read reads what is there, or waits for it.
func (s *socket) read(b []byte) (int, error) {
	if s.reading == nil {
		return s.Conn.Read(b)
	}
	return s.reading.do(b, true)
}

// write writes some of b; it waits until that is possible.
func (s *socket) write(b []byte) (int, error) {
	if s.writing == nil {
		return s.Conn.Write(b)
	}
	return s.writing.do(b, true)
}

// writeNow writes as much of b as is possible at once, which may be nothing. An
// error is nothing, too: the next write will have it again.
func (s *socket) writeNow(b []byte) int {
	if s.writing == nil {
		return 0
	}
	n, _ := s.writing.do(b, false)
	return n
}
