//go:build !linux || 386 || s390x

package wsconn

import (
	"net"
	"syscall"
)

func newSocket(nc net.Conn) socket { return socket{Conn: nc} }

// A socket has no raw side here.

func rawRead(syscall.RawConn, []byte) (int, error) { return 0, syscall.ENOTSUP }

func rawWrite(syscall.RawConn, []byte, bool) (int, error) { return 0, syscall.ENOTSUP }
