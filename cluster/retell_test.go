package cluster

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/weftsync/weft/room/protocol"
)

// gate is a way to Redis that can be held shut for a while.
type gate struct {
	mu    sync.Mutex
	open  sync.Cond
	shut  bool
	conns []net.Conn
}

// startGate returns a gate and its address.
func startGate(t *testing.T, to string) (*gate, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	g.open.L = &g.mu
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		g.hold(false)
		g.mu.Lock()
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.mu.Unlock()
		tasks.Wait()
	})
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
			g.mu.Lock()
			g.conns = append(g.conns, near, far)
			g.mu.Unlock()
			tasks.Go(func() { g.pass(near, far) })
			tasks.Go(func() { g.pass(far, near) })
		}
	})
	return g, listener.Addr().String()
}

func (g *gate) hold(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	g.open.Broadcast()
}

func (g *gate) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		g.mu.Lock()
		for g.shut {
			g.open.Wait()
		}
		g.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// Redis forgets what an owner has told another node before that has read it, and
// nothing more happens in the room.
func TestWhatWasToldAndIsForgottenIsToldAgain(t *testing.T) {
	t.Parallel()
	r := startForgetfulRedis(t)
	owner := startNode(t, r.addr, nil)
	eventually(t, "the only node to own all", func() bool { return owner.Stats().OwnedPartitions == partitions })
	g, addr := startGate(t, r.addr)
	edge := startNode(t, addr, func(c *Config) {
		c.NodeName, c.Join = "b", []string{owner.life.Load().gossip.address().String()}
	})
	settled := func() bool {
		a, b := owner.Stats().OwnedPartitions, edge.Stats().OwnedPartitions
		return b > 0 && a+b == partitions
	}
	eventually(t, "the nodes to share the partitions", settled)
	name := ""
	for i := 0; name == ""; i++ {
		if n := fmt.Sprint("room", i); owner.life.Load().ownership.owns(partitionOf(n)) {
			name = n
		}
	}
	writer, viewer := visit(t, owner, name, "writer"), visit(t, edge, name, "viewer")
	writer.drawn("before")
	viewer.gets(`"before"`)
	eventually(t, "all that was told to be old", func() bool { return r.moment() > 0 && quiet(owner) })

	emitted := owner.stats.emitted.Load()
	g.hold(true)
	moment := r.moment()
	writer.drawn("forgotten")
	eventually(t, "the edge to be told", func() bool { return owner.stats.emitted.Load() > emitted })
	r.forget(moment)
	g.hold(false)
	viewer.gets(`"forgotten"`)
	if c := viewer.end(); c != nil {
		t.Errorf("the viewer's socket closed: %v", *c)
	}
	writer.drawn("after")
	viewer.gets(`"after"`)
	viewer.drawn("answer")
}

// quiet reports whether a node has nothing to tell.
func quiet(n *Node) bool {
	o := n.life.Load().outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size == 0
}

func (w *witness) end() *protocol.Close {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}
