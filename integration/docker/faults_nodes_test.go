package docker

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/docker/faults"
)

// times is how often a fault comes: in short, in long.
func times(t *testing.T, short, long int) int {
	t.Helper()
	if chaos(t) {
		return long
	}
	return short
}

// lasts is the same for how long something lasts.
func lasts(t *testing.T, short, long time.Duration) time.Duration {
	t.Helper()
	if chaos(t) {
		return long
	}
	return short
}

// restart starts a node that has ended. Until it is ready its clients may be closed; from is when it went.
func (c *faultCluster) restart(t *testing.T, n *faultNode, from time.Duration) {
	t.Helper()
	c.start(t, n)
	c.awaitReady(t, n)
	c.mayClose = append(c.mayClose, faults.Window{Node: n.Name, From: from, To: c.load.Since()})
}

// A node's process is gone from one moment to the next.
func faultKill(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	var down []faults.Window
	var takeovers faults.Waits
	for range times(t, 3, 12) {
		n := c.nodes[c.random.IntN(clusterSize)]
		owned := c.partitionsOf(n)
		from := c.load.Since()
		n.Kill()
		takeovers = append(takeovers, c.takeover(t, n, owned, from))
		c.pass(t, time.Second-min(time.Second, c.load.Since()-from))
		c.restart(t, n, from)
		down = append(down, faults.Window{Node: n.Name, From: from, To: from + 3*time.Second})
		c.pass(t, 5*time.Second-min(4*time.Second, c.load.Since()-from))
	}
	run := c.finish(t, r)
	r.waits(t, run, down)
	longest := faults.LongestWaits(run.Recordings, down)
	r.within(t, "longest wait of each socket, p99", longest.Percentile(99), 300*time.Millisecond)
	r.within(t, "longest wait of each socket, max", longest.Max(), 2500*time.Millisecond)
	slices.Sort(takeovers)
	r.note(t, "until the last partition had its new owner, p50", takeovers.Percentile(50))
	r.note(t, "until the last partition had its new owner, max", takeovers.Max())
}

// With the owner dies the node that has sent it the last frames.
func faultKillTwo(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	var down []faults.Window
	for i := range times(t, 2, 10) {
		owner := c.ownerOf(t, faults.RoomName("", i))
		edge := c.nodes[(slices.Index(c.nodes, owner)+1+c.random.IntN(clusterSize-1))%clusterSize]
		from := c.load.Since()
		c.signal(t, owner, syscall.SIGKILL)
		c.signal(t, edge, syscall.SIGKILL)
		owner.Kill()
		edge.Kill()
		c.pass(t, time.Second)
		c.start(t, owner) // both at once, so that neither waits for the other
		c.restart(t, edge, from)
		c.awaitReady(t, owner)
		c.mayClose = append(c.mayClose, faults.Window{Node: owner.Name, From: from, To: c.load.Since()})
		down = append(down, faults.Window{Node: owner.Name, From: from, To: from + 3*time.Second}, faults.Window{Node: edge.Name, From: from, To: from + 3*time.Second})
		c.pass(t, 3*time.Second)
	}
	run := c.finish(t, r)
	r.note(t, "longest wait for an ack", faults.LongestWaits(run.Recordings, down).Max())
}

// Every node is told to end and started anew, one after the other.
func faultRollingRestart(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	var down []faults.Window
	var ends faults.Waits
	for range times(t, 1, 10) {
		for _, n := range c.nodes {
			from := c.load.Since()
			c.signal(t, n, syscall.SIGTERM)
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			err := n.Wait(ctx)
			cancel()
			if err != nil {
				t.Fatalf("%s after SIGTERM: %v", n.Name, err)
			}
			ends = append(ends, c.load.Since()-from)
			c.restart(t, n, from)
			waitFor(t, "every node to own its part", func() bool { return c.isSpread(c.nodes) })
			down = append(down, faults.Window{Node: n.Name, From: from, To: c.load.Since()})
			c.pass(t, time.Second)
		}
	}
	run := c.finish(t, r)
	w := faults.WaitsDuring(run.Recordings, down)
	r.note(t, "wait for an ack on other nodes, p50", w.Percentile(50))
	r.within(t, "wait for an ack on other nodes, p99", w.Percentile(99), 50*time.Millisecond)
	r.note(t, "wait for an ack on other nodes, max", w.Max())
	slices.Sort(ends)
	r.within(t, "until a node was gone, max", ends.Max(), 10*time.Second)
}

