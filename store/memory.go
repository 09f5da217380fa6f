package store

import (
	"context"
	"sync"

	"github.com/weftsync/weft/room"
)

// Memory keeps rooms in memory, for tests and for rooms that need not outlive
// the process. The zero value is an empty store, ready for use and safe for
// concurrent use. It holds every room that was ever saved in it: nothing but
// their number bounds it.
//
// It keeps the snapshots themselves. They are immutable and share their memory
// with the live room, so a save costs a map entry whatever the size of the
// room, and there is nothing that a [room.ChangeStorage] could save beyond
// that.
type Memory struct {
	mu    sync.Mutex
	rooms map[string]*room.Snapshot
}

// Load returns the snapshot last saved, or nil and no error if there is none.
// The only error is the context's.
func (m *Memory) Load(ctx context.Context, id string) (*room.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rooms[id], nil
}

// Save keeps the snapshot in place of the room's last. The only error is the
// context's.
func (m *Memory) Save(ctx context.Context, id string, s *room.Snapshot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rooms == nil {
		m.rooms = map[string]*room.Snapshot{}
	}
	m.rooms[id] = s
	return nil
}
