//go:build !linux

package load

import "net"

// receivers are not to be had here.
type receivers struct{}

func startReceivers(*recorder) (*receivers, error) { return &receivers{}, nil }

func (*receivers) adopt(*client, net.Conn, []byte) (bool, error) { return false, nil }

func (*receivers) stop() {}
