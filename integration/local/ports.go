package local

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// Ports come from below those that the system gives to outgoing connections: while a node is down,
// nobody else must get its port.
const (
	firstPort = 20000
	lastPort  = 29999
)

var nextPort atomic.Int64

// FreeAddr finds a loopback address on which nobody listens, by TCP or UDP, and which this process has
// not handed out.
func FreeAddr() (string, error) {
	nextPort.CompareAndSwap(0, firstPort+int64(os.Getpid()*7919%(lastPort-firstPort)))
	for range lastPort - firstPort {
		port := firstPort + nextPort.Add(1)%(lastPort-firstPort)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", addr)
		tcp.Close()
		if err != nil {
			continue
		}
		udp.Close()
		return addr, nil
	}
	return "", fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}
