package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// nodes are several nodes of a cluster in this process, which share a Redis.
// Their sockets are fakes, so that every frame can be looked at.
type nodes struct {
	testing.TB
	url    string
	db     *redis.Client
	prefix string
	gossip []string
}

// newNodes begins a cluster of no nodes in a Redis, under a prefix of its own.
func newNodes(t testing.TB, r *redisServer) *nodes {
	t.Helper()
	prefix := strings.NewReplacer("/", "-", "#", "-").Replace(t.Name()) + ":"
	return &nodes{TB: t, url: r.URL(), db: r.Client(), prefix: prefix}
}

// key is the whole name of a key.
func (c *nodes) key(format string, args ...any) string {
	return c.prefix + fmt.Sprintf(format, args...)
}

// join starts a node, which leaves when the test ends if it has not left before.
func (c *nodes) join(name string, change func(*cluster.Config)) *cluster.Node {
	c.Helper()
	options, err := cluster.ParseRedisURL(c.url)
	if err != nil {
		c.Fatal(err)
	}
	listen := fmt.Sprintf("%s:%d", loopback, freePort(c))
	config := cluster.Config{
		Redis: options, Prefix: c.prefix, NodeName: name, GossipListen: listen, PeerListen: loopback + ":0", Join: append([]string(nil), c.gossip...),
		SaveInterval: 200 * time.Millisecond, LeaseTTL: time.Second, AuthorizeTimeout: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(testLog{c.TB}, nil)),
	}
	if change != nil {
		change(&config)
	}
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	n, err := cluster.Join(ctx, config)
	if err != nil {
		c.Fatal(err)
	}
	c.gossip = append(c.gossip, listen)
	c.Cleanup(func() { _ = c.leave(n) })
	return n
}

func (c *nodes) leave(n *cluster.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return n.Leave(ctx, protocol.CloseRestart)
}

// settle waits until each of the nodes owns something, together they own all,
// and nothing has been handed over for a while.
func (c *nodes) settle(list ...*cluster.Node) {
	c.Helper()
	var before string
	since := time.Now()
	waitFor(c, "the nodes to share the partitions", func() bool {
		sum, none, now := 0, false, ""
		for _, n := range list {
			owned := n.Stats().OwnedPartitions
			sum, none = sum+owned, none || owned == 0
			now += fmt.Sprint(owned, " ")
		}
		if now != before {
			before, since = now, time.Now()
		}
		return sum == 271 && !none && time.Since(since) > time.Second
	})
}

// partitionOf is the partition of a room, as DESIGN.md of package cluster says.
func partitionOf(roomID string) int { return int(xxhash.Sum64String(roomID) % 271) }

// roomOf finds a room that a node owns.
func (c *nodes) roomOf(n *cluster.Node, like string) string {
	c.Helper()
	incarnation := n.Stats().Node
	for i := range 10_000 {
		id := fmt.Sprintf("%s-%d", like, i)
		if owner, err := c.db.HGet(c.Context(), c.key("{p%d}:own", partitionOf(id)), "owner").Result(); err == nil && owner == incarnation {
			return id
		}
	}
	c.Fatalf("node %s owns nothing", incarnation)
	return ""
}

// testLog writes to a test's log, as long as it runs.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// person is a client with a socket that keeps all that it gets.
type person struct {
	testing.TB
	session room.Session

	mu     sync.Mutex
	frames []string
	closed *protocol.Close
	onSend func() // with the person unlocked
}

func (p *person) Send(f protocol.Frame) {
	p.mu.Lock()
	p.frames = append(p.frames, string(f.Text()))
	on := p.onSend
	p.mu.Unlock()
	if on != nil {
		on()
	}
}

func (p *person) Close(c protocol.Close) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.closed = &c
	}
}

// visit connects a client that may write.
func (c *nodes) visit(n *cluster.Node, roomID, client string) *person {
	c.Helper()
	return c.visitAs(n, roomID, room.ConnectOptions{Client: client, Grant: room.Grant{Permission: room.ReadWrite}})
}

// tryToVisit is visit without its fatal end.
func (c *nodes) tryToVisit(n *cluster.Node, roomID, client string) (*person, error) {
	p := &person{TB: c.TB}
	s, err := n.Connect(c.Context(), roomID, room.ConnectOptions{Client: client, Socket: p, Grant: room.Grant{Permission: room.ReadWrite}})
	p.session = s
	return p, err
}

