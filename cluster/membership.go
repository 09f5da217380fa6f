package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// memberState says what a node takes part in.
type memberState string

const (
	memberJoining  memberState = "joining"  // in the gossip, not ready to own
	memberReady    memberState = "ready"    // owns what the ring says
	memberDraining memberState = "draining" // gives away what it owns
)

func (s memberState) valid() bool {
	return s == memberJoining || s == memberReady || s == memberDraining
}

// member is a running node as the gossip knows it.
type member struct {
	name        string // the node's, which it may keep over restarts
	incarnation string // name + "." + something of this run
	state       memberState
	peer        string // host:port of its death watch
	boot        int64  // µs since 1970, by its own clock
	sockets     int64  // about how many it has; -1: it does not tell
}

// newestOf finds the member that each name stands for. A node that has just
// been restarted may have two incarnations for a second: the one that started
// last counts.
func newestOf(members []member) map[string]member {
	newest := make(map[string]member, len(members))
	for _, m := range members {
		have, ok := newest[m.name]
		if !ok || cmp.Or(cmp.Compare(have.boot, m.boot), cmp.Compare(have.incarnation, m.incarnation)) < 0 {
			newest[m.name] = m
		}
	}
	return newest
}

type membershipConfig struct {
	name          string              // the node's
	incarnation   string              // name + "." + something that no other run has
	listen        string              // host:port or :port, for TCP and UDP; port 0: any
	advertise     string              // host or host:port; empty: see machine.advertised
	keyring       *memberlist.Keyring // nil: no encryption
	join          []string
	peerPort      uint16 // where its death watch listens
	peerAdvertise string // IP or IP:port; what is left out is advertise's and peerPort
	logger        *slog.Logger
	rejoin        time.Duration // how often to look for others, zero: 10 s
	lookup        lookupFunc    // nil: the system's resolver
}

const (
	updateTimeout   = time.Second
	leaveTimeout    = 2 * time.Second
	streamTimeout   = 3 * time.Second
	bindAttempts    = 10 // to find a port that is free for TCP and for UDP
	updateAttempts  = 3
	warningsAMinute = 20 // of memberlist's
)

// membership is what a node knows by gossip of the nodes that run, itself
// included. It is a peer: nodes may disagree for a while, and a node that it
// calls gone may only be cut off.
type membership struct {
	config membershipConfig // fixed
	logger *slog.Logger
	list   *memberlist.Memberlist
	names  joinNames
	self   netip.AddrPort // as advertised
	peer   string         // where the others reach the death watch
	bound  netip.AddrPort
	boot   int64
	signal chan struct{}
	ctx    context.Context // ends the joins and the connections made
	cancel context.CancelFunc
	joins  sync.WaitGroup

	updating sync.Mutex // one setState, leave or close at a time
	closed   bool       // guarded by updating

	mu      sync.Mutex
	state   memberState
	sockets int64
	alive   map[string]aliveMember // by incarnation
	outcome map[string]string      // of the last round of joins, "" for success
}

type aliveMember struct {
	member
	at netip.AddrPort // its gossip address
	ok bool           // its meta could be read
}

