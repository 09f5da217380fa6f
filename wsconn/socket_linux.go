package wsconn

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

func newSocket(nc net.Conn) socket {
	s := socket{Conn: nc}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return s // TLS, a test's pipe
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return s
	}
	s.reading = newRawOp(syscall.SYS_READ, raw.Read)
	s.writing = newRawOp(syscall.SYS_WRITE, raw.Write)
	return s
}

// rawOp is a read or a write, made once and used again and again: what it is
// called with passes through its fields, since a function for every call would
// be garbage for every call.
type rawOp struct {
	trap  uintptr
	wait  func(func(uintptr) bool) error // calls try until it is done
	try   func(uintptr) bool
	b     []byte
	block bool
	n     int
	errno syscall.Errno
}

func newRawOp(trap uintptr, wait func(func(uintptr) bool) error) *rawOp {
	op := &rawOp{trap: trap, wait: wait}
	op.try = op.call
	return op
}

// call does the system call once, and reports false if it must be tried again
// when the socket is ready.
func (op *rawOp) call(fd uintptr) (done bool) {
	for {
		n, _, errno := syscall.RawSyscall(op.trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(op.b))), uintptr(len(op.b)))
		switch errno {
		case 0:
			op.n = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return !op.block
		default:
			op.errno = errno
			return true
		}
	}
}

func (op *rawOp) do(b []byte, block bool) (int, error) {
	op.b, op.block, op.n, op.errno = b, block, 0, 0
	err := op.wait(op.try)
	op.b = nil
	switch {
	case err != nil:
		return 0, err
	case op.errno != 0:
		return 0, os.NewSyscallError("socket", op.errno)
	case op.n == 0 && op.trap == syscall.SYS_READ && len(b) > 0:
		return 0, io.EOF
	}
	return op.n, nil
}
