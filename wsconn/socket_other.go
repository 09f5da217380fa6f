//go:build !linux

package wsconn

import "net"

func newSocket(nc net.Conn) socket { return socket{Conn: nc} }

// rawOp exists on Linux only.
type rawOp struct{}

func (*rawOp) do([]byte, bool) (int, error) { panic("unreachable: there is no rawOp") }
