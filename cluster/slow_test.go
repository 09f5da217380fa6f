package cluster

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// slowLink passes connections on to an address, all of them together at so many bytes
// a second in each direction.
func slowLink(t *testing.T, to string, bytesPerSecond int) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		tasks.Wait()
	})
	const piece = 16 << 10
	up, down := rate.NewLimiter(rate.Limit(bytesPerSecond), piece), rate.NewLimiter(rate.Limit(bytesPerSecond), piece)
	pass := func(from, to net.Conn, pace *rate.Limiter) {
		defer from.Close()
		defer to.Close()
		b := make([]byte, piece)
		for {
			n, err := from.Read(b)
			if err == nil {
				err = pace.WaitN(ctx, n)
			}
			if err == nil {
				_, err = to.Write(b[:n])
			}
			if err != nil {
				return
			}
		}
	}
	tasks.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			for _, c := range []net.Conn{near, far} { // what waits must not be all in buffers
				_ = c.(*net.TCPConn).SetWriteBuffer(piece)
				_ = c.(*net.TCPConn).SetReadBuffer(piece)
			}
			context.AfterFunc(ctx, func() { _ = near.Close(); _ = far.Close() })
			tasks.Go(func() { pass(near, far, up) })
			tasks.Go(func() { pass(far, near, down) })
		}
	})
	return listener.Addr().String()
}

// crash ends a node like a process that is killed.
func crash(n *Node) {
	n.cancel()
	n.tasks.Wait()
	n.life.Load().abandon()
}

// scrawl sends an edit of so many bytes.
func (w *witness) scrawl(key string, size int) {
	w.say(`{"type":"patch","messageId":%q,"documentPatches":[{%q:{"_exists":true,"text":%q}}]}`, key, key, strings.Repeat("x", size))
}

// Redis stalls for a moment. Then everything that has waited comes at once, and the owner
// needs seconds to read it all.
func TestMuchToReadOverASlowLink(t *testing.T) {
	t.Parallel()
	const rooms, messages, size, bytesPerSecond = 40, 9, 110 << 10, 10_000_000
	r := startForgetfulRedis(t)
	owner := startNode(t, slowLink(t, r.addr, bytesPerSecond), nil)
	eventually(t, "the only node to own all", func() bool { return owner.Stats().OwnedPartitions == partitions })
	edge := startNode(t, r.addr, func(c *Config) { c.NodeName, c.Join = "b", []string{owner.life.Load().gossip.address().String()} })

	// What the new node takes over is not what this is about.
	var clients []*witness
	taken := map[int]bool{}
	for i := 0; len(clients) < rooms; i++ {
		name := fmt.Sprint("room", i)
		if p := partitionOf(name); !taken[p] && owner.life.Load().ownership.owns(p) {
			taken[p] = true
			clients = append(clients, visit(t, edge, name, "c"))
		}
	}
	doubts := edge.stats.doubts.Load()
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		for m := range messages {
			c.scrawl(fmt.Sprint("m", m), size)
		}
	}
	time.Sleep(900 * time.Millisecond)
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		c.gets(fmt.Sprintf(`"ack","messageId":"m%d"`, messages-1))
	}
	t.Logf("%d doubts, %d duplicates", edge.stats.doubts.Load()-doubts, owner.stats.duplicates.Load())
	if n := owner.stats.duplicates.Load(); n > rooms {
		t.Errorf("%d batches were appended again, though none was lost", n)
	}
}

// A log that is not trimmed yet is read by who takes over, however slowly it comes.
func TestTakingOverALargeLogOverASlowLink(t *testing.T) {
	t.Parallel()
	const messages, size, bytesPerSecond = 48, 512 << 10, 8_000_000
	r := startForgetfulRedis(t)
	first := startNode(t, r.addr, func(c *Config) { c.SaveInterval = time.Hour })
	w := visit(t, first, "large", "w")
	for m := range messages {
		w.scrawl(fmt.Sprint("m", m%4), size) // the room does not grow
		w.gets(fmt.Sprintf(`"ack","messageId":"m%d"`, m%4))
		w.mu.Lock()
		w.frames = nil
		w.mu.Unlock()
	}
	crash(first)
	second := startNode(t, slowLink(t, r.addr, bytesPerSecond), func(c *Config) { c.NodeName = "b" })
	visit(t, second, "large", "v").gets(fmt.Sprintf("%q", "m3"))
}
