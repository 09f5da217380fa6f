package faults

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// RedisProxy stands between one node and Redis. As made it passes everything on.
type RedisProxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	links  map[*redisLink]bool
	cut    bool
	holds  func(words [][]byte) bool // a connection with such a command stands still
	loses  func(words [][]byte) bool // some replies to such commands are lost
	share  float64
	lost   int
	closed bool
}

// redisLink is one connection of the node's and the one that it became.
type redisLink struct {
	proxy    *RedisProxy
	node, up net.Conn
	gate     gate
	held     bool // guarded by the proxy's mu
}

// NewRedisProxy listens on a free port of the loopback interface. The caller closes it.
func NewRedisProxy(target string) (*RedisProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &RedisProxy{listener: l, target: target, links: map[*redisLink]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where the node finds Redis.
func (p *RedisProxy) Addr() string { return p.listener.Addr().String() }

// Cut stops everything both ways, as a network does that drops packets: nothing is closed, what is on its
// way arrives after Heal.
func (p *RedisProxy) Cut() { p.set(func() { p.cut = true }) }

// Hold does the same to those connections alone on which such a command comes.
func (p *RedisProxy) Hold(such func(words [][]byte) bool) { p.set(func() { p.holds = such }) }

// Lose closes the connection in place of the replies to such commands, for a share of them, 0 to 1. Redis
// has carried them out.
func (p *RedisProxy) Lose(share float64, such func(words [][]byte) bool) {
	p.set(func() { p.loses, p.share = such, share })
}

// Heal ends all that.
func (p *RedisProxy) Heal() {
	p.set(func() {
		p.cut, p.holds, p.loses = false, nil, nil
		for l := range p.links {
			l.held = false
		}
	})
}

// Lost is how many replies, or bundles of replies, have been lost.
func (p *RedisProxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Redirect sends the node to another Redis: all connections are closed.
func (p *RedisProxy) Redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for l := range p.links {
		l.close()
	}
}

// Close ends it, and all connections.
func (p *RedisProxy) Close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	for l := range p.links {
		l.close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *RedisProxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	for l := range p.links {
		l.gate.set(p.cut || l.held)
	}
}

func (p *RedisProxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := &redisLink{proxy: p, node: conn, gate: newGate()}
		p.mu.Lock()
		if p.closed {
			_ = conn.Close()
		} else {
			l.gate.set(p.cut)
			p.links[l] = true
			p.running.Go(l.run)
		}
		p.mu.Unlock()
	}
}

func (l *redisLink) run() {
	defer func() {
		l.proxy.mu.Lock()
		defer l.proxy.mu.Unlock()
		delete(l.proxy.links, l)
		l.close()
	}()
	if !l.gate.pass() {
		return
	}
	l.proxy.mu.Lock()
	target := l.proxy.target
	l.proxy.mu.Unlock()
	up, err := net.DialTimeout("tcp", target, time.Second)
	if err != nil {
		return
	}
	l.proxy.mu.Lock()
	l.up = up
	stale := l.proxy.closed || l.proxy.target != target
	l.proxy.mu.Unlock()
	if stale {
		return
	}
	replies := make(chan struct{})
	var lose sync.Once
	losing := make(chan struct{})
	go func() {
		defer close(replies)
		l.replies(losing)
	}()
	if l.requests(func() { lose.Do(func() { close(losing) }) }) != nil {
		l.proxy.mu.Lock()
		l.close()
		l.proxy.mu.Unlock()
	}
	<-replies
}

// requests passes commands on until there are no more, or until the reply to one is to be lost: then what
// came with it is passed on as well, Redis is told that this was all, and its replies go nowhere.
func (l *redisLink) requests(lose func()) error {
	in, out := bufio.NewReaderSize(l.node, 64<<10), bufio.NewWriterSize(l.up, 64<<10)
	appends := false
	for {
		words, raw, err := readCommand(in)
		if err != nil {
			return err
		}
		appends = l.proxy.sees(l, words) || appends
		if !l.gate.pass() {
			return net.ErrClosed
		}
		last := in.Buffered() == 0
		losing := last && appends && l.proxy.chance()
		if losing {
			lose() // before Redis can answer
		}
		if _, err := out.Write(raw); err != nil {
			return err
		}
		if !last {
			continue
		}
		appends = false
		if err := out.Flush(); err != nil {
			return err
		}
		if losing {
			return l.up.(*net.TCPConn).CloseWrite()
		}
	}
}

// replies passes them on until Redis closes, or reads them for nobody once they are to be lost.
func (l *redisLink) replies(losing <-chan struct{}) {
	defer l.node.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := l.up.Read(b)
		if err != nil || !l.gate.pass() {
			return
		}
		select {
		case <-losing:
			continue
		default:
		}
		if _, err := l.node.Write(b[:n]); err != nil {
			_, _ = io.Copy(io.Discard, l.up) // so that Redis does not block; requests notice and close
			return
		}
	}
}

// sees lets the proxy's rules look at a command, and says whether its reply may get lost.
func (p *RedisProxy) sees(l *redisLink, words [][]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds != nil && p.holds(words) {
		l.held = true
		l.gate.set(true)
	}
	return p.loses != nil && p.loses(words)
}

func (p *RedisProxy) chance() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loses == nil || rand.Float64() >= p.share {
		return false
	}
	p.lost++
	return true
}

// close is called with the proxy's mu held, or before anybody else knows the link.
func (l *redisLink) close() {
	l.gate.close()
	_ = l.node.Close()
	if l.up != nil {
		_ = l.up.Close()
	}
}

// gate lets pass or keeps waiting. Made by newGate, open.
type gate struct{ state *gateState }

type gateState struct {
	mu     sync.Mutex
	shut   chan struct{} // nil while open; closed when it opens
	closed bool
}

func newGate() gate { return gate{&gateState{}} }

func (g gate) set(shut bool) {
	g.state.mu.Lock()
	defer g.state.mu.Unlock()
	switch {
	case shut && g.state.shut == nil && !g.state.closed:
		g.state.shut = make(chan struct{})
	case !shut && g.state.shut != nil:
		close(g.state.shut)
		g.state.shut = nil
	}
}

// close opens it for good: whoever passes learns that there is nothing to pass for.
func (g gate) close() {
	g.set(false)
	g.state.mu.Lock()
	defer g.state.mu.Unlock()
	g.state.closed = true
}

// pass returns when the gate is open; false if it is closed for good.
func (g gate) pass() bool {
	for {
		g.state.mu.Lock()
		shut, closed := g.state.shut, g.state.closed
		g.state.mu.Unlock()
		if closed {
			return false
		}
		if shut == nil {
			return true
		}
		<-shut
	}
}
