package docker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/docker/faults"
)

// Redis dies and is started anew; it has its append-only file.
func faultRedisKilled(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	for range times(t, 1, 5) {
		c.redis.Kill(t)
		c.backAgain(t, r, "until all was acked that had waited for Redis")
		c.pass(t, 5*time.Second)
	}
	c.finish(t, r)
}

// Redis stays away.
func faultRedisAway(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	c.redis.Kill(t)
	c.pass(t, lasts(t, 5*time.Second, 30*time.Second))
	c.backAgain(t, r, "until all was acked that had waited for Redis")
	c.finish(t, r)
}

// backAgain starts Redis and measures until all frames that had been sent by then are acked.
func (c *faultCluster) backAgain(t *testing.T, r *report, what string) {
	t.Helper()
	c.redis.Restart(t)
	back := c.load.Since()
	ctx, cancel := context.WithTimeout(t.Context(), settling)
	defer cancel()
	if err := c.load.AwaitAcked(ctx); err != nil {
		t.Errorf("after Redis came back: %v", err)
	}
	r.within(t, what, c.load.Since()-back, 5*time.Second)
}

// Redis fails over to a replica that does not have the last seconds. The nodes live and do.
func faultReplica(t *testing.T, r *report) {
	c := startFaultCluster(t)
	replica := startReplica(t, c.redis)
	c.begin(t, c.usualLoad(t))
	c.pass(t, 2*time.Second)
	replica.Promote(t) // from here on it gets nothing
	lost := c.appended(t)
	c.pass(t, 2*time.Second)
	lost = c.appended(t) - lost
	if lost == 0 {
		t.Error("nothing was written that the replica lacks: this shows nothing")
	}
	r.note(t, "log entries that the replica lacks", lost)
	from := c.load.Since()
	c.redis.Kill(t)
	c.watch(replica)
	for _, n := range c.nodes {
		n.proxy.Redirect(replica.addr(redisPort))
	}
	// Nothing is said of the sockets here: a gap that an edge cannot fill it closes.
	c.mayClose = append(c.mayClose, faults.Window{From: from, To: time.Hour})
	c.pass(t, lasts(t, 4*time.Second, 20*time.Second))
	run := c.finish(t, r)
	closed := faults.Closes(run.Recordings, nil)
	r.note(t, "sockets closed", closed)
}

// appended is how many entries all logs have ever had, as the nodes count.
func (c *faultCluster) appended(t *testing.T) int {
	t.Helper()
	return c.metric(t, "weft_cluster_appended_total")
}

// A node cannot reach Redis. Its lease ends, and others take over.
func faultCutFromRedis(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	var takeovers faults.Waits
	var down []faults.Window
	for i := range times(t, 1, 3) {
		n := c.ownerOf(t, faults.RoomName("", i))
		owned := c.partitionsOf(n)
		from := c.load.Since()
		n.proxy.Cut()
		takeovers = append(takeovers, c.takeover(t, n, owned, from))
		c.pass(t, lasts(t, 6*time.Second, 10*time.Second)-(c.load.Since()-from))
		to := c.load.Since()
		n.proxy.Heal()
		// The lease was renewed before the cut, so by then it has ended.
		c.silent = append(c.silent, faults.Window{Node: n.Name, From: from + lease, To: to})
		c.mayClose = append(c.mayClose, faults.Window{Node: n.Name, From: from, To: to + 10*time.Second})
		down = append(down, faults.Window{Node: n.Name, From: from, To: to})
		c.pass(t, lasts(t, 3*time.Second, 10*time.Second))
	}
	run := c.finish(t, r)
	r.waits(t, run, down)
	slices.Sort(takeovers)
	r.within(t, "until the last partition had its new owner, max", takeovers.Max(), 2500*time.Millisecond)
}

// lease is the default of --lease-ttl.
const lease = 2 * time.Second