// A node stops in its tracks for longer than its lease, wakes up, and believes that it owns.
func faultStop(t *testing.T, r *report) {
	c := startFaultCluster(t, "--save-interval", "200ms") // so that it has something to save when it wakes up
	c.begin(t, c.usualLoad(t))
	var down []faults.Window
	var takeovers faults.Waits
	saves := watchSaves(t, c)
	for i := range times(t, 1, 6) {
		n := c.ownerOf(t, faults.RoomName("", i))
		owned := c.partitionsOf(n)
		from := c.load.Since()
		c.signal(t, n, syscall.SIGSTOP)
		takeovers = append(takeovers, c.takeover(t, n, owned, from))
		c.pass(t, 5*time.Second-min(5*time.Second, c.load.Since()-from))
		c.signal(t, n, syscall.SIGCONT)
		c.pass(t, 5*time.Second)
		c.mayClose = append(c.mayClose, faults.Window{Node: n.Name, From: from, To: c.load.Since()})
		down = append(down, faults.Window{Node: n.Name, From: from, To: from + 5*time.Second})
	}
	run := c.finish(t, r)
	back, looks := saves()
	if looks < 10 {
		t.Errorf("the checkpoints were looked at %d times only: that they never went back shows nothing", looks)
	}
	r.none(t, "checkpoints that went back", back)
	r.note(t, "stale checkpoints refused", c.metric(t, "weft_cluster_stale_saves_total"))
	r.note(t, "partitions that a node found lost", c.metric(t, "weft_cluster_fenced_total"))
	r.waits(t, run, down)
	slices.Sort(takeovers)
	r.note(t, "until the last partition had its new owner, max", takeovers.Max())
}

// Nodes come and go, so that there is no time to come to rest. Clients are at those that stay.
func faultJoinAndLeave(t *testing.T, r *report) {
	c := startFaultCluster(t)
	guests := []*faultNode{c.add(t, "guest1"), c.add(t, "guest2")}
	c.begin(t, c.usualLoad(t))
	changes := times(t, 4, 20)
	var at []time.Duration
	var leaving []*faultNode
	for i := range changes {
		// Both come, both go, and so on.
		n := guests[i%2]
		at = append(at, c.load.Since())
		if i%4 < 2 {
			if slices.Contains(leaving, n) {
				c.awaitEnd(t, n)
			}
			c.start(t, n)
		} else {
			c.awaitReady(t, n)
			c.signal(t, n, syscall.SIGTERM)
			leaving = append(leaving, n)
		}
		c.pass(t, 2*time.Second)
	}
	for _, n := range guests {
		if slices.Contains(leaving, n) {
			c.awaitEnd(t, n)
		}
	}
	c.pass(t, 2*time.Second)
	run := c.finish(t, r)
	claims := c.ownership.Claims()
	if len(claims) == 0 {
		t.Error("no partition changed hands: this shows nothing")
	}
	most := 0
	for i, from := range at {
		to := from + time.Hour
		if i+1 < len(at) {
			to = at[i+1]
		}
		n := faults.PerPartition(claims, from, to)
		most = max(most, slices.Max(n[:]))
	}
	r.note(t, "changes", changes)
	r.note(t, "partitions that changed hands, per change", len(claims)/changes)
	r.atMost(t, "times that a partition changed hands within one change, max", most, 2)
	w := faults.WaitsOf(run.Recordings, nil)
	r.note(t, "wait for an ack, p99", w.Percentile(99))
	r.note(t, "wait for an ack, max", w.Max())
}

func (c *faultCluster) awaitEnd(t *testing.T, n *faultNode) {
	t.Helper()
	if n.PID() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := n.Wait(ctx); err != nil {
		t.Fatalf("%s after SIGTERM: %v", n.Name, err)
	}
}
