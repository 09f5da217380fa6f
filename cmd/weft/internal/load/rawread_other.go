//go:build !unix

package load

import "net"

// readShared is not available here: every connection reads through a buffer of its own.
func readShared(net.Conn, *recorder, func([]byte, *scratch) error) (err error, unsupported bool) {
	return nil, true
}
