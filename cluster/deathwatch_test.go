package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const peerNodeEnv = "WEFT_TEST_PEER" // "<incarnation> <listen>"

// The test binary is also the node that the tests kill: with the variable set
// it listens, says where, and waits until its standard input ends.
func init() {
	incarnation, listen, ok := strings.Cut(os.Getenv(peerNodeEnv), " ")
	if !ok {
		return
	}
	h, err := newDeathWatch(listen, incarnation, nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(h.addr())
	io.Copy(io.Discard, os.Stdin)
	h.close()
	os.Exit(0)
}

// peerProcess is a node in a process of its own.
type peerProcess struct {
	cmd  *exec.Cmd
	addr string
	in   io.Closer
	once sync.Once
}

func startPeerProcess(t *testing.T, incarnation, listen string) *peerProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerNodeEnv+"="+incarnation+" "+listen)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &peerProcess{cmd: cmd, in: in}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if p.addr = strings.TrimSpace(line); err != nil || !strings.HasPrefix(p.addr, "127.0.0.1:") {
		t.Fatalf("the node %s says %q, %v", incarnation, line, err)
	}
	return p
}

// kill is kill -9, and waits until the process is gone.
func (p *peerProcess) kill() {
	p.once.Do(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
}

// end lets the process end in order.
func (p *peerProcess) end() {
	p.once.Do(func() {
		p.in.Close()
		p.cmd.Wait()
	})
}

// watcher is a node that watches others.
type watcher struct {
	*deathWatch
	watching chan string // every incarnation that a connection is held to
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()
	w := &watcher{watching: make(chan string, 100)}
	h, err := newDeathWatch("127.0.0.1:0", "self.1", slog.New(watchLog{slog.DiscardHandler, w.watching}))
	if err != nil {
		t.Fatal(err)
	}
	w.deathWatch = h
	t.Cleanup(h.close)
	return w
}

// watchLog sees in the log whom a node watches.
type watchLog struct {
	slog.Handler
	watching chan<- string
}

func (watchLog) Enabled(context.Context, slog.Level) bool { return true }

func (l watchLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "watching a node" {
		r.Attrs(func(a slog.Attr) bool {
			l.watching <- a.Value.String()
			return false
		})
	}
	return nil
}

func await(t *testing.T, what string, from <-chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Fatalf("%s: %s, want %s", what, got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing, want %s", what, want)
	}
}

func TestDeathWatchOfAKilledProcess(t *testing.T) {
	noLeaks(t)
	a := startPeerProcess(t, "a.1", "127.0.0.1:0")
	b := startPeerProcess(t, "b.1", "127.0.0.1:0")
	w := newWatcher(t)
	members := []member{
		{incarnation: "self.1", peer: w.addr()},
		{incarnation: "nowhere.1"},
		{incarnation: "a.1", peer: a.addr}, {incarnation: "b.1", peer: b.addr},
	}
	w.watch(members[:3])
	await(t, "watching", w.watching, "a.1")
	w.watch(members)
	await(t, "watching", w.watching, "b.1")

	killed := time.Now()
	a.kill()
	await(t, "dead", w.dead(), "a.1")
	took := time.Since(killed)
	t.Logf("proved %v after the kill", took)
	if took > 2*time.Second {
		t.Errorf("a killed process was proved dead only after %v", took)
	}

	w.watch(members) // it is named still, but is dead once only
	b.end()
	await(t, "dead", w.dead(), "b.1")
	if n := len(w.watching); n != 0 {
		t.Errorf("%d more connections were held", n)
	}
}

// A stopped process keeps its connections, and its kernel takes new ones.
func TestDeathWatchOfAStoppedProcess(t *testing.T) {
	noLeaks(t)
	a := startPeerProcess(t, "a.1", "127.0.0.1:0")
	w := newWatcher(t)
	w.watch([]member{{incarnation: "a.1", peer: a.addr}})
	await(t, "watching", w.watching, "a.1")
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var stopped syscall.WaitStatus
	if _, err := syscall.Wait4(a.cmd.Process.Pid, &stopped, syscall.WUNTRACED, nil); err != nil || !stopped.Stopped() {
		t.Fatalf("the process did not stop: %v", err)
	}
	for range 2 {
		if o := w.attempt(t.Context(), &watchedPeer{incarnation: "a.1", addr: a.addr}, func() {}); o != peerNothing {
			t.Errorf("a connection to a stopped process says %d", o)
		}
	}
	select {
	case who := <-w.dead():
		t.Errorf("%s is stopped, and proved dead", who)
	default:
	}
	if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// The connection from before has held all the time: there was no second.
	if n := len(w.watching); n != 0 {
		t.Errorf("%d more connections were held", n)
	}
	a.kill()
	await(t, "dead", w.dead(), "a.1")
}

// A node that is back at once, at the same port, may never be met refusing.
func TestDeathWatchOfAnotherIncarnation(t *testing.T) {
	noLeaks(t)
	a := startPeerProcess(t, "a.1", "127.0.0.1:0")
	w := newWatcher(t)
	w.watch([]member{{incarnation: "a.1", peer: a.addr}})
	await(t, "watching", w.watching, "a.1")
	a.kill()
	again := startPeerProcess(t, "a.2", a.addr)
	await(t, "dead", w.dead(), "a.1")
	if o := w.attempt(t.Context(), &watchedPeer{incarnation: "a.1", addr: again.addr}, func() {}); o != peerOther {
		t.Errorf("another incarnation at the address says %d", o)
	}
	w.watch([]member{{incarnation: "a.2", peer: again.addr}})
	await(t, "watching", w.watching, "a.2")
}

// What a node does that was never met proves nothing: had the watch ended with
// a proof, it would not meet the right one at last.
func TestDeathWatchNeedsToHaveMet(t *testing.T) {
	noLeaks(t)
	other, err := newDeathWatch("127.0.0.1:0", "other.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := other.addr()
	w := newWatcher(t)
	w.watch([]member{{incarnation: "a.1", peer: addr}})
	if o := w.attempt(t.Context(), &watchedPeer{incarnation: "a.1", addr: addr}, func() {}); o != peerOther {
		t.Fatalf("another incarnation at the address says %d", o)
	}
	other.close()
	for range 2 {
		if o := w.attempt(t.Context(), &watchedPeer{incarnation: "a.1", addr: addr}, func() {}); o != peerRefused {
			t.Fatalf("where nobody listens: %d", o)
		}
	}
	a, err := newDeathWatch(addr, "a.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "watching", w.watching, "a.1")
	a.close()
	await(t, "dead", w.dead(), "a.1")
}

func TestDeathWatchEvidence(t *testing.T) {
	const n, r, o, l = peerNothing, peerRefused, peerOther, peerLost
	for _, c := range []struct {
		outcomes []peerOutcome
		at       int // at which the death is proved, -1: never
	}{
		{[]peerOutcome{r, r, r, r, o, o, n, r, r}, -1},
		{[]peerOutcome{l, r, r}, 2},
		{[]peerOutcome{l, r, n, r, n, r, r}, 6},
		{[]peerOutcome{r, l, r, l, r, l, n, r}, -1},
		{[]peerOutcome{o, l, o}, 2},
		{[]peerOutcome{l, n, n, n, n, n, n}, -1},
		{[]peerOutcome{l, n, n, o}, 3},
	} {
		var e peerEvidence
		at := -1
		for i, outcome := range c.outcomes {
			if e.add(outcome) {
				at = i
				break
			}
		}
		if at != c.at {
			t.Errorf("%v proves the death at %d, want %d", c.outcomes, at, c.at)
		}
	}
}

// strange listens, and does something with every connection.
func strange(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				do(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

func TestDeathWatchProvesNothing(t *testing.T) {
	noLeaks(t)
	w := newWatcher(t)
	untilGone := func(c net.Conn) { io.Copy(io.Discard, c) }
	for name, addr := range map[string]string{
		"the network cannot be reached": "224.0.0.1:1", // no TCP to many
		"no address":                    "weft",
		"says nothing":                  strange(t, untilGone),
		"hangs up":                      strange(t, func(net.Conn) {}),
		"speaks otherwise":              strange(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n"); untilGone(c) }),
		"never comes to an end":         strange(t, func(c net.Conn) { io.WriteString(c, peerHello+strings.Repeat("x", 10*maxPeerLine)); untilGone(c) }),
	} {
		if o := w.attempt(t.Context(), &watchedPeer{incarnation: "a.1", addr: addr}, func() {}); o != peerNothing {
			t.Errorf("%s: %d", name, o)
		}
	}
}

// Nobody is watched any more who is no member.
func TestDeathWatchWatchEnds(t *testing.T) {
	noLeaks(t)
	a, err := newDeathWatch("127.0.0.1:0", "a.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newDeathWatch("127.0.0.1:0", "b.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	w := newWatcher(t)
	w.watch([]member{{incarnation: "a.1", peer: a.addr()}})
	await(t, "watching", w.watching, "a.1")
	w.watch([]member{{incarnation: "b.1", peer: b.addr()}})
	await(t, "watching", w.watching, "b.1")
	a.close()
	b.close()
	await(t, "dead", w.dead(), "b.1")

	w.close()
	w.close()
	w.watch([]member{{incarnation: "c.1", peer: a.addr()}})
	if len(w.watched) > 1 {
		t.Error("a closed watcher watches")
	}
}

func TestDeathWatchConnectionsAreBounded(t *testing.T) {
	noLeaks(t)
	a, err := newDeathWatch("127.0.0.1:0", "a.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	a.mu.Lock()
	a.accepted = maxPeerConns
	a.mu.Unlock()
	w := newWatcher(t)
	if o := w.attempt(t.Context(), &watchedPeer{incarnation: "a.1", addr: a.addr()}, func() {}); o != peerNothing {
		t.Errorf("one connection too many says %d", o)
	}
	var members []member
	for i := range 2 * maxPeersWatched {
		members = append(members, member{incarnation: fmt.Sprintf("m.%d", i), peer: "weft"}) // no address
	}
	w.watch(members)
	if n := len(w.watched); n != maxPeersWatched {
		t.Errorf("%d are watched", n)
	}
}

func TestDeathWatchSettings(t *testing.T) {
	noLeaks(t)
	for _, self := range []string{"", "a\nb", strings.Repeat("n", maxPeerLine)} {
		if _, err := newDeathWatch("127.0.0.1:0", self, nil); err == nil || !strings.Contains(err.Error(), "NodeName") {
			t.Errorf("called %.10q: %v", self, err)
		}
	}
	if _, err := newDeathWatch("203.0.113.77:0", "a.1", nil); err == nil {
		t.Error("listens at an address that is not this machine's")
	}
}

// A peer that lives, as the gossip has it, and does not answer is unreachable
// after a while, until it answers or is no peer any more.
func TestDeathWatchTellsUnreachablePeers(t *testing.T) {
	noLeaks(t)
	unreachable := func(w *watcher, want int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); w.unreachable.Load() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d peers are unreachable, want %d", w.unreachable.Load(), want)
			}
		}
	}
	other, err := newDeathWatch("127.0.0.1:0", "b.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := other.addr()
	other.close()
	w := newWatcher(t)
	w.patience = 50 * time.Millisecond
	w.watch([]member{{incarnation: "a.1", peer: addr}, {incarnation: "b.1", peer: strange(t, func(net.Conn) {})}})
	unreachable(w, 2)
	w.watch([]member{{incarnation: "a.1", peer: addr}})
	unreachable(w, 1)
	a, err := newDeathWatch(addr, "a.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	await(t, "watching", w.watching, "a.1")
	unreachable(w, 0)
}
