// Package load puts a server of the canvas-store protocol under load and measures what comes of it:
// deliveries, latencies, and the CPU and memory of the server's process. It speaks only the
// protocol, so that it holds Weft and the published Node server to the same measure.
//
// Run is the way in: it connects clients (ramp.go), seeds their rooms (seed.go), lets writers send
// at planned times (pace.go, workload.go), counts what every client receives (receive.go, client.go,
// frames.go, scan.go) and returns a Report (report.go). It shares a machine with the server that it
// measures, so the receiving path decodes no JSON and allocates nothing.
package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// sampleEvery is the time between two looks at the server's memory.
const sampleEvery = 250 * time.Millisecond

// Run performs one run and returns what it measured. It ends by itself, after at most RampTimeout,
// Warmup, Duration, twice Drain and JoinTimeout together, with every connection closed.
//
// An error before the window comes with an empty Report: a bad Config (ErrConfig, ErrRemote), a PID
// that cannot be read, a room that could not be entered. When ctx ends in the middle, or the PID
// does, the Report covers what was measured until then. Single clients that fail are no error of
// the run: Report.Errors and Report.Connected tell of them.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Report{}, err
	}
	rec := newRecorder()
	var before usage
	if cfg.PID != 0 {
		var err error
		if before, err = measure(cfg.PID, cfg.Children); err != nil {
			return Report{}, err
		}
	}
	rx, err := startReceivers(rec)
	if err != nil {
		return Report{}, err
	}
	defer rx.stop()
	clients, err := ramp(ctx, &cfg, rec, rx)
	if err != nil {
		closeAll(clients)
		return Report{}, err
	}
	connected := 0
	for _, c := range clients {
		if c != nil && !c.lost.Load() {
			connected++
		}
	}
	w := drive(ctx, &cfg, rec, rx, newWriters(&cfg, clients))
	if w.err == nil {
		drain(ctx, &cfg, rec)
	}
	closeAll(clients) // nothing is received from here on

	r := Report{
		Workload: cfg.Workload, Rooms: cfg.Rooms, ClientsPerRoom: cfg.Clients, WritersPerRoom: cfg.Writers, Rate: cfg.Rate,
		Connected: connected, Seconds: w.length.Seconds(),
		Sends: rec.sends.Load(), Acks: rec.acks.Load(), Expected: rec.expected.Load(), Delivered: rec.delivered.Load(),
		Delivery:       latency(rec.merged(func(s *scratch) *hdrhistogram.Histogram { return s.delivery })),
		Ack:            latency(rec.merged(func(s *scratch) *hdrhistogram.Histogram { return s.ack })),
		Lag:            latency(rec.lag.h),
		Ramp:           latency(rec.ramp.h),
		Join:           latency(rec.join.h),
		LoadCPUSeconds: (w.ownTo.cpu - w.ownFrom.cpu).Seconds(),
		Errors:         rec.failures(),
	}
	if r.Expected > 0 {
		r.DeliveredShare = float64(r.Delivered) / float64(r.Expected)
	}
	if r.Seconds > 0 {
		r.DeliveriesPerSecond = float64(rec.arrivals.Load()) / r.Seconds
		r.BytesPerSecond = float64(rec.bytes.Load()) / r.Seconds
	}
	if cfg.PID != 0 {
		s := &ServerUse{
			PID: cfg.PID, CPUSeconds: (w.to.cpu - w.from.cpu).Seconds(),
			RSSBefore: before.rss, RSSAfter: w.to.rss, RSSPeak: w.peak,
		}
		if n := rec.arrivals.Load(); n > 0 {
			s.CPUMicrosPerDelivery = s.CPUSeconds * 1e6 / float64(n)
		}
		if connected > 0 {
			s.RSSPerConnection = (s.RSSAfter - s.RSSBefore) / int64(connected)
		}
		r.Server = s
	}
	return r, w.err
}

// window is what the processes used between the ends of the measured window.
type window struct {
	length         time.Duration
	from, to       usage // the server
	ownFrom, ownTo usage
	peak           int64
	err            error // why the window was cut off, if it was
}

// drive runs the writers and the joins, and measures the processes during the window.
func drive(ctx context.Context, cfg *Config, rec *recorder, rx *receivers, writers []*writer) window {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := rec.now() + int64(20*time.Millisecond) // time for the goroutines to begin
	from := start + int64(cfg.Warmup)
	to := from + int64(cfg.Duration)
	rec.to.Store(to)
	rec.from.Store(from)

	p := plan{start: start, end: to, interval: float64(time.Second) / cfg.Rate, writers: len(writers)}
	var wait sync.WaitGroup
	defer wait.Wait()
	if len(writers) > 0 {
		wait.Go(func() { pace(ctx, cfg, rec, p, writers) })
	}
	if cfg.Workload == Large {
		wait.Go(func() { joins(ctx, cfg, rec, rx, p) })
	}

	var w window
	if w.err = sleepUntil(ctx, rec, from); w.err != nil {
		rec.to.Store(from)
		return w
	}
	if w.from, w.err = cfg.measureServer(); w.err != nil {
		cancel()
		rec.to.Store(from)
		return w
	}
	w.ownFrom = measureSelf()
	began := rec.now()
	w.to = w.from
	for w.err == nil {
		next := min(rec.now()+int64(sampleEvery), to)
		w.err = sleepUntil(ctx, rec, next)
		if use, err := cfg.measureServer(); err == nil {
			w.to, w.peak = use, max(w.peak, use.rss)
		} else {
			w.err = errors.Join(w.err, err)
		}
		if next == to {
			break
		}
	}
	w.ownTo = measureSelf()
	w.length = time.Duration(rec.now() - began)
	if w.err != nil {
		rec.to.Store(rec.now())
		cancel() // also when it was the server's process that ended
	}
	return w
}

// drain waits until everything that was sent has come back, or for cfg.Drain.
func drain(ctx context.Context, cfg *Config, rec *recorder) {
	limit := rec.now() + int64(cfg.Drain)
	for !rec.complete() && rec.now() < limit {
		if sleepUntil(ctx, rec, rec.now()+int64(5*time.Millisecond)) != nil {
			return
		}
	}
}

func sleepUntil(ctx context.Context, rec *recorder, t int64) error {
	timer := time.NewTimer(time.Duration(t - rec.now()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("load: cut off: %w", ctx.Err())
	}
}

// measureServer reads the usage of the server's process; nothing, if there is no PID.
func (c *Config) measureServer() (usage, error) {
	if c.PID == 0 {
		return usage{}, nil
	}
	return measure(c.PID, c.Children)
}

func measureSelf() usage {
	if runtime.GOOS != "linux" {
		return usage{}
	}
	u, err := measure(os.Getpid(), false)
	if err != nil {
		return usage{} // the report then says 0 for the load's own CPU
	}
	return u
}
