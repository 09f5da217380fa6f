package docker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/docker/faults"
)

// faultCluster is Redis in a container and nodes of Weft as processes, each with a proxy of its own
// between it and Redis, and one between it and the other nodes.
type faultCluster struct {
	redis  *redisServer
	gossip *faults.GossipNet
	nodes  []*faultNode
	args   []string
	random *rand.Rand

	load      *faults.Load
	loadConf  faults.LoadConfig
	ownership *faults.Ownership // before the load begins, at time 0
	mayClose  []faults.Window
	silent    []faults.Window
}

type faultNode struct {
	*faults.Node
	proxy     *faults.RedisProxy
	advertise string
}

// settling bounds how long a cluster may take to come to rest after a fault.
const settling = 90 * time.Second

// lookEvery is how exact what is told of ownership is.
const lookEvery = 20 * time.Millisecond

// clusterSize is how many nodes a cluster has before any joins.
const clusterSize = 3

// startFaultCluster starts Redis and the nodes, and waits until each owns its part. args are for `serve`.
func startFaultCluster(t *testing.T, args ...string) *faultCluster {
	t.Helper()
	c := &faultCluster{redis: startRedis(t), gossip: faults.NewGossipNet(), args: args}
	t.Cleanup(c.gossip.Close)
	seed := uint64(time.Now().UnixNano())
	c.random = rand.New(rand.NewPCG(seed, 0))
	t.Logf("choices come from seed %d", seed)
	c.ownership = faults.WatchOwnership(c.redis.Client(), "weft:", lookEvery, func() time.Duration { return 0 })
	t.Cleanup(func() { c.ownership.Close() })
	for i := range clusterSize {
		c.add(t, fmt.Sprintf("n%d", i+1))
	}
	for _, n := range c.nodes {
		c.start(t, n)
	}
	for _, n := range c.nodes {
		c.awaitReady(t, n)
	}
	waitFor(t, "every node to own its part", func() bool { return c.isSpread(c.nodes) })
	return c
}

// isSpread says whether each of the nodes owns at least half of what would be equal.
func (c *faultCluster) isSpread(nodes []*faultNode) bool {
	owned := map[string]int{}
	for p := range faults.Partitions {
		owned[c.ownership.Owner(p).Node()]++
	}
	for _, n := range nodes {
		if owned[n.Name] < faults.Partitions/len(nodes)/2 {
			return false
		}
	}
	return true
}

// add makes a node that does not run yet. All nodes that there are know each other's addresses.
func (c *faultCluster) add(t *testing.T, name string) *faultNode {
	t.Helper()
	node, err := faults.NewNode(name, needBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faults.NewRedisProxy(c.redis.addr(redisPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	n := &faultNode{Node: node, proxy: proxy}
	if n.advertise, err = c.gossip.Add(name, node.Gossip); err != nil {
		t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, n.Log(12000))
		}
	})
	return n
}

func (c *faultCluster) start(t *testing.T, n *faultNode) {
	t.Helper()
	var join []string
	for _, other := range c.nodes {
		if other != n {
			join = append(join, other.advertise)
		}
	}
	n.SetArgs(append([]string{
		"--dev", "--node-name", n.Name,
		"--redis-url", "redis://" + n.proxy.Addr(),
		"--gossip-listen", n.Gossip, "--gossip-advertise", n.advertise,
		"--peer-listen", loopback + ":0", "--peer-advertise", loopback,
		"--join", strings.Join(join, ","),
	}, c.args...)...)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	c.gossip.Started(n.Name, n.PID())
}

