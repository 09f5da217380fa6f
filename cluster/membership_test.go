package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

// noLeaks fails the test if at its end, or soon after, something runs that did
// not at its beginning. memberlist's probes take a moment to end.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var err error
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// gossipNode starts a node on loopback, to be closed at the end of the test.
func gossipNode(t *testing.T, c membershipConfig) *membership {
	t.Helper()
	m, err := newMembership(t.Context(), onLoopback(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Errorf("closing %s: %v", c.incarnation, err)
		}
	})
	return m
}

func onLoopback(c membershipConfig) membershipConfig {
	if c.listen == "" {
		c.listen = "127.0.0.1:0"
	}
	if c.name == "" {
		c.name, _, _ = strings.Cut(c.incarnation, ".")
	}
	return c
}

// awaitMembers waits until a node knows just these, as "incarnation state", and
// returns how long it took.
func awaitMembers(t *testing.T, m *membership, want ...string) time.Duration {
	t.Helper()
	start := time.Now()
	late := time.After(15 * time.Second)
	for {
		var got []string
		for _, o := range m.members() {
			got = append(got, o.incarnation+" "+string(o.state))
		}
		if slices.Equal(got, want) {
			return time.Since(start)
		}
		select {
		case <-m.changed():
		case <-late:
			t.Fatalf("%s knows %v, want %v", m.config.incarnation, got, want)
		}
	}
}

// receive takes a value that must come.
func receive[T any](t *testing.T, from <-chan T) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(15 * time.Second):
		t.Fatal("what should have happened did not, within 15 s")
	}
}

func TestMembersMeetAndTellTheirState(t *testing.T) {
	noLeaks(t)
	a := gossipNode(t, membershipConfig{incarnation: "a.1", peerPort: 4711})
	awaitMembers(t, a, "a.1 joining") // alone is no error
	b := gossipNode(t, membershipConfig{incarnation: "b.1", peerPort: 4711, peerAdvertise: "10.9.9.9:1", join: []string{a.address().String()}})
	c := gossipNode(t, membershipConfig{incarnation: "c.1", join: []string{b.address().String()}})
	for _, m := range []*membership{a, b, c} {
		awaitMembers(t, m, "a.1 joining", "b.1 joining", "c.1 joining")
	}
	if err := b.setState(memberReady); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*membership{a, b, c} {
		awaitMembers(t, m, "a.1 joining", "b.1 ready", "c.1 joining")
	}
	if err := b.setState(memberDraining); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*membership{a, b, c} {
		awaitMembers(t, m, "a.1 joining", "b.1 draining", "c.1 joining")
	}
	list := c.members()
	if list[0].peer != "127.0.0.1:4711" || list[1].peer != "10.9.9.9:1" || list[0].name != "a" || list[0].boot == 0 {
		t.Errorf("c knows %+v", list)
	}

	leaving := time.Now()
	if err := b.leave(t.Context()); err != nil {
		t.Errorf("leaving: %v", err)
	}
	awaitMembers(t, a, "a.1 joining", "c.1 joining")
	left := time.Since(leaving)
	awaitMembers(t, c, "a.1 joining", "c.1 joining")
	if err := c.close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	crashed := awaitMembers(t, a, "a.1 joining")
	t.Logf("a heard of b's leaving within %v, and of c's crash within %v", left, crashed)
	if left > time.Second {
		t.Errorf("a member that leaves was noticed only %v later", left)
	}
	if crashed > 5*time.Second {
		t.Errorf("a crash was noticed only %v later", crashed)
	}

	if err := b.setState(memberReady); !errors.Is(err, errMembershipClosed) {
		t.Errorf("a closed node's state: %v", err)
	}
	for range 2 { // any number of times, in any order
		if err := errors.Join(c.close(), c.leave(t.Context()), b.leave(t.Context()), b.close()); err != nil {
			t.Error(err)
		}
	}
}

