package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/weftsync/weft/room"
)

// Validate says what is wrong with the config, in a [room.ConfigError] for each
// field concerned, all joined; nil if nothing is. Fields that are not set are
// right, except Redis. It connects to nothing. [Join] calls it.
func (c Config) Validate() error {
	var wrong []error
	add := func(problem error) {
		if problem != nil {
			wrong = append(wrong, problem)
		}
	}
	check := func(field string, problem error) {
		if problem != nil {
			add(badConfig(field, "%w", problem))
		}
	}
	if c.Redis == nil {
		check("Redis", errors.New("is not set"))
	}
	check("Prefix", checkName(c.Prefix, ":-_./"))
	check("NodeName", checkName(c.NodeName, "-_."))
	_, problem := parseJoin(c.Join, nil)
	add(problem)
	check("GossipListen", checkListen(c.GossipListen))
	check("GossipAdvertise", checkAdvertise(c.GossipAdvertise))
	check("PeerListen", checkPeerListen(c.PeerListen))
	check("PeerAdvertise", checkAdvertise(c.PeerAdvertise))
	_, problem = gossipKeys(c.GossipKeys)
	check("GossipKeys", problem)
	if c.LeaseTTL != 0 && (c.LeaseTTL < minLease || c.LeaseTTL > maxTime) {
		check("LeaseTTL", fmt.Errorf("is not between %s and %dh", minLease, maxTime/time.Hour))
	}
	check("SaveInterval", notNegative(c.SaveInterval))
	check("RoomIdleTimeout", notNegative(c.RoomIdleTimeout))
	check("AuthorizeTimeout", notNegative(c.AuthorizeTimeout))
	check("DrainRate", notNegative(c.DrainRate))
	check("MaxSessionBytes", notNegative(c.MaxSessionBytes))
	check("MaxBufferBytes", notNegative(c.MaxBufferBytes))
	check("MaxLogBytes", notNegative(c.MaxLogBytes))
	check("MaxOutBytes", notNegative(c.MaxOutBytes))
	return errors.Join(wrong...)
}

// badConfig is an error about a field.
func badConfig(field, problem string, args ...any) *room.ConfigError {
	return &room.ConfigError{Field: "cluster.Config." + field, Problem: fmt.Errorf(problem, args...)}
}

// badForNow is one that may be right later.
func badForNow(field, problem string, args ...any) *room.ConfigError {
	err := badConfig(field, problem, args...)
	err.Temporary = true
	return err
}

const (
	maxName  = 100 // bytes
	minLease = 200 * time.Millisecond
	maxTime  = 10_000 * time.Hour // longer ones are slips
)

func notNegative[T int | time.Duration](v T) error {
	if v < 0 {
		return errors.New("is negative")
	}
	return nil
}

// checkName is about what becomes a part of keys in Redis, where braces have a
// meaning.
func checkName(text, others string) error {
	if len(text) > maxName {
		return fmt.Errorf("has more than %d bytes", maxName)
	}
	for _, c := range text {
		if !strings.ContainsRune(others, c) && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return errors.New("has something else than letters, digits and " + others)
		}
	}
	return nil
}

func checkListen(address string) error {
	if address == "" {
		return nil
	}
	if _, err := listenAddress(address); err != nil {
		return errors.New("is not an IP address of this machine and a port, such as 10.0.0.1:7946 or :7946")
	}
	return nil
}

func checkPeerListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if _, bad := strconv.ParseUint(port, 10, 16); address != "" && (err != nil || bad != nil) {
		return errors.New("is not an address of this machine and a port, such as 10.0.0.1:7947 or :7947")
	}
	return nil
}

func checkAdvertise(address string) error {
	if address == "" {
		return nil
	}
	host := address
	if ip, err := netip.ParseAddr(address); err != nil || ip.Zone() != "" {
		var port string
		if host, port, err = net.SplitHostPort(address); err != nil {
			return errors.New("is not an IP address, such as 10.0.0.1 or 10.0.0.1:7946")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("has no port between 1 and 65535")
		}
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
		return errors.New("is not the IP address of one machine, such as 10.0.0.1 or 10.0.0.1:7946")
	}
	return nil
}
