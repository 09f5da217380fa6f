package wsconn

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room"
)

// closeReason is why a connection ended, as a metric's label.
type closeReason int

const (
	closedByPeer   closeReason = iota // the peer sent a close frame
	closedGone                        // the peer went away without one
	closedByRoom                      // closed by the room or the application, or shut down
	closedSlow                        // its queue was full
	closedStalled                     // a write made no progress
	closedDead                        // no answer to a ping
	closedBadFrame                    // not WebSocket
	closedBadText                     // not UTF-8
	closedBinary                      // a binary message
	closedTooBig                      // a message beyond the limit
	closedDrained                     // the server goes away, and this was its turn
	closedOld                         // it was as old as it may get
	closeReasons

	stillOpen closeReason = -1
)

var closeLabels = [closeReasons]string{
	"peer", "gone", "room", "slow_consumer", "write_timeout", "ping_timeout", "bad_frame", "bad_text", "binary", "too_big", "drain", "max_age",
}

type metrics struct {
	connections                       prometheus.Gauge
	accepted, received, receivedBytes prometheus.Counter
	sent, sentBytes, writes           prometheus.Counter
	closes                            [closeReasons]prometheus.Counter
	refusals                          [refusalReasons]prometheus.Counter
}

// newMetrics makes the metrics and registers them, unless reg is nil.
func newMetrics(reg prometheus.Registerer, remaining func() float64) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		all = append(all, c)
		return c
	}
	m := &metrics{
		connections:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "weft_connections", Help: "Open sockets."}),
		accepted:      counter("weft_connections_accepted_total", "Sockets that were upgraded."),
		received:      counter("weft_messages_received_total", "Messages read from sockets."),
		receivedBytes: counter("weft_received_bytes_total", "Bytes read from sockets."),
		sent:          counter("weft_frames_sent_total", "Frames written to sockets."),
		sentBytes:     counter("weft_sent_bytes_total", "Bytes written to sockets."),
		writes:        counter("weft_writes_total", "Writes to sockets; frames per write tells how well gathering works."),
	}
	closes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weft_closes_total", Help: "Sockets that ended, by reason."}, []string{"reason"})
	for i := range m.closes {
		m.closes[i] = closes.WithLabelValues(closeLabels[i])
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weft_upgrades_refused_total", Help: "Requests that were answered with an HTTP status instead of an upgrade, by reason."}, []string{"reason"})
	for i := range m.refusals {
		m.refusals[i] = refused.WithLabelValues(refusalTable[i].label)
	}
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weft_drain_sockets_remaining", Help: "Open sockets of a server that goes away; 0 before."}, remaining)
	all = append(all, m.connections, closes, refused, left)
	if reg == nil {
		return m, nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// RegisterRooms registers metrics of what a room manager reports.
func RegisterRooms(reg prometheus.Registerer, stats func() room.Stats) error {
	return reg.Register(roomCollector(stats))
}

type roomCollector func() room.Stats

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var roomMetrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(room.Stats) float64
}{
	{desc("weft_rooms", "Rooms in memory."), prometheus.GaugeValue, func(s room.Stats) float64 { return float64(s.Rooms) }},
	{desc("weft_sessions", "Sessions in rooms."), prometheus.GaugeValue, func(s room.Stats) float64 { return float64(s.Sessions) }},
	{desc("weft_rooms_unsaved", "Rooms whose last save failed: their changes are in memory only."), prometheus.GaugeValue, func(s room.Stats) float64 { return float64(len(s.Unsaved)) }},
	{desc("weft_room_messages_total", "Patches and reconnects handled by rooms."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Received) }},
	{desc("weft_room_deliveries_total", "Messages handed to sockets by rooms."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Deliveries) }},
	{desc("weft_room_violations_total", "Messages of the wrong shape; each closed its sender."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Violations) }},
	{desc("weft_room_slow_sessions_total", "Sessions closed because too much waited behind a large diff."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Slow) }},
	{desc("weft_room_panics_total", "Messages that broke the room's engine; each closed its sender."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Panics) }},
	{desc("weft_room_loads_total", "Rooms loaded."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Loads) }},
	{desc("weft_room_load_failures_total", "Rooms that could not be loaded."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.LoadFailures) }},
	{desc("weft_room_saves_total", "Rooms saved."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.Saves) }},
	{desc("weft_room_save_failures_total", "Saves that failed; each is tried again."), prometheus.CounterValue, func(s room.Stats) float64 { return float64(s.SaveFailures) }},
	{desc("weft_room_save_seconds_total", "Time that successful saves took."), prometheus.CounterValue, func(s room.Stats) float64 { return s.SaveTime.Seconds() }},
}

func (roomCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range roomMetrics {
		ch <- m.desc
	}
}

func (c roomCollector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	for _, m := range roomMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
}
