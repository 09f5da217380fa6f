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
	space   chan struct{} // closed when due is short again; nil: nobody waits
}

// maxDue is how many callbacks may be due before messages have to wait.
const maxDue = 1000

// wait waits, in front of a message, for a slow application to catch up.
func (c *callbacks) wait(done <-chan struct{}) {
	for {
		c.mu.Lock()
		if len(c.due) < maxDue {
			c.mu.Unlock()
			return
		}
		if c.space == nil {
			c.space = make(chan struct{})
		}
		space := c.space
		c.mu.Unlock()
		select {
		case <-space:
		case <-done:
			return
		}
	}
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
		if c.space != nil && len(c.due) < maxDue {
			close(c.space)
			c.space = nil
		}
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