// A node that crashed may be back before anybody noticed, at its old address
// or at another.
func TestMemberComesBackAsAnother(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprintf("same port %v", same), func(t *testing.T) {
			noLeaks(t)
			a := gossipNode(t, membershipConfig{incarnation: "a.1"})
			b := gossipNode(t, membershipConfig{incarnation: "b.1", join: []string{a.address().String()}})
			awaitMembers(t, a, "a.1 joining", "b.1 joining")
			c := membershipConfig{incarnation: "b.2", join: []string{a.address().String()}}
			if same {
				c.listen = b.address().String()
			}
			if err := b.close(); err != nil {
				t.Fatal(err)
			}
			again := gossipNode(t, c)
			if same != (again.address() == b.address()) {
				t.Fatalf("back at %v, was at %v", again.address(), b.address())
			}
			if err := again.setState(memberReady); err != nil {
				t.Fatal(err)
			}
			awaitMembers(t, a, "a.1 joining", "b.2 ready")
			awaitMembers(t, again, "a.1 joining", "b.2 ready")
		})
	}
}

func TestMemberNewestIncarnationCounts(t *testing.T) {
	got := newestOf([]member{
		{name: "a", incarnation: "a.9", boot: 1}, {name: "a", incarnation: "a.1", boot: 2},
		{name: "b", incarnation: "b.1", boot: 1}, {name: "b", incarnation: "b.2", boot: 1},
	})
	if len(got) != 2 || got["a"].incarnation != "a.1" || got["b"].incarnation != "b.2" {
		t.Errorf("the newest are %+v", got)
	}
}

func key(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func keyring(t *testing.T, keys ...string) *memberlist.Keyring {
	t.Helper()
	ring, err := newKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestMembersNeedTheKey(t *testing.T) {
	noLeaks(t)
	var log logged
	a := gossipNode(t, membershipConfig{incarnation: "a.1", keyring: keyring(t, key(1)), logger: log.logger()})
	join := []string{a.address().String()}
	wrong := gossipNode(t, membershipConfig{incarnation: "wrong.1", keyring: keyring(t, key(2)), join: join, logger: log.logger()})
	none := gossipNode(t, membershipConfig{incarnation: "none.1", join: join, logger: log.logger()})
	right := gossipNode(t, membershipConfig{incarnation: "b.1", keyring: keyring(t, key(1)), join: join, logger: log.logger()})
	awaitMembers(t, a, "a.1 joining", "b.1 joining")
	awaitMembers(t, right, "a.1 joining", "b.1 joining")
	awaitMembers(t, wrong, "wrong.1 joining")
	awaitMembers(t, none, "none.1 joining")
	if n := log.count("cannot reach a node to join"); n < 2 {
		t.Errorf("two nodes were refused, %d say so", n)
	}
	for _, b := range []byte{1, 2} {
		if log.count(key(b)) > 0 || log.count(key(b)[:12]) > 0 {
			t.Error("a key is in the log")
		}
	}
}

// dns is a resolver whose answers can change.
type dns struct {
	mu    sync.Mutex
	ips   []netip.Addr
	asked chan struct{}
}

func (d *dns) lookup(ctx context.Context, _ string) ([]netip.Addr, error) {
	select {
	case d.asked <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ips) == 0 {
		return nil, errors.New("no such host")
	}
	return slices.Clone(d.ips), nil
}

func (d *dns) set(ips ...netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ips = ips
}

// Join names are looked up again and again, so a node is found whose address
// is known only later; and what fails is said once.
func TestMembersAreLookedForAgain(t *testing.T) {
	noLeaks(t)
	a := gossipNode(t, membershipConfig{incarnation: "a.1", listen: "127.0.0.2:0"})
	resolver := &dns{asked: make(chan struct{}, 1)}
	var log logged
	b := gossipNode(t, membershipConfig{
		incarnation: "b.1", logger: log.logger(), lookup: resolver.lookup, rejoin: 50 * time.Millisecond,
		listen: fmt.Sprintf("127.0.0.3:%d", a.address().Port()),
		join:   []string{fmt.Sprintf("weft:%d", a.address().Port())},
	})
	for range 5 {
		receive(t, resolver.asked)
	}
	if n := log.count("cannot reach a node to join"); n != 1 {
		t.Errorf("of a name that does not resolve it said so %d times", n)
	}
	awaitMembers(t, b, "b.1 joining")

	// Of its three addresses one is nobody's, and one is its own.
	resolver.set(netip.MustParseAddr("127.0.0.4"), b.address().Addr(), a.address().Addr())
	more := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-resolver.asked:
			case <-b.ctx.Done():
				return
			}
			if i == 5 {
				close(more) // and what the rounds before this have met is in the log
			}
		}
	}()
	awaitMembers(t, b, "a.1 joining", "b.1 joining")
	awaitMembers(t, a, "a.1 joining", "b.1 joining")
	receive(t, more)
	if n := log.count("reached what could not be reached before"); n != 1 {
		t.Errorf("that the name resolves was said %d times", n)
	}
	if at := b.address().String(); log.count("join="+at) > 0 || log.count("with:  "+at) > 0 {
		t.Errorf("it tried to join itself at %s", at)
	}
	if n := log.count("join=127.0.0.4"); n != 1 {
		t.Errorf("of the address where nobody is it spoke %d times", n)
	}
}

