package room

import (
	"slices"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// after runs f in a goroutine of its own, d from now. Who stops the manager
// waits for it.
func (m *Manager) after(d time.Duration, f func()) *time.Timer {
	m.tasks.Add(1)
	return time.AfterFunc(d, func() {
		defer m.tasks.Done()
		f()
	})
}

// stop stops a timer from after, if it has not fired. It may be nil.
func (m *Manager) stop(t *time.Timer) {
	if t != nil && t.Stop() {
		m.tasks.Done()
	}
}

// rearm stops a timer and starts another.
func (m *Manager) rearm(t *time.Timer, d time.Duration, f func()) *time.Timer {
	m.stop(t)
	return m.after(d, f)
}

// touch puts off the closing of a room that is asked for.
func (r *Room) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && len(r.order) == 0 {
		r.idle = r.manager.rearm(r.idle, r.config.IdleTimeout, r.idled)
	}
}

// idled runs when a room has had no session for a while. What cannot be saved
// stays in memory.
func (r *Room) idled() {
	if r.SessionCount() > 0 {
		return
	}
	if err := r.Flush(r.manager.ctx); err == nil && r.manager.evict(r) {
		return
	}
	r.touch()
}

// disconnectAll closes all sockets of a room and leaves it open.
func (r *Room) disconnectAll(c protocol.Close) {
	r.mu.Lock()
	defer r.unlock()
	for _, s := range slices.Clone(r.order) {
		s.socket.Close(c)
		r.leaveLocked(s)
	}
}