// A node and the others do not hear each other, but Redis hears all: each owner goes on.
func faultCutFromGossip(t *testing.T, r *report) {
	c := startFaultCluster(t)
	c.begin(t, c.usualLoad(t))
	n := c.ownerOf(t, faults.RoomName("", 0))
	from := c.load.Since()
	c.gossip.Cut(n.Name)
	waitFor(t, "the others to miss "+n.Name, func() bool { return c.members(t, 1, 2, n) })
	r.note(t, "until the nodes had missed each other", c.load.Since()-from)
	c.pass(t, lasts(t, 3*time.Second, 60*time.Second-(c.load.Since()-from)))
	to := c.load.Since()
	forced := 0
	for _, claim := range c.ownership.Claims() {
		if claim.At >= from && claim.At <= to && (claim.Node() == n.Name) != (faults.NodeOf(claim.Before) == n.Name) {
			forced++
		}
	}
	r.none(t, "claims from one side of the cut to the other", forced)
	c.gossip.Heal(n.Name)
	waitFor(t, "the nodes to find each other", func() bool { return c.members(t, clusterSize, clusterSize, n) })
	r.within(t, "until the nodes had found each other", c.load.Since()-to, 20*time.Second)
	run := c.finish(t, r)
	w := faults.WaitsDuring(run.Recordings, []faults.Window{{From: from, To: to, Node: "nobody"}})
	r.note(t, "wait for an ack during the cut, p99", w.Percentile(99))
	r.note(t, "wait for an ack during the cut, max", w.Max())
}

// members says whether one node knows so many, and each other so many.
func (c *faultCluster) members(t *testing.T, one, others int, n *faultNode) bool {
	t.Helper()
	for _, x := range c.nodes {
		want := others
		if x == n {
			want = one
		}
		got, err := x.Metric(t.Context(), "weft_cluster_members")
		if err != nil || int(got) != want {
			return false
		}
	}
	return true
}

// Appends take place, and nobody hears of it.
func faultLostReplies(t *testing.T, r *report) {
	c := startFaultCluster(t)
	for _, n := range c.nodes {
		n.proxy.Lose(0.2, faults.IsAppend)
	}
	c.begin(t, c.usualLoad(t))
	c.pass(t, lasts(t, 8*time.Second, 60*time.Second))
	lost := 0
	for _, n := range c.nodes {
		lost += n.proxy.Lost()
		n.proxy.Heal()
	}
	run := c.finish(t, r)
	r.note(t, "replies lost", lost)
	if passed := c.metric(t, "weft_cluster_duplicates_total"); lost == 0 || passed == 0 {
		t.Errorf("%d replies were lost, %d entries passed over as duplicates: this shows nothing", lost, passed)
	} else {
		r.note(t, "log entries passed over as duplicates", passed)
	}
	w := faults.WaitsOf(run.Recordings, nil)
	r.note(t, "wait for an ack, p99", w.Percentile(99))
	r.note(t, "wait for an ack, max", w.Max())
}

// An owner keeps its lease and reads its logs no more, while clients write: the logs fill up to their
// bound, and the clients wait.
func faultStalled(t *testing.T, r *report) {
	const maxLog = 1 << 20 // the least that can be set
	c := startFaultCluster(t, "--max-log-bytes", strconv.Itoa(maxLog))
	load := c.usualLoad(t)
	load.Rooms, load.PatchesPerSecond = 4, times(t, 600, 2000)
	load.Pad = times(t, 3000, 1000)
	c.begin(t, load)
	n := c.ownerOf(t, faults.RoomName("", 0))
	stalled := c.partitionsOf(n)
	before := c.usedMemory(t)
	from := c.load.Since()
	n.proxy.Hold(faults.IsLogRead)
	var most, longest int64
	for c.load.Since() < from+lasts(t, 8*time.Second, 30*time.Second) {
		most = max(most, c.usedMemory(t))
		for _, p := range stalled {
			size, err := c.redis.Client().MemoryUsage(t.Context(), fmt.Sprintf("weft:{p%d}:log", p), 0).Result()
			if err == nil { // the log may be empty
				longest = max(longest, size)
			}
		}
		c.pass(t, 100*time.Millisecond)
	}
	full := c.metric(t, "weft_cluster_log_full_total")
	n.proxy.Heal()
	// Whether a socket lives on that is read no more, since its pongs are not read either, is not said here.
	c.mayClose = append(c.mayClose, faults.Window{From: from, To: time.Hour})
	run := c.finish(t, r)
	if full == 0 {
		t.Error("no log was ever full: this shows nothing")
	}
	// What the stream takes beside the batches in it.
	const overhead = 64 << 10
	r.atMost(t, "longest log, bytes in Redis", int(longest), maxLog+maxLog/4+overhead)
	r.atMost(t, "memory of Redis beyond that before, bytes", int(most-before), len(stalled)*(maxLog+maxLog/4+overhead)+othersMemory)
	r.note(t, "appends refused for a full log", full)
	r.note(t, "sockets closed", faults.Closes(run.Recordings, nil))
}