// As after a partition, when each side has long forgotten the other.
func TestMembersLookAgainForWhoWasNotThere(t *testing.T) {
	noLeaks(t)
	a := gossipNode(t, membershipConfig{incarnation: "a.1"})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	later := free.Addr().String()
	free.Close()
	b := gossipNode(t, membershipConfig{incarnation: "b.1", join: []string{a.address().String(), later}, rejoin: 50 * time.Millisecond})
	awaitMembers(t, b, "a.1 joining", "b.1 joining")
	// Nobody tells c of b: it is b that comes.
	c := gossipNode(t, membershipConfig{incarnation: "c.1", listen: later})
	awaitMembers(t, c, "a.1 joining", "b.1 joining", "c.1 joining")
	awaitMembers(t, a, "a.1 joining", "b.1 joining", "c.1 joining")
}

// wire stands between a node and the others: it advertises the wire's address,
// and what comes there goes on to the node unless the wire is cut.
type wire struct {
	addr string
	up   atomic.Bool
}

func newWire(t *testing.T) (w *wire, connect func(node netip.AddrPort)) {
	t.Helper()
	w = &wire{}
	w.up.Store(true)
	var tcp net.Listener
	var udp net.PacketConn
	for range bindAttempts {
		var err error
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		w.addr = tcp.Addr().String()
		if udp, err = net.ListenPacket("udp", w.addr); err == nil {
			break
		}
		tcp.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		all.Wait()
	})
	return w, func(node netip.AddrPort) {
		all.Go(func() {
			buf := make([]byte, 65536)
			for {
				n, _, err := udp.ReadFrom(buf)
				if err != nil {
					return
				}
				if w.up.Load() {
					udp.WriteTo(buf[:n], net.UDPAddrFromAddrPort(node))
				}
			}
		})
		all.Go(func() {
			for {
				from, err := tcp.Accept()
				if err != nil {
					return
				}
				to, err := net.Dial("tcp", node.String())
				if err != nil || !w.up.Load() {
					from.Close()
					continue
				}
				all.Go(func() { io.Copy(to, from); to.Close() })
				all.Go(func() { io.Copy(from, to); from.Close() })
			}
		})
	}
}

// After a partition so long that each side has forgotten the other, it is the
// looking again that brings them together.
func TestMembersMeetAgainAfterAPartition(t *testing.T) {
	noLeaks(t)
	wa, connectA := newWire(t)
	wb, connectB := newWire(t)
	const rejoin = 100 * time.Millisecond
	a := gossipNode(t, membershipConfig{incarnation: "a.1", advertise: wa.addr, rejoin: rejoin})
	connectA(a.bound)
	host, port, _ := net.SplitHostPort(wa.addr)
	resolver := &dns{asked: make(chan struct{}, 1), ips: []netip.Addr{netip.MustParseAddr(host)}}
	b := gossipNode(t, membershipConfig{incarnation: "b.1", advertise: wb.addr, rejoin: rejoin, lookup: resolver.lookup, join: []string{"weft:" + port}})
	connectB(b.bound)
	rounds := make(chan struct{})
	go func() {
		for {
			select {
			case <-resolver.asked:
			case <-b.ctx.Done():
				return
			}
			select {
			case rounds <- struct{}{}:
			default:
			}
		}
	}()
	awaitMembers(t, a, "a.1 joining", "b.1 joining")
	awaitMembers(t, b, "a.1 joining", "b.1 joining")

	wa.up.Store(false)
	wb.up.Store(false)
	awaitMembers(t, a, "a.1 joining")
	awaitMembers(t, b, "b.1 joining")
	if err := a.setState(memberReady); err != nil { // nobody hears it
		t.Fatal(err)
	}
	for range 12 { // more than three times rejoin, after which the dead are forgotten
		receive(t, rounds)
	}
	wa.up.Store(true)
	wb.up.Store(true)
	t.Logf("they met again after %v", max(awaitMembers(t, a, "a.1 ready", "b.1 joining"), awaitMembers(t, b, "a.1 ready", "b.1 joining")))
}

