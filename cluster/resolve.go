package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	gossipPort    = 7946            // of addresses that name none
	lookupTimeout = 3 * time.Second // for one host name

	rejoinInterval = 10 * time.Second
	joinAtOnce     = 8  // connections while joining
	joinPerRound   = 64 // addresses tried in a round
)

// lookupFunc finds the addresses of a host name.
type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// joinNames are the host:port at which other nodes may be found, as they were
// set. A host name stands for all its addresses at the time of asking.
type joinNames struct {
	names  []joinName
	lookup lookupFunc
}

type joinName struct {
	text string // as it was set
	host string
	port uint16
}

// parseJoin reads Config.Join.
func parseJoin(entries []string, lookup lookupFunc) (joinNames, error) {
	j := joinNames{lookup: lookup}
	for _, e := range entries {
		host, port, err := joinAddress(e)
		if err != nil {
			return joinNames{}, badConfig("Join", "%w", err)
		}
		j.names = append(j.names, joinName{e, host, port})
	}
	return j, nil
}

func joinAddress(entry string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(entry)
	n, bad := strconv.ParseUint(digits, 10, 16)
	if err != nil || host == "" || bad != nil || n == 0 {
		return "", 0, errors.New("has something that is not an address with a port, such as weft.internal:7946 or 10.0.0.1:7946")
	}
	return host, uint16(n), nil
}

// addresses looks all names up, and returns each address once, ascending, and
// what became of each name: its entry, and nil or an error.
func (j joinNames) addresses(ctx context.Context) ([]netip.AddrPort, map[string]error) {
	var found []netip.AddrPort
	outcome := make(map[string]error, len(j.names))
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, n := range j.names {
		all.Go(func() {
			ips, err := j.lookupOne(ctx, n.host)
			mu.Lock()
			defer mu.Unlock()
			outcome[n.text] = err
			for _, ip := range ips {
				found = append(found, netip.AddrPortFrom(ip, n.port))
			}
		})
	}
	all.Wait()
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found), outcome
}

func (j joinNames) lookupOne(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap().WithZone("")}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := j.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap().WithZone("")
	}
	return ips, nil
}

// rejoin looks for nodes that are not members, for after a partition the two
// sides do not find each other by themselves. While nobody has ever been
// reached it looks more often.
func (m *membership) rejoin(reached bool) {
	wait := m.config.rejoin
	if !reached {
		wait /= 20
	}
	for {
		// A quarter more or less, or nodes started together would always ask together.
		jittered := time.Duration(float64(wait) * (0.75 + rand.Float64()/2))
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(jittered):
		}
		if m.join(m.ctx) {
			reached = true
		}
		if wait *= 2; reached || wait > m.config.rejoin {
			wait = m.config.rejoin
		}
	}
}

// join tries all join addresses that are not members', and reports whether
// there are others now. It says what failed when it did not fail before.
func (m *membership) join(ctx context.Context) bool {
	found, outcome := m.names.addresses(ctx)
	found = slices.DeleteFunc(found, m.knows)
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	found = found[:min(len(found), joinPerRound)]

	var mu sync.Mutex
	var all sync.WaitGroup
	turn := make(chan struct{}, joinAtOnce)
	for _, to := range found {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			if ctx.Err() != nil {
				return
			}
			_, err := m.list.Join([]string{to.String()})
			mu.Lock()
			outcome[to.String()] = err
			mu.Unlock()
		})
	}
	all.Wait()
	if ctx.Err() == nil {
		m.report(outcome)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.alive) > 1
}

