//go:build unix

package load

import (
	"io"
	"net"
	"syscall"
)

// readShared reads conn until it fails, in a buffer that it borrows only while there is something
// to read, so that ten thousand quiet connections share a handful of buffers. It returns nil, true
// if conn cannot be read this way (TLS).
//
// Each time the socket is readable it is read until it is empty: to stop at a short read would save
// a system call, but miss an end of stream that arrived together with the data.
func readShared(conn net.Conn, r *recorder, process func(b []byte, s *scratch) error) (err error, unsupported bool) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err, false
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		s := r.borrow()
		defer r.giveBack(s)
		for {
			n, err := syscall.Read(int(fd), s.buf)
			switch {
			case err == syscall.EAGAIN:
				return false
			case err == syscall.EINTR:
				continue
			case err != nil:
				failed = err
				return true
			case n == 0:
				failed = io.EOF
				return true
			}
			if failed = process(s.buf[:n], s); failed != nil {
				return true
			}
		}
	})
	if failed != nil {
		return failed, false
	}
	return err, false
}