// newMembership listens, and joins the nodes it finds; ctx bounds that first
// attempt only. That nobody is there is no error: it looks again and again.
// Every error says which field of the config is unusable.
func newMembership(ctx context.Context, c membershipConfig) (*membership, error) {
	c.rejoin = cmp.Or(c.rejoin, rejoinInterval)
	if c.lookup == nil {
		c.lookup = lookupHost
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	listen, err := listenAddress(c.listen)
	if err != nil {
		return nil, err
	}
	names, err := parseJoin(c.join, c.lookup)
	if err != nil {
		return nil, err
	}
	advertise, err := advertiseAddress(ctx, c.advertise, listen, names)
	if err != nil {
		return nil, err
	}

	m := &membership{
		config: c,
		logger: c.logger,
		names:  names,
		boot:   time.Now().UnixMicro(),
		signal: make(chan struct{}, 1),
		state:  memberJoining,
		alive:  make(map[string]aliveMember),
	}
	if m.peer, err = peerAddress(c.peerAdvertise, advertise.Addr(), c.peerPort); err != nil {
		return nil, err
	}
	if n := len(m.meta(memberDraining, math.MaxInt64)); n > memberlist.MetaMaxSize {
		return nil, badConfig("NodeName", "is too long: what the gossip says of a node may have %d bytes, this has %d", memberlist.MetaMaxSize, n)
	}
	logger := log.New(&gossipLog{logger: c.logger}, "", 0)
	transport, err := bindGossip(listen, logger)
	if err != nil {
		return nil, err
	}
	m.bound = netip.AddrPortFrom(listen.Addr(), uint16(transport.GetAutoBindPort()))
	m.self = netip.AddrPortFrom(advertise.Addr(), cmp.Or(advertise.Port(), m.bound.Port()))
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.list, err = memberlist.Create(m.listConfig(transport, logger))
	if err != nil {
		m.cancel()
		return nil, errors.Join(badForNow("GossipListen", "cannot be used by the gossip: %w", err), transport.Shutdown())
	}

	reached := m.join(ctx)
	m.joins.Go(func() { m.rejoin(reached) })
	return m, nil
}

// listConfig is memberlist's for a network, quicker to notice a death: about a
// second instead of seven.
func (m *membership) listConfig(transport *memberlist.NetTransport, logger *log.Logger) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	// It refuses a known name at another address, which is what a node that
	// crashed and came back is. An incarnation never comes back.
	c.Name = m.config.incarnation
	c.Transport = gossipTransport{transport, m.ctx}
	c.AdvertiseAddr = m.self.Addr().String()
	c.AdvertisePort = int(m.self.Port())
	c.Keyring = m.config.keyring
	c.Delegate = (*gossipDelegate)(m)
	c.Events = (*gossipEvents)(m)
	c.Logger = logger
	c.ProbeInterval = 200 * time.Millisecond
	c.ProbeTimeout = 100 * time.Millisecond
	c.SuspicionMult = 3
	c.SuspicionMaxTimeoutMult = 2
	c.GossipInterval = 50 * time.Millisecond
	// An exchange of everything mends what lost packets have left out.
	c.PushPullInterval = 10 * time.Second
	// For that long a dead member is told so, and may object.
	c.GossipToTheDeadTime = 3 * m.config.rejoin
	// A node that does not answer must not hold up the others for long.
	c.TCPTimeout = streamTimeout
	c.EnableCompression = false // packets of a few hundred bytes
	return c
}

// changed gets a value after members has changed, one for any number of
// changes. It is never closed.
func (m *membership) changed() <-chan struct{} { return m.signal }

// members are the nodes that run as far as is known, by incarnation, this one
// included until it leaves.
func (m *membership) members() []member {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]member, 0, len(m.alive))
	for _, a := range m.alive {
		if a.ok {
			list = append(list, a.member)
		}
	}
	slices.SortFunc(list, func(a, b member) int { return cmp.Compare(a.incarnation, b.incarnation) })
	return list
}

// address is where the others reach this node's gossip.
func (m *membership) address() netip.AddrPort { return m.self }

var errMembershipClosed = errors.New("the node has left the gossip")

// setState tells all nodes what this one takes part in. It returns when the
// first have been told, normally within half a second.
func (m *membership) setState(s memberState) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	if m.closed {
		return errMembershipClosed
	}
	m.mu.Lock()
	m.state = s
	m.mu.Unlock()
	var err error
	for range updateAttempts {
		// It fails although all is well if nobody took the packet in time,
		// which the next exchange of everything mends; and it does nothing, and
		// fails, if somebody accused this node at the same moment.
		err = m.list.UpdateNode(updateTimeout)
		m.mu.Lock()
		is := m.alive[m.config.incarnation].state
		m.mu.Unlock()
		if is == s {
			return nil
		}
	}
	return fmt.Errorf("telling the gossip that this node is %s: %w", s, cmp.Or(err, errors.New("it was not taken")))
}

// setSockets tells all nodes, some time, how many sockets this one has.
func (m *membership) setSockets(n int64) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	if m.closed {
		return errMembershipClosed
	}
	m.mu.Lock()
	m.sockets = n
	m.mu.Unlock()
	return m.list.UpdateNode(updateTimeout)
}

// leave tells the others that this node goes, and closes. If ctx ends, or two
// seconds are over, before anybody has heard of it, it closes all the same, and
// says so.
func (m *membership) leave(ctx context.Context) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	if m.closed {
		return nil
	}
	m.cancel() // or a join would hold this up
	m.joins.Wait()
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if ctx.Err() != nil {
		timeout = 0
	}
	err := m.list.Leave(max(timeout, time.Millisecond))
	if err != nil {
		err = fmt.Errorf("leaving the gossip: %w", err)
	}
	return errors.Join(err, m.shutdownLocked())
}

// close ends without a word, as a crash does: the others notice by themselves.
func (m *membership) close() error {
	m.updating.Lock()
	defer m.updating.Unlock()
	if m.closed {
		return nil
	}
	m.cancel()
	m.joins.Wait()
	return m.shutdownLocked()
}

// shutdownLocked frees the port. What memberlist has begun ends by itself soon
// after: a probe within two seconds, a connection within streamTimeout.
func (m *membership) shutdownLocked() error {
	m.closed = true
	return m.list.Shutdown()
}

