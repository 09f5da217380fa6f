package room

import (
	"sync/atomic"
	"time"
)

// stats counts what a manager's rooms do.
type stats struct {
	sessions, received, deliveries, violations, slow, panics atomic.Int64
	loads, loadFailures, saves, saveFailures, saveNanos      atomic.Int64
}

// Stats is what a manager's rooms have done since it began, and hold now.
type Stats struct {
	Rooms, Sessions int64 // now
	// Received counts patches and reconnects, Deliveries what was broadcast,
	// once for every session.
	Received, Deliveries int64
	// Violations counts messages of the wrong shape, Slow the sessions closed
	// while they waited for a diff, Panics the messages that broke the engine;
	// each ended its session.
	Violations, Slow, Panics int64
	Loads, LoadFailures      int64
	Saves, SaveFailures      int64
	SaveTime                 time.Duration // of all successful saves together
	// Unsaved lists the rooms whose last save failed.
	Unsaved []UnsavedRoom
}

// UnsavedRoom is a room whose last save failed: its changes are in memory only.
type UnsavedRoom struct {
	Room     string
	Err      error
	Failures int // in a row
	Since    time.Time
}

// Stats returns the numbers of the moment.
func (m *Manager) Stats() Stats {
	s := &m.stats
	out := Stats{
		Sessions: s.sessions.Load(), Received: s.received.Load(), Deliveries: s.deliveries.Load(),
		Violations: s.violations.Load(), Slow: s.slow.Load(), Panics: s.panics.Load(),
		Loads: s.loads.Load(), LoadFailures: s.loadFailures.Load(),
		Saves: s.saves.Load(), SaveFailures: s.saveFailures.Load(), SaveTime: time.Duration(s.saveNanos.Load()),
	}
	for _, r := range m.live() {
		out.Rooms++
		r.mu.Lock()
		if r.saver.err != nil {
			out.Unsaved = append(out.Unsaved, UnsavedRoom{Room: r.id, Err: r.saver.err, Failures: r.saver.failures, Since: r.saver.since})
		}
		r.mu.Unlock()
	}
	return out
}

func (m *Manager) saved(_ *Room, took time.Duration) {
	m.stats.saves.Add(1)
	m.stats.saveNanos.Add(int64(took))
}

func (m *Manager) saveFailed(*Room, error) { m.stats.saveFailures.Add(1) }