// othersMemory is what else Redis may take during faultStalled: checkpoints of the rooms that go on, buffers of
// connections, the allocator's.
const othersMemory = 16 << 20

// Redis may have three times what it has at rest, and clients pour in much more. Then it may have no
// more than it has, for a while. What is edited fits into it: only logs fill it.
func faultRedisFull(t *testing.T, r *report) {
	c := startFaultCluster(t)
	limit := func(bytes int64) {
		if err := c.redis.Client().ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(bytes, 10)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit(3 * c.usedMemory(t))
	load := c.usualLoad(t)
	load.Rooms, load.PatchesPerSecond, load.Pad = 4, times(t, 60, 240), 100_000
	c.begin(t, load)
	full, seen := func() bool { return c.metric(t, "weft_cluster_redis_full") > 0 }, 0
	for range times(t, 1, 5) {
		for spike := c.load.Since() + 3*time.Second; c.load.Since() < spike; c.pass(t, 100*time.Millisecond) {
			if full() {
				seen++
			}
		}
		limit(1)
		waitFor(t, "the nodes to notice", full)
		c.pass(t, lasts(t, 4*time.Second, 20*time.Second))
		for _, n := range c.nodes {
			waitFor(t, n.Name+" to have a lease", func() bool {
				valid, err := n.Metric(t.Context(), "weft_cluster_lease_valid")
				return err == nil && valid == 1
			})
		}
		limit(3 * c.usedMemory(t))
		space := c.load.Since()
		had := c.metric(t, "weft_cluster_applied_total")
		waitFor(t, "anything to go on", func() bool { return c.metric(t, "weft_cluster_applied_total") > had })
		r.within(t, "until edits went on after Redis had space", c.load.Since()-space, 5*time.Second)
	}
	limit(0)
	c.finish(t, r)
	r.note(t, "leases that lapsed", c.metric(t, "weft_cluster_lease_lapses_total"))
	r.note(t, "looks at a spike that found Redis full", seen)
}

// usedMemory is what Redis has allocated, in bytes.
func (c *faultCluster) usedMemory(t *testing.T) int64 {
	t.Helper()
	info, err := c.redis.Client().InfoMap(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// watchSaves looks at the checkpoints of the load's rooms again and again. What it returns ends that, and
// says how many were older than one seen before, and how often it has looked.
func watchSaves(t *testing.T, c *faultCluster) func() (back, looks int) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	back, looks := 0, 0
	client := c.redis.Client()
	last := make([]int64, c.loadConf.Rooms)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for i := range last {
				room := faults.RoomName(c.loadConf.RoomPrefix, i)
				n, err := client.HGet(ctx, fmt.Sprintf("weft:{p%d}:r:%s", faults.PartitionOf(room), room), "timestamp").Int64()
				if err != nil {
					continue // not saved yet
				}
				if n < last[i] {
					back++
				}
				last[i] = n
			}
			if slices.Max(last) > 0 {
				looks++
			}
			select {
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
	}()
	stop := func() (int, int) {
		cancel()
		<-done
		return back, looks
	}
	t.Cleanup(func() { stop() })
	return stop
}