// knows reports whether there is nothing to join at an address: it is this
// node's or a member's.
func (m *membership) knows(at netip.AddrPort) bool {
	if at == m.self || at == m.bound {
		return true
	}
	if at.Port() == m.bound.Port() && m.bound.Addr().IsUnspecified() &&
		(at.Addr().IsLoopback() || slices.Contains(thisMachine.own(), at.Addr())) {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.alive {
		if a.at == at {
			return true
		}
	}
	return false
}

// report logs what is other than in the round before.
func (m *membership) report(outcome map[string]error) {
	now := make(map[string]string, len(outcome))
	m.mu.Lock()
	before := m.outcome
	m.outcome = now
	m.mu.Unlock()
	for _, at := range slices.Sorted(maps.Keys(outcome)) {
		if err := outcome[at]; err != nil {
			// The end says what is wrong; before it stand ports that differ each time.
			text := strings.Join(strings.Fields(err.Error()), " ")
			text = strings.TrimPrefix(text, "1 error occurred: * failed to join "+at+": ")
			now[at] = text[strings.LastIndex(text, ": ")+1:]
			if now[at] != before[at] {
				m.logger.Warn("cannot reach a node to join, going on trying", "join", at, "err", text)
			}
		} else if before[at] != "" {
			m.logger.Info("reached what could not be reached before", "join", at)
		}
	}
}

// listenAddress reads the setting gossip-listen. Without a host it is all
// addresses of the machine.
func listenAddress(s string) (netip.AddrPort, error) {
	host, port, err := splitAddress(s, gossipPort)
	if err == nil && host == "" {
		host = "0.0.0.0" // IPv6, too, where there is any
	}
	ip, bad := netip.ParseAddr(host)
	if err == nil && bad != nil {
		err = fmt.Errorf("%q is no IP address", host)
	}
	if err != nil {
		return netip.AddrPort{}, badConfig("GossipListen", "is not an address of this machine and a port, such as 10.0.0.1:7946 or :7946: %w", err)
	}
	return netip.AddrPortFrom(ip.Unmap(), port), nil
}

// advertiseAddress is what to tell the others, with port 0 for the one that
// is listened on.
func advertiseAddress(ctx context.Context, s string, listen netip.AddrPort, names joinNames) (netip.AddrPort, error) {
	if s == "" {
		if !listen.Addr().IsUnspecified() {
			return netip.AddrPortFrom(listen.Addr(), 0), nil
		}
		join, _ := names.addresses(ctx)
		ip, err := thisMachine.advertised(join)
		return netip.AddrPortFrom(ip, 0), err
	}
	at, err := advertised(s)
	if err != nil {
		err = badConfig("GossipAdvertise", "is not the IP address at which the other nodes reach this one, with or without a port: %w", err)
	}
	return at, err
}

// peerAddress is where the others reach this node's death watch: what is set,
// and for what is not, the gossip's address and the port that is listened at.
func peerAddress(s string, gossip netip.Addr, port uint16) (string, error) {
	at := netip.AddrPortFrom(gossip, port)
	if s != "" {
		set, err := advertised(s)
		if err != nil {
			return "", badConfig("PeerAdvertise", "is not the IP address at which the other nodes reach this one, with or without a port: %w", err)
		}
		at = netip.AddrPortFrom(set.Addr(), cmp.Or(set.Port(), port))
	}
	if at.Port() == 0 {
		return "", nil // nobody listens
	}
	return at.String(), nil
}

// advertised reads IP or IP:port, where one machine can be reached.
func advertised(s string) (netip.AddrPort, error) {
	host, port, err := splitAddress(s, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("%q is no IP address", host)
	case ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("no node can be reached at %s", ip)
	}
	return netip.AddrPortFrom(ip.Unmap(), port), nil
}

// splitAddress divides host:port. Without a port it is otherwise; an IPv6
// address may stand without brackets then.
func splitAddress(s string, otherwise uint16) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String(), otherwise, nil
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		if addr, ok := errors.AsType[*net.AddrError](err); ok && addr.Err == "missing port in address" {
			host, digits, err = net.SplitHostPort(s + ":" + strconv.Itoa(int(otherwise)))
		}
	}
	if err != nil {
		return "", 0, errors.New(reason(err))
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("its port %q is no number from 0 to 65535", digits)
	}
	return host, uint16(n), nil
}

// reason is what an address error says beside the address.
func reason(err error) string {
	if addr, ok := errors.AsType[*net.AddrError](err); ok {
		return addr.Err
	}
	return err.Error()
}

// machine is what choosing an address to advertise asks of the machine.
type machine struct {
	// source is the address from which this machine would send to another, the
	// zero Addr if it cannot. No packet is sent.
	source func(netip.Addr) netip.Addr
	// own are the addresses of its interfaces.
	own func() []netip.Addr
}

var thisMachine = machine{
	source: func(to netip.Addr) netip.Addr {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
		if err != nil {
			return netip.Addr{}
		}
		defer func() { _ = c.Close() }()
		return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
	},
	own: func() []netip.Addr {
		var ips []netip.Addr
		all, err := net.InterfaceAddrs()
		if err != nil {
			return nil
		}
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					ips = append(ips, ip.Unmap())
				}
			}
		}
		return ips
	},
}

// advertised chooses the address that a node which listens on all of its
// machine's tells the others. memberlist would choose one, too, but runs the
// program ip for it, which an image of nothing but weft does not have; and it
// knows nothing of where the others are.
//
// It is, in this order: the address that this machine uses towards the first
// other machine among the join addresses; that of its default route; its only
// one; loopback, if the others are there.
func (m machine) advertised(join []netip.AddrPort) (netip.Addr, error) {
	own := m.own()
	local := len(join) > 0
	for _, to := range join {
		if to.Addr().IsLoopback() || slices.Contains(own, to.Addr()) {
			continue
		}
		local = false
		if ip := m.source(to.Addr()); ip.IsGlobalUnicast() {
			return ip, nil
		}
	}
	// Addresses kept for documentation: they are nowhere, so the way there is
	// the default route.
	for _, nowhere := range []string{"192.0.2.1", "2001:db8::1"} {
		if ip := m.source(netip.MustParseAddr(nowhere)); ip.IsGlobalUnicast() {
			return ip, nil
		}
	}
	var v4, v6 []netip.Addr
	for _, ip := range own {
		switch {
		case !ip.IsGlobalUnicast():
		case ip.Is4():
			v4 = append(v4, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	switch {
	case len(v4) == 1:
		return v4[0], nil
	case len(v4) == 0 && len(v6) == 1:
		return v6[0], nil
	case len(v4)+len(v6) > 1:
		return netip.Addr{}, badForNow("GossipAdvertise", "is not set, and this machine has several addresses and no default route, so that it does not know"+
			" which of %v the other nodes reach", append(v4, v6...))
	case local:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	return netip.Addr{}, badForNow("GossipAdvertise", "is not set, and this machine has no address but loopback that the other nodes could reach:"+
		" set it to one, or listen at 127.0.0.1 if all nodes are on this machine")
}