func TestMemberSettings(t *testing.T) {
	noLeaks(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		membershipConfig
		want string
	}{
		{membershipConfig{listen: "here"}, "GossipListen is not an address"},
		{membershipConfig{listen: "127.0.0.1:x"}, "GossipListen is not an address"},
		{membershipConfig{listen: taken.Addr().String()}, "GossipListen cannot be listened at"},
		{membershipConfig{listen: "203.0.113.77:0"}, "GossipListen cannot be listened at"},
		{membershipConfig{advertise: "weft"}, "GossipAdvertise is not the IP address"},
		{membershipConfig{advertise: "0.0.0.0"}, "GossipAdvertise is not the IP address"},
		{membershipConfig{advertise: "10.0.0.1:99999"}, "GossipAdvertise is not the IP address"},
		{membershipConfig{peerAdvertise: "0.0.0.0:1"}, "PeerAdvertise is not the IP address"},
		{membershipConfig{join: []string{"weft:x"}}, "Join has something that is not an address with a port"},
		{membershipConfig{name: strings.Repeat("n", 500)}, "NodeName is too long"},
	} {
		c.incarnation = "a.1"
		m, err := newMembership(t.Context(), onLoopback(c.membershipConfig))
		if err == nil {
			m.close()
			t.Errorf("no error with %q", c.want)
		} else if !strings.HasPrefix(err.Error(), "cluster.Config."+c.want) {
			t.Errorf("the error is %q, want it to begin with %q", err, c.want)
		}
	}
}

func TestMemberAdvertises(t *testing.T) {
	noLeaks(t)
	m := gossipNode(t, membershipConfig{incarnation: "a.1", advertise: "10.1.2.3:99", peerPort: 5})
	if got := m.address().String(); got != "10.1.2.3:99" {
		t.Errorf("it advertises %s", got)
	}
	if got := m.members()[0].peer; got != "10.1.2.3:5" {
		t.Errorf("its peer address is %s", got)
	}
	m = gossipNode(t, membershipConfig{incarnation: "c.1", peerPort: 5, peerAdvertise: "10.4.5.6"})
	if got := m.members()[0].peer; got != "10.4.5.6:5" {
		t.Errorf("its peer address is %s", got)
	}
	m = gossipNode(t, membershipConfig{incarnation: "b.1", listen: ":0", advertise: "10.1.2.3"})
	if got := m.address(); got.Addr().String() != "10.1.2.3" || got.Port() != m.bound.Port() || got.Port() == 0 {
		t.Errorf("it advertises %s", got)
	}
}

// A cluster's gossip may be reached by what is no node of Weft.
func TestMemberWithForeignMeta(t *testing.T) {
	noLeaks(t)
	a := gossipNode(t, membershipConfig{incarnation: "a.1"})
	b := gossipNode(t, membershipConfig{incarnation: "b.1", name: "c", join: []string{a.address().String()}})

	config := memberlist.DefaultLANConfig()
	config.Name, config.BindAddr, config.BindPort = "d.1", "127.0.0.1", 0
	config.LogOutput = io.Discard
	d, err := memberlist.Create(config) // which has no meta
	if err != nil {
		t.Fatal(err)
	}
	defer d.Shutdown()
	if _, err := d.Join([]string{a.address().String()}); err != nil {
		t.Fatal(err)
	}
	for a.list.NumMembers() < 3 {
		receive(t, a.changed())
	}
	awaitMembers(t, b, "a.1 joining")
	awaitMembers(t, a, "a.1 joining")
}

func TestMemberLogIsBounded(t *testing.T) {
	var log logged
	g := &gossipLog{logger: log.logger()}
	for range 10 * warningsAMinute {
		fmt.Fprintln(g, "[ERR] memberlist: no way")
	}
	fmt.Fprintln(g, "[INFO] memberlist: all is well")
	if n := log.count("level=WARN"); n != warningsAMinute {
		t.Errorf("%d warnings, want %d", n, warningsAMinute)
	}
	if log.count(`level=DEBUG msg="gossip: no way"`) != 9*warningsAMinute || log.count(`level=DEBUG msg="gossip: all is well"`) != 1 {
		t.Errorf("the log is:\n%s", log.buf.String())
	}
}
