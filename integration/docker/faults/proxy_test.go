package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of these tests; none waits this long unless it fails.
const patience = 20 * time.Second

// fakeRedis answers +OK to every command and keeps them all.
type fakeRedis struct {
	listener net.Listener
	running  sync.WaitGroup
	commands chan string
}

func newFakeRedis(t *testing.T) *fakeRedis {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &fakeRedis{listener: l, commands: make(chan string, 100)}
	r.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					words, _, err := readCommand(in)
					if err != nil {
						return
					}
					var said []string
					for _, w := range words {
						said = append(said, string(w))
					}
					r.commands <- strings.Join(said, " ")
					if _, err := io.WriteString(conn, "+OK\r\n"); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.running.Wait()
	})
	return r
}

func (r *fakeRedis) addr() string { return r.listener.Addr().String() }

func (r *fakeRedis) heard(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.commands:
		if got != want {
			t.Errorf("Redis heard %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("Redis never heard %q", want)
	}
}

// peer is a connection of a node's.
type peer struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func connect(t *testing.T, addr string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &peer{t, conn, bufio.NewReader(conn)}
}

func (p *peer) say(lines ...string) {
	p.t.Helper()
	var b strings.Builder
	for _, line := range lines {
		words := strings.Fields(line)
		fmt.Fprintf(&b, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	if _, err := io.WriteString(p, b.String()); err != nil {
		p.t.Fatal(err)
	}
}

// hears reads one line within a time; "" if there is none by then.
func (p *peer) hears(within time.Duration) string {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(within)); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.in.ReadString('\n')
	switch {
	case err == nil:
		return strings.TrimSpace(line)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ""
	}
	return err.Error()
}

func (p *peer) mustHear(want string) {
	p.t.Helper()
	if got := p.hears(patience); got != want {
		p.t.Fatalf("heard %q, want %q", got, want)
	}
}

func (p *peer) mustHearNothing() {
	p.t.Helper()
	if got := p.hears(50 * time.Millisecond); got != "" {
		p.t.Fatalf("heard %q, want nothing", got)
	}
}

func newTestProxy(t *testing.T, r *fakeRedis) *RedisProxy {
	t.Helper()
	p, err := NewRedisProxy(r.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

const (
	anAppend = "EVALSHA abc 2 weft:{p7}:log weft:{p7}:own x"
	aRead    = "XREAD BLOCK 1000 STREAMS weft:{p7}:log weft:{p8}:log 1-0 2-0"
	aRenewal = "EVALSHA def 1 weft:n:a.1:lease weft:{p7}:log"
)

func TestCommandsAreToldApart(t *testing.T) {
	cases := []struct {
		line         string
		append, read bool
	}{
		{anAppend, true, false},
		{"XADD weft:{p7}:log * a b", true, false},
		{aRead, false, true},
		{aRenewal, false, false},
		{"EVALSHA def 3 weft:{p7}:own weft:{p7}:log weft:{p7}:base 1", false, false},
		{"EVALSHA def 0", false, false},
		{"XREAD BLOCK 1000 STREAMS weft:n:a.1:out 1-0", false, false},
		{"EVALSHA abc", false, false},
		{"EVALSHA abc 9 k", false, false},
		{"XREAD STREAMS", false, false},
		{"PING", false, false},
	}
	for _, c := range cases {
		var words [][]byte
		for _, w := range strings.Fields(c.line) {
			words = append(words, []byte(w))
		}
		if IsAppend(words) != c.append || IsLogRead(words) != c.read {
			t.Errorf("%s: append %v, read %v", c.line, IsAppend(words), IsLogRead(words))
		}
	}
	if IsAppend(nil) || IsLogRead(nil) {
		t.Error("no command at all is taken for one")
	}
}

func TestBrokenCommandsAreErrors(t *testing.T) {
	for _, text := range []string{"*x\r\n", "*-1\r\n", "*1\r\n+OK\r\n", "*1\r\n$-1\r\n", "*1\r\n$999999999999\r\n", "*1\r\n$5\r\nab", "*2\r\n$1\r\na\r\n"} {
		if words, _, err := readCommand(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q is %q", text, words)
		}
	}
}

func TestProxyPassesOn(t *testing.T) {
	r := newFakeRedis(t)
	c := connect(t, newTestProxy(t, r).Addr())
	c.say("PING", anAppend)
	r.heard(t, "PING")
	r.heard(t, anAppend)
	c.mustHear("+OK")
	c.mustHear("+OK")
}

func TestProxyCutIsSilentAndDeliversLater(t *testing.T) {
	r := newFakeRedis(t)
	p := newTestProxy(t, r)
	old := connect(t, p.Addr())
	old.say("PING")
	r.heard(t, "PING")
	old.mustHear("+OK")
	p.Cut()
	young := connect(t, p.Addr())
	old.say("OLD")
	young.say("YOUNG")
	old.mustHearNothing()
	young.mustHearNothing()
	select {
	case c := <-r.commands:
		t.Fatalf("Redis heard %q through a cut", c)
	default:
	}
	p.Heal()
	old.mustHear("+OK")
	young.mustHear("+OK")
}

func TestProxyHoldsSomeConnectionsOnly(t *testing.T) {
	r := newFakeRedis(t)
	p := newTestProxy(t, r)
	reader, other := connect(t, p.Addr()), connect(t, p.Addr())
	p.Hold(IsLogRead)
	reader.say(aRead)
	reader.mustHearNothing()
	other.say(anAppend)
	r.heard(t, anAppend)
	other.mustHear("+OK")
	p.Heal()
	r.heard(t, aRead)
	reader.mustHear("+OK")
}

func TestProxyLosesRepliesNotCommands(t *testing.T) {
	r := newFakeRedis(t)
	p := newTestProxy(t, r)
	p.Lose(1, IsAppend)
	c := connect(t, p.Addr())
	c.say("PING")
	r.heard(t, "PING")
	c.mustHear("+OK")
	c.say(anAppend, "PING", anAppend)
	r.heard(t, anAppend)
	r.heard(t, "PING")
	r.heard(t, anAppend)
	c.mustHear("EOF")
	if p.Lost() != 1 {
		t.Errorf("%d lost, want one", p.Lost())
	}
	p.Heal()
	c = connect(t, p.Addr())
	c.say(anAppend)
	r.heard(t, anAppend)
	c.mustHear("+OK")
}

func TestProxyRedirects(t *testing.T) {
	first, second := newFakeRedis(t), newFakeRedis(t)
	p := newTestProxy(t, first)
	c := connect(t, p.Addr())
	c.say("PING")
	c.mustHear("+OK")
	p.Redirect(second.addr())
	if got := c.hears(patience); got != "EOF" && !strings.Contains(got, "reset") {
		t.Errorf("heard %q, want the end", got)
	}
	c = connect(t, p.Addr())
	c.say("PING")
	second.heard(t, "PING")
	c.mustHear("+OK")
}

func TestGossipNetCutsOneNodeOff(t *testing.T) {
	g := NewGossipNet()
	t.Cleanup(g.Close)
	type node struct {
		udp       net.PacketConn
		tcp       net.Listener
		advertise string
	}
	add := func(name string, pid int) node {
		addr, err := freeAddr()
		if err != nil {
			t.Fatal(err)
		}
		var n node
		if n.udp, err = net.ListenPacket("udp", addr); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.udp.Close() })
		if n.tcp, err = net.Listen("tcp", addr); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.tcp.Close() })
		if n.advertise, err = g.Add(name, addr); err != nil {
			t.Fatal(err)
		}
		g.Started(name, pid)
		return n
	}
	// This process is a; the connections of b and c belong to nobody.
	a, b, c := add("a", os.Getpid()), add("b", 0), add("c", 0)

	arrives := func(from, to node) bool {
		t.Helper()
		at, err := net.ResolveUDPAddr("udp", to.advertise)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := from.udp.WriteTo([]byte("ping"), at); err != nil {
			t.Fatal(err)
		}
		if err := to.udp.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, _, err := to.udp.ReadFrom(make([]byte, 10))
		return err == nil && n == 4
	}
	packets := func(want bool) {
		t.Helper()
		if got := arrives(a, b); got != want {
			t.Errorf("a to b: %v, want %v", got, want)
		}
		if got := arrives(b, a); got != want {
			t.Errorf("b to a: %v, want %v", got, want)
		}
		if !arrives(b, c) {
			t.Error("b to c: a packet is lost")
		}
	}
	packets(true)

	toB := connect(t, b.advertise)
	atB, err := b.tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer atB.Close()
	if _, err := io.WriteString(atB, "hello\n"); err != nil {
		t.Fatal(err)
	}
	toB.mustHear("hello")

	g.Cut("a")
	packets(false)
	if _, err := io.WriteString(atB, "late\n"); err != nil {
		t.Fatal(err)
	}
	toB.mustHearNothing()
	g.Heal("a")
	toB.mustHear("late")
	packets(true)
}
