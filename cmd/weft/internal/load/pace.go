package load

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// grid is what planned sending times are rounded up to, so that a pacer that serves thousands of
// writers sleeps a thousand times a second at most.
const grid = int64(time.Millisecond)

// plan says when every writer sends. Each sends once an interval, and their phases are spread
// evenly over it: writers that follow each other in the list follow each other in time.
type plan struct {
	start, end int64 // ns on the recorder's clock
	interval   float64
	writers    int
}

// at is the planned time of the given round of writer k.
func (p plan) at(round, k int) int64 {
	t := int64(p.interval * (float64(round) + float64(k)/float64(p.writers)))
	return p.start + (t+grid-1)/grid*grid
}

// pace drives all writers along p, with one goroutine a processor, and returns when p has ended or
// ctx is done.
//
// Latency is counted from the planned time, not from the write: when the load itself or a full
// socket is late, the patches that had to wait show it. Measuring from the write would leave out
// just the moments in which things went badly ("coordinated omission").
//
// A write that the server does not take in blocks its pacer, for Drain after the end at most (and at
// least a second), and then breaks that connection.
func pace(ctx context.Context, cfg *Config, rec *recorder, p plan, writers []*writer) {
	pacers := min(runtime.GOMAXPROCS(0), len(writers))
	limit := rec.base.Add(time.Duration(p.end) + max(cfg.Drain, time.Second))
	deadline := func(t time.Time) {
		for _, w := range writers {
			_ = w.client.conn.SetWriteDeadline(t) // fails only on a closed connection
		}
	}
	deadline(limit)
	stop := context.AfterFunc(ctx, func() { deadline(time.Now()) })
	var wait sync.WaitGroup
	for first := range pacers {
		wait.Go(func() {
			timer := time.NewTimer(0)
			defer timer.Stop()
			var payload []byte
			var frame bytes.Buffer
			for round := 0; ; round++ {
				for k := first; k < len(writers); k += pacers {
					tag := p.at(round, k)
					if tag >= p.end {
						return // later writers and rounds are later still
					}
					now := rec.now()
					if tag > now {
						timer.Reset(time.Duration(tag - now))
						select {
						case <-timer.C:
						case <-ctx.Done():
							return
						}
					} else if ctx.Err() != nil {
						return
					}
					payload = send(cfg, rec, writers[k], tag, payload, &frame)
				}
			}
		})
	}
	wait.Wait()
	if stop() {
		deadline(time.Time{}) // pongs may still have to be written
	}
}

// send makes and writes one patch; payload and frame are buffers to reuse.
func send(cfg *Config, rec *recorder, w *writer, tag int64, payload []byte, frame *bytes.Buffer) []byte {
	c := w.client
	if c.lost.Load() {
		return payload
	}
	payload = w.patch(payload[:0], cfg, tag)
	measured := rec.inWindow(tag)
	if measured {
		rec.lag.record(rec.now() - tag)
		// Counted before the write, so that `complete` can never be true too early.
		rec.sends.Add(1)
		rec.expected.Add(int64(cfg.Clients - 1))
	}
	if err := c.write(frame, ws.OpText, payload); err != nil && !c.lost.Swap(true) {
		rec.fail("write: " + reason(err))
	}
	return payload
}

// newWriters lists the writers so that neighbours are in different rooms as far as possible: a
// room's writers then are spread over the whole interval. clients are those of each room in turn.
func newWriters(cfg *Config, clients []*client) []*writer {
	var writers []*writer
	for i := range cfg.Writers {
		for room := range cfg.Rooms {
			if c := clients[room*cfg.Clients+i]; c != nil {
				w := &writer{client: c, random: rand.New(rand.NewPCG(uint64(room), uint64(i)))}
				if w.points = startPoints(cfg, i, cfg.Writers); cfg.NoSeed {
					w.points = cfg.StrokePoints // no stroke is there yet: begin with creating one
				}
				writers = append(writers, w)
			}
		}
	}
	return writers
}
