package store

import (
	"context"
	"slices"
	"sync"
)

// turns lets the callers for one room go one at a time, in the order in which
// they asked, and those for different rooms at once. The zero value is ready
// for use.
type turns struct {
	mu sync.Mutex
	// waiting has an entry for every room whose turn someone has: those who
	// wait for it, each by a channel that is closed when the turn is theirs.
	waiting map[string][]chan struct{}
}

// take waits for the room's turn. Without an error the caller must pass it on.
func (t *turns) take(ctx context.Context, id string) error {
	t.mu.Lock()
	if t.waiting == nil {
		t.waiting = map[string][]chan struct{}{}
	}
	line, taken := t.waiting[id]
	if !taken {
		t.waiting[id] = nil
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting[id] = append(line, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting[id], mine); i >= 0 {
		t.waiting[id] = slices.Delete(t.waiting[id], i, i+1)
	} else { // it came at that very moment
		t.passLocked(id)
	}
	return ctx.Err()
}

// pass gives the room's turn to whoever asked next.
func (t *turns) pass(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passLocked(id)
}

func (t *turns) passLocked(id string) {
	line := t.waiting[id]
	if len(line) == 0 {
		delete(t.waiting, id)
		return
	}
	close(line[0])
	t.waiting[id] = line[1:]
}
