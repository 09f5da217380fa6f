package room

import (
	"fmt"
	"log/slog"
	"sync"
)

// callbacks calls the application back in order, one at a time, with the room
// unlocked, so that a callback may use the room.
type callbacks struct {
	mu      sync.Mutex
	due     []func()
	running bool
}

func (c *callbacks) add(f func()) {
	c.mu.Lock()
	c.due = append(c.due, f)
	c.mu.Unlock()
}

// run calls what is due, unless another goroutine is at it.
func (c *callbacks) run(log *slog.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return
	}
	c.running = true
	for len(c.due) > 0 {
		f := c.due[0]
		c.due = c.due[1:]
		c.mu.Unlock()
		call(f, log)
		c.mu.Lock()
	}
	c.running = false
}

// call calls f and survives its panic.
func call(f func(), log *slog.Logger) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("a callback panicked", "panic", fmt.Sprintf("%T", p))
		}
	}()
	f()
}