func (c *faultCluster) awaitReady(t *testing.T, n *faultNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// signal sends a signal to a node that must be running.
func (c *faultCluster) signal(t *testing.T, n *faultNode, s syscall.Signal) {
	t.Helper()
	if err := n.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// targets are the nodes as clients know them.
func targets(nodes []*faultNode) []faults.Target {
	var all []faults.Target
	for _, n := range nodes {
		all = append(all, n.Target)
	}
	return all
}

// usualLoad is the load of most faults: in a long run that of the table of limits, in a short one less.
func (c *faultCluster) usualLoad(t *testing.T) faults.LoadConfig {
	load := faults.LoadConfig{Targets: targets(c.nodes[:clusterSize]), Rooms: 20, ClientsPerRoom: 3, PatchesPerSecond: 150}
	if chaos(t) {
		load.Rooms, load.PatchesPerSecond = 50, 500
	}
	return load
}

// begin lets the clients edit.
func (c *faultCluster) begin(t *testing.T, load faults.LoadConfig) {
	t.Helper()
	c.loadConf, c.load = load, faults.StartLoad(load)
	t.Cleanup(func() { // if the test ends early
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c.load.Finish(ctx)
	})
	c.watch(c.redis)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.load.AwaitSynced(ctx); err != nil {
		t.Fatal(err)
	}
	c.pass(t, time.Second)
}

// watch watches the ownership in another Redis from now on.
func (c *faultCluster) watch(r *redisServer) {
	c.ownership.Close()
	c.ownership = faults.WatchOwnership(r.Client(), "weft:", lookEvery, c.load.Since)
}

// pass lets time pass while the clients edit: what a fault lasts, or the pause between two.
func (c *faultCluster) pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// finish lets the clients come to rest, asks every node for every room, and has all of it checked.
func (c *faultCluster) finish(t *testing.T, r *report) faults.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settling)
	defer cancel()
	end := c.load.Since()
	recordings := c.load.Finish(ctx)
	r.note(t, "came to rest after", c.load.Since()-end)
	run := faults.Run{Recordings: recordings, MayClose: c.mayClose, Silent: c.silent}
	ctx, cancel = context.WithTimeout(t.Context(), settling)
	defer cancel()
	for _, n := range c.nodes {
		if n.PID() == 0 {
			continue
		}
		for i := range c.loadConf.Rooms {
			f, err := faults.ReadFinal(ctx, n.Target, faults.RoomName(c.loadConf.RoomPrefix, i))
			if err != nil {
				t.Errorf("%v", err)
				continue
			}
			run.Finals = append(run.Finals, f)
		}
	}
	r.result(t, faults.Check(run))
	return run
}

// waits notes how long clients on other nodes waited for acks during faults.
func (r *report) waits(t *testing.T, run faults.Run, during []faults.Window) {
	t.Helper()
	w := faults.WaitsDuring(run.Recordings, during)
	r.note(t, "wait for an ack on other nodes, p50", w.Percentile(50))
	r.note(t, "wait for an ack on other nodes, p99", w.Percentile(99))
	r.note(t, "wait for an ack on other nodes, max", w.Max())
}

// ownerOf is the node that owns a room.
func (c *faultCluster) ownerOf(t *testing.T, room string) *faultNode {
	t.Helper()
	partition := faults.PartitionOf(room)
	var found *faultNode
	waitFor(t, room+" to have an owner", func() bool {
		name := c.ownership.Owner(partition).Node()
		i := slices.IndexFunc(c.nodes, func(n *faultNode) bool { return n.Name == name })
		if i >= 0 {
			found = c.nodes[i]
		}
		return i >= 0
	})
	return found
}

// partitionsOf are the partitions of the load's rooms that a node owns.
func (c *faultCluster) partitionsOf(n *faultNode) []int {
	var all []int
	for i := range c.loadConf.Rooms {
		p := faults.PartitionOf(faults.RoomName(c.loadConf.RoomPrefix, i))
		if c.ownership.Owner(p).Node() == n.Name && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// takeover waits until others own some partitions of a node, and returns how long after from the last of
// them was claimed.
func (c *faultCluster) takeover(t *testing.T, n *faultNode, partitions []int, from time.Duration) time.Duration {
	t.Helper()
	var last time.Duration
	waitFor(t, "others to own what "+n.Name+" did", func() bool {
		last = 0
		for _, p := range partitions {
			claim := c.ownership.Owner(p)
			if claim.Node() == n.Name && claim.At < from {
				return false
			}
			last = max(last, claim.At)
		}
		return true
	})
	return max(0, last-from)
}

// metric sums a metric over all nodes that run.
func (c *faultCluster) metric(t *testing.T, name string) int {
	t.Helper()
	var sum float64
	for _, n := range c.nodes {
		if n.PID() == 0 {
			continue
		}
		v, err := n.Metric(t.Context(), name)
		if err != nil {
			t.Error(err)
		}
		sum += v
	}
	return int(sum)
}

func needBinary(t testing.TB) string {
	t.Helper()
	path, err := weftBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
