package faults

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// GossipNet carries the gossip between nodes. Each advertises an address of the net's, which passes on to
// where it listens; so the net sees who speaks to whom, and can cut one off from all others: packets by
// the port that they come from, which is where their node listens, connections by the process that has
// the other end.
type GossipNet struct {
	running sync.WaitGroup

	mu    sync.Mutex
	ports map[string]*gossipPort // by node
	links map[*gossipLink]bool
}

// gossipPort is the address that a node advertises.
type gossipPort struct {
	net    *GossipNet
	node   string
	listen string // where the node listens, TCP and UDP
	tcp    net.Listener
	udp    *net.UDPConn
	pid    int // 0 while it does not run
	cut    bool
}

type gossipLink struct {
	from, to string // nodes
	a, b     net.Conn
	gate     gate
}

// NewGossipNet returns a net without nodes. The caller closes it.
func NewGossipNet() *GossipNet {
	return &GossipNet{ports: map[string]*gossipPort{}, links: map[*gossipLink]bool{}}
}

// Add gives a node that listens on an address of the loopback interface the one to advertise.
func (g *GossipNet) Add(node, listen string) (advertise string, err error) {
	p := &gossipPort{net: g, node: node, listen: listen}
	for range 10 { // somebody else may take the port in between
		if advertise, err = freeAddr(); err != nil {
			return "", err
		}
		if err = p.bind(advertise); err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	g.ports[node] = p
	g.mu.Unlock()
	g.running.Go(p.packets)
	g.running.Go(p.accept)
	return advertise, nil
}

func (p *gossipPort) bind(addr string) error {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	if p.udp, err = net.ListenUDP("udp", at); err != nil {
		return err
	}
	if p.tcp, err = net.Listen("tcp", addr); err != nil {
		_ = p.udp.Close()
	}
	return err
}

// Started tells the net a node's process.
func (g *GossipNet) Started(node string, pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ports[node].pid = pid
}

// Cut cuts a node off from all others, as a network does that drops packets.
func (g *GossipNet) Cut(node string) { g.set(node, true) }

// Heal ends that.
func (g *GossipNet) Heal(node string) { g.set(node, false) }

func (g *GossipNet) set(node string, cut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ports[node].cut = cut
	for l := range g.links {
		l.gate.set(g.isCutLocked(l.from, l.to))
	}
}

func (g *GossipNet) isCutLocked(from, to string) bool {
	a, b := g.ports[from], g.ports[to]
	return a != nil && a.cut || b != nil && b.cut
}

// Close ends it, and all connections.
func (g *GossipNet) Close() {
	g.mu.Lock()
	for _, p := range g.ports {
		_ = p.tcp.Close()
		_ = p.udp.Close()
	}
	for l := range g.links {
		l.close()
	}
	g.mu.Unlock()
	g.running.Wait()
}

func (p *gossipPort) packets() {
	to, err := net.ResolveUDPAddr("udp", p.listen)
	if err != nil {
		return
	}
	b := make([]byte, 64<<10)
	for {
		n, from, err := p.udp.ReadFromUDP(b)
		if err != nil {
			return
		}
		p.net.mu.Lock()
		cut := p.net.isCutLocked(p.net.listeningLocked(from.String()), p.node)
		p.net.mu.Unlock()
		if !cut {
			_, _ = p.udp.WriteToUDP(b[:n], to) // a packet may get lost
		}
	}
}

// listeningLocked is the node that listens on an address.
func (g *GossipNet) listeningLocked(addr string) string {
	for name, p := range g.ports {
		if p.listen == addr {
			return name
		}
	}
	return ""
}

func (p *gossipPort) accept() {
	for {
		conn, err := p.tcp.Accept()
		if err != nil {
			return
		}
		g := p.net
		l := &gossipLink{from: g.owner(conn), to: p.node, a: conn, gate: newGate()}
		g.mu.Lock()
		l.gate.set(g.isCutLocked(l.from, l.to))
		g.links[l] = true
		g.mu.Unlock()
		g.running.Go(func() { l.run(g, p.listen) })
	}
}

func (l *gossipLink) run(g *GossipNet, listen string) {
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.links, l)
		l.close()
	}()
	if !l.gate.pass() {
		return
	}
	b, err := net.Dial("tcp", listen)
	if err != nil {
		return // and close: refused is what the other side would have got
	}
	g.mu.Lock()
	l.b = b
	g.mu.Unlock()
	back := make(chan struct{})
	go func() {
		defer close(back)
		l.pump(l.a, l.b)
	}()
	l.pump(l.b, l.a)
	<-back
}

// pump passes on what one side says, and its end.
func (l *gossipLink) pump(to, from net.Conn) {
	_, err := io.Copy(gated{to, l.gate}, from)
	if !l.gate.pass() {
		return
	}
	if c, ok := to.(*net.TCPConn); ok && err == nil {
		_ = c.CloseWrite()
		return
	}
	_ = to.Close()
}

type gated struct {
	w    io.Writer
	gate gate
}

func (g gated) Write(b []byte) (int, error) {
	if !g.gate.pass() {
		return 0, net.ErrClosed
	}
	return g.w.Write(b)
}

// close is called with the net's mu held.
func (l *gossipLink) close() {
	l.gate.close()
	_ = l.a.Close()
	if l.b != nil {
		_ = l.b.Close()
	}
}

// owner is the node whose process has the other end of a connection; "" if none has.
func (g *GossipNet) owner(conn net.Conn) string {
	g.mu.Lock()
	pids := map[string]int{}
	for name, p := range g.ports {
		if p.pid != 0 {
			pids[name] = p.pid
		}
	}
	g.mu.Unlock()
	inode := inodeOf(conn.RemoteAddr().(*net.TCPAddr).Port, conn.LocalAddr().(*net.TCPAddr).Port)
	if inode == "" {
		return ""
	}
	for name, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is good
		for _, fd := range fds {
			if link, err := os.Readlink(fd); err == nil && link == "socket:["+inode+"]" {
				return name
			}
		}
	}
	return ""
}

// inodeOf finds a connection between two ports of this machine in the kernel's tables.
func inodeOf(local, remote int) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && portOf(f[1]) == local && portOf(f[2]) == remote {
				return f[9]
			}
		}
	}
	return ""
}

func portOf(hex string) int {
	n, _ := strconv.ParseUint(hex[strings.LastIndexByte(hex, ':')+1:], 16, 16) // 0 in the table's head
	return int(n)
}