func (c *nodes) visitAs(n *cluster.Node, roomID string, o room.ConnectOptions) *person {
	c.Helper()
	p := &person{TB: c.TB}
	o.Socket = p
	s, err := n.Connect(c.Context(), roomID, o)
	if err != nil {
		c.Fatal(err)
	}
	p.session = s
	return p
}

// count is how many frames have a text in them.
func (p *person) count(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if strings.Contains(f, text) {
			n++
		}
	}
	return n
}

// all is all frames so far.
func (p *person) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.frames...)
}

// forget drops the frames so far.
func (p *person) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frames = nil
}

// why is how the socket was closed, if it was.
func (p *person) why() *protocol.Close {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// gets waits for a frame with a text in it.
func (p *person) gets(text string) {
	p.Helper()
	deadline := time.Now().Add(patience)
	for p.count(text) == 0 {
		if time.Now().After(deadline) {
			p.Fatalf("no frame with %s within %v; closed: %v; there are %.2000q", text, patience, p.why(), p.all())
		}
		time.Sleep(time.Millisecond)
	}
}

// isClosed waits until the socket is closed with a code.
func (p *person) isClosed(code uint16) {
	p.Helper()
	deadline := time.Now().Add(patience)
	for p.why() == nil {
		if time.Now().After(deadline) {
			p.Fatalf("not closed within %v; there are %.2000q", patience, p.all())
		}
		time.Sleep(time.Millisecond)
	}
	if c := p.why(); c.Code != code {
		p.Fatalf("closed with %d %q, want %d", c.Code, c.Reason, code)
	}
}

// isOpen fails if the socket was closed.
func (p *person) isOpen() {
	p.Helper()
	if c := p.why(); c != nil {
		p.Fatalf("closed with %d %q", c.Code, c.Reason)
	}
}

// enter sends the first frame of a connection and waits for the answer.
func (p *person) enter(since int64) {
	p.Helper()
	p.say(fmt.Sprintf(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":%d}`, since))
	p.gets(`"type":"synced"`)
}

func (p *person) say(text string) { p.session.Receive([]byte(text)) }

// draw sends an edit that creates a key; its messageId is the key.
func (p *person) draw(key string) {
	p.say(fmt.Sprintf(`{"type":"patch","messageId":%q,"documentPatches":[{%q:{"_exists":true}}]}`, key, key))
}

// drawn sends an edit and waits for its ack.
func (p *person) drawn(key string) {
	p.Helper()
	p.draw(key)
	p.gets(fmt.Sprintf(`"ack","messageId":%q`, key))
}

// point announces presence.
func (p *person) point(value string) {
	p.say(fmt.Sprintf(`{"type":"patch","messageId":%q,"ephemeralPatches":[{"cursor":{"_exists":true,"at":%q}}]}`, value, value))
}

// document reads a room's document by joining it, as its keys.
func (c *nodes) document(n *cluster.Node, roomID string) map[string]json.RawMessage {
	c.Helper()
	reader := c.visitAs(n, roomID, room.ConnectOptions{Client: "reader", Grant: room.Grant{Permission: room.ReadOnly}})
	defer reader.session.Leave()
	reader.enter(0)
	keys := map[string]json.RawMessage{}
	for _, f := range reader.all() {
		var m struct {
			DocumentPatches []map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(f), &m); err != nil {
			c.Fatalf("%v: %.300s", err, f)
		}
		for _, patch := range m.DocumentPatches {
			for key, value := range patch {
				keys[key] = value
			}
		}
	}
	return keys
}

// pipeTo listens for connections and carries them to an address, until it is
// cut: then they hang, in both directions, and so do new ones.
type pipe struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	cut      bool
	conns    []net.Conn
	running  sync.WaitGroup
}

func startPipe(t testing.TB, to string) *pipe {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{listener: l, to: to}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// Cut makes what uses the pipe lose what is at its end, without a word.
func (p *pipe) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
}

// Mend lets new connections through; those that hung are closed.
func (p *pipe) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *pipe) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *pipe) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, in)
		cut := p.cut
		p.mu.Unlock()
		if cut {
			continue
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, out)
		p.mu.Unlock()
		p.running.Go(func() { p.carry(in, out) })
		p.running.Go(func() { p.carry(out, in) })
	}
}

func (p *pipe) carry(from, to net.Conn) {
	defer func() {
		if !p.isCut() { // or the other end would notice
			from.Close()
			to.Close()
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil || p.isCut() {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