// memberMeta is what the gossip says of a node beside its address.
type memberMeta struct {
	Name  string      `json:"name"`
	State memberState `json:"state"`
	Peer  string      `json:"peer"`
	Boot  int64       `json:"boot"`
	// Sockets is how many the node has, about.
	Sockets *int64 `json:"sockets"`
}

func (m *membership) meta(s memberState, sockets int64) []byte {
	b, err := json.Marshal(memberMeta{m.config.name, s, m.peer, m.boot, &sockets})
	if err != nil {
		panic(err) // strings and a number
	}
	return b
}

// gossipDelegate gives memberlist what to tell of this node.
type gossipDelegate membership

func (d *gossipDelegate) NodeMeta(int) []byte {
	m := (*membership)(d)
	m.mu.Lock()
	s, sockets := m.state, m.sockets
	m.mu.Unlock()
	return m.meta(s, sockets)
}
func (*gossipDelegate) NotifyMsg([]byte)                {}
func (*gossipDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (*gossipDelegate) LocalState(bool) []byte          { return nil }
func (*gossipDelegate) MergeRemoteState([]byte, bool)   {}

// gossipEvents keeps the table of members. memberlist has one, too, but hands
// out pointers into it that it goes on writing to.
type gossipEvents membership

func (e *gossipEvents) NotifyJoin(n *memberlist.Node)   { e.put(n) }
func (e *gossipEvents) NotifyUpdate(n *memberlist.Node) { e.put(n) }

func (e *gossipEvents) NotifyLeave(n *memberlist.Node) {
	m := (*membership)(e)
	m.mu.Lock()
	delete(m.alive, n.Name)
	m.mu.Unlock()
	m.tell()
}

func (e *gossipEvents) put(n *memberlist.Node) {
	m := (*membership)(e)
	ip, _ := netip.AddrFromSlice(n.Addr)
	a := aliveMember{at: netip.AddrPortFrom(ip.Unmap(), n.Port)}
	var meta memberMeta
	err := json.Unmarshal(n.Meta, &meta)
	if err == nil && meta.State.valid() && strings.HasPrefix(n.Name, meta.Name+".") {
		a.ok = true
		a.member = member{meta.Name, n.Name, meta.State, meta.Peer, meta.Boot, -1}
		if meta.Sockets != nil && *meta.Sockets >= 0 {
			a.sockets = *meta.Sockets
		}
	} else {
		m.logger.Warn("passing over a member of the gossip that is no node of Weft, or of another version", "member", n.Name, "addr", a.at.String())
	}
	m.mu.Lock()
	before := m.alive[n.Name]
	m.alive[n.Name] = a
	m.mu.Unlock()
	if before.sockets = a.sockets; before != a { // nobody waits for a count
		m.tell()
	}
}

func (m *membership) tell() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// gossipTransport is memberlist's own, but the connections it makes end with
// a context.
type gossipTransport struct {
	*memberlist.NetTransport
	ctx context.Context
}

func (t gossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(t.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return gossipConn{c, context.AfterFunc(t.ctx, func() { _ = c.Close() })}, nil
}

type gossipConn struct {
	net.Conn
	release func() bool
}

func (c gossipConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// bindGossip listens for TCP and UDP on one port.
func bindGossip(listen netip.AddrPort, logger *log.Logger) (*memberlist.NetTransport, error) {
	attempts := 1
	if listen.Port() == 0 {
		attempts = bindAttempts // the port that is free for TCP may not be for UDP
	}
	var err error
	for range attempts {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{listen.Addr().String()}, BindPort: int(listen.Port()), Logger: logger})
		if err == nil {
			return t, nil
		}
		if !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			break
		}
	}
	return nil, badForNow("GossipListen", "cannot be listened at, by TCP and UDP: %w", err)
}

// gossipLog takes memberlist's log. Its warnings and errors are warnings here,
// but not all: a node that is cut off, or a stranger's packets, would make
// thousands.
type gossipLog struct {
	logger *slog.Logger

	mu     sync.Mutex
	minute time.Time
	warned int
}

func (g *gossipLog) Write(line []byte) (int, error) {
	text := bytes.TrimSpace(line)
	level := slog.LevelDebug
	if bytes.HasPrefix(text, []byte("[WARN]")) || bytes.HasPrefix(text, []byte("[ERR")) {
		level = g.warning()
	}
	if _, rest, ok := bytes.Cut(text, []byte("] ")); ok && text[0] == '[' {
		text = rest
	}
	g.logger.Log(context.Background(), level, "gossip: "+string(bytes.TrimPrefix(text, []byte("memberlist: "))))
	return len(line), nil
}

func (g *gossipLog) warning() slog.Level {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.minute) >= time.Minute {
		g.minute, g.warned = now, 0
	}
	if g.warned++; g.warned > warningsAMinute {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
