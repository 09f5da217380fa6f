package cluster

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room"
)

// stats counts what a node does.
type stats struct {
	received, deliveries, violations, held, slow            atomic.Int64
	appended, appendErrors, logFull, doubts                 atomic.Int64
	emitted, emitErrors, toDead, retold, staleBundles, gaps atomic.Int64
	applied, duplicates, unreadable, panics                 atomic.Int64
	claims, takeovers, handOvers, fenced, mended            atomic.Int64
	handOverTime, replayed, replayTime                      atomic.Int64
	loads, loadFailures, saves, saveFailures, saveTime      atomic.Int64
	staleSaves, leaseLapses, rebirths, provedDead, buried   atomic.Int64
	rebalanced                                              atomic.Int64
	rooms                                                   roomCounts
}

// roomCounts is the number of rooms in memory, by partition.
type roomCounts [partitions]atomic.Int64

func (c *roomCounts) set(partition, rooms int) { c[partition].Store(int64(rooms)) }

func (c *roomCounts) sum() (n int64) {
	for p := range c {
		n += c[p].Load()
	}
	return n
}

// Stats is what a node does, beside what [room.Stats] counts: its sessions are
// those with a socket here, its rooms those that it owns and has in memory.
type Stats struct {
	room.Stats
	Node            string // incarnation
	LeaseValid      bool
	OwnedPartitions int
	BufferedBytes   int64 // of sessions, waiting for Redis and the owners
	Takeovers       int64 // partitions claimed from a dead owner
	HandOvers       int64 // partitions given to another node
	Fenced          int64 // partitions lost to another node
	StaleSaves      int64 // checkpoints refused because another node owns
	Rebirths        int64 // how often the node had to begin anew
}

// Stats returns the numbers of the moment.
func (n *Node) Stats() Stats {
	s, i := &n.stats, n.life.Load()
	return Stats{
		Stats: room.Stats{
			Rooms: s.rooms.sum(), Sessions: i.edge.count.Load(),
			Received: s.received.Load(), Deliveries: s.deliveries.Load(), Violations: s.violations.Load(), Slow: s.slow.Load(), Panics: s.panics.Load(),
			Loads: s.loads.Load(), LoadFailures: s.loadFailures.Load(),
			Saves: s.saves.Load(), SaveFailures: s.saveFailures.Load(), SaveTime: time.Duration(s.saveTime.Load()),
		},
		Node: i.id, LeaseValid: i.lease.valid(), OwnedPartitions: len(i.ownership.list()),
		BufferedBytes: i.edge.buffered.Load(),
		Takeovers:     s.takeovers.Load(), HandOvers: s.handOvers.Load(), Fenced: s.fenced.Load(),
		StaleSaves: s.staleSaves.Load(), Rebirths: s.rebirths.Load(),
	}
}

// metric is one number that is shown.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func() float64
}

// metrics shows a node's stats to Prometheus.
type metrics []metric

func (m metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, x := range m {
		ch <- x.desc
	}
}

func (m metrics) Collect(ch chan<- prometheus.Metric) {
	for _, x := range m {
		ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.value())
	}
}

func (n *Node) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var m metrics
	add := func(kind prometheus.ValueType, name, help string, value func() float64) {
		m = append(m, metric{prometheus.NewDesc("weft_cluster_"+name, help, nil, nil), kind, value})
	}
	gauge := func(name, help string, value func() float64) { add(prometheus.GaugeValue, name, help, value) }
	counter := func(name, help string, value *atomic.Int64) {
		add(prometheus.CounterValue, name, help, func() float64 { return float64(value.Load()) })
	}
	seconds := func(name, help string, value *atomic.Int64) {
		add(prometheus.CounterValue, name, help, func() float64 { return time.Duration(value.Load()).Seconds() })
	}
	s := &n.stats
	gauge("lease_valid", "1 while this node's lease is valid; without it the node tells clients nothing.", func() float64 {
		if n.life.Load().lease.valid() {
			return 1
		}
		return 0
	})
	gauge("owned_partitions", "Partitions that this node owns.", func() float64 { return float64(len(n.life.Load().ownership.list())) })
	gauge("buffered_bytes", "Bytes of sessions that wait for Redis and the owners.", func() float64 { return float64(n.life.Load().edge.buffered.Load()) })
	gauge("members", "Nodes in the gossip, this one included.", func() float64 {
		return float64(len(n.life.Load().gossip.members()))
	})
	gauge("redis_full", "Redis servers, one unless it is a Redis Cluster, that are full: what their rooms' clients send waits.", func() float64 {
		return float64(len(n.life.Load().headroom.full()))
	})
	gauge("peers_unreachable", "Nodes in the gossip whose peer port this node cannot reach; their deaths are noticed late.", func() float64 {
		return float64(n.life.Load().deaths.unreachable.Load())
	})
	counter("appended_total", "Batches that were appended to logs.", &s.appended)
	counter("append_errors_total", "Appends whose outcome is not known; they are made again.", &s.appendErrors)
	counter("log_full_total", "Appends refused because a partition's log is full: its owner does not keep up.", &s.logFull)
	counter("doubts_total", "Times that unconfirmed batches were appended again.", &s.doubts)
	counter("held_total", "Messages whose session had to wait because too much of it was on its way.", &s.held)
	counter("applied_total", "Log entries that this node read as an owner.", &s.applied)
	counter("duplicates_total", "Log entries that were passed over because they had been applied.", &s.duplicates)
	counter("unreadable_total", "Log entries that were passed over because they are unreadable.", &s.unreadable)
	counter("panics_total", "Messages that broke the engine.", &s.panics)
	counter("emitted_total", "Entries put into the streams of other nodes.", &s.emitted)
	counter("emit_errors_total", "Entries for other nodes whose outcome is not known; they are put again.", &s.emitErrors)
	counter("retold_total", "Times that Redis had forgotten what other nodes had been told, which was told again.", &s.retold)
	counter("dropped_for_dead_total", "Entries for nodes that were taken for dead.", &s.toDead)
	counter("stale_bundles_total", "Updates dropped because their sender owns no more.", &s.staleBundles)
	counter("gaps_total", "Times that sockets closed because updates for them were lost.", &s.gaps)
	counter("claims_total", "Partitions claimed.", &s.claims)
	counter("takeovers_total", "Partitions claimed from a node without a lease.", &s.takeovers)
	counter("handovers_total", "Partitions handed over to another node.", &s.handOvers)
	seconds("handover_seconds_total", "Time spent on handing over, from the last entry read to the release.", &s.handOverTime)
	counter("fenced_total", "Partitions lost to another node.", &s.fenced)
	counter("stale_saves_total", "Checkpoints refused because another node owns.", &s.staleSaves)
	counter("mended_total", "Times that Redis had forgotten something of a partition and its owner wrote again all that it knew.", &s.mended)
	counter("replayed_total", "Log entries read again by a new owner.", &s.replayed)
	seconds("replay_seconds_total", "Time spent on that.", &s.replayTime)
	counter("lease_lapses_total", "Times that the lease was not renewed in time.", &s.leaseLapses)
	counter("rebirths_total", "Times that this node had to begin anew because it was taken for dead.", &s.rebirths)
	counter("proved_dead_total", "Nodes whose death was proved by their closed ports.", &s.provedDead)
	counter("buried_total", "Nodes that this one has taken for dead.", &s.buried)
	counter("rebalanced_total", "Sockets that this node closed because it had many more than the others.", &s.rebalanced)
	return reg.Register(m)
}
