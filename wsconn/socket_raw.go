//go:build linux && !386 && !s390x

package wsconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

func newSocket(nc net.Conn) socket {
	s := socket{Conn: nc}
	if tcp, ok := nc.(*net.TCPConn); ok { // and not TLS, or a test's pipe
		if raw, err := tcp.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

func rawRead(raw syscall.RawConn, b []byte) (int, error) {
	op := newRawOp(syscall.SYS_RECVFROM, b, true)
	err := raw.Read(op.try)
	n, err := op.end(err)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

func rawWrite(raw syscall.RawConn, b []byte, wait bool) (int, error) {
	op := newRawOp(syscall.SYS_SENDTO, b, wait)
	return op.end(raw.Write(op.try))
}

// rawOp is a read or a write. It is used again and again, so that the function
// that a syscall.RawConn wants is not made anew for every call.
type rawOp struct {
	try   func(fd uintptr) (done bool)
	trap  uintptr
	b     []byte
	wait  bool
	n     int
	errno syscall.Errno
}

var rawOps = sync.Pool{New: func() any {
	op := new(rawOp)
	op.try = op.call
	return op
}}

func newRawOp(trap uintptr, b []byte, wait bool) *rawOp {
	op := rawOps.Get().(*rawOp)
	op.trap, op.b, op.wait, op.n, op.errno = trap, b, wait, 0, 0
	return op
}

// call does the system call once, and reports false if it must be tried again
// when the socket is ready.
func (op *rawOp) call(fd uintptr) (done bool) {
	for {
		n, _, errno := syscall.RawSyscall6(op.trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(op.b))), uintptr(len(op.b)), syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			op.n = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return !op.wait
		default:
			op.errno = errno
			return true
		}
	}
}

// end returns what came of it and gives the op back.
func (op *rawOp) end(err error) (int, error) {
	n, errno := op.n, op.errno
	op.b = nil
	rawOps.Put(op)
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, os.NewSyscallError("socket", errno)
	}
	return n, nil
}
