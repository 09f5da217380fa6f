package room

import (
	"context"
	"fmt"
	"time"
)

// Storage keeps rooms. Its methods are safe for concurrent use; for one room
// they are called one at a time.
type Storage interface {
	// Load returns a room's snapshot, or nil and no error if there is none. A
	// snapshot that cannot be read is an error: the room must not start empty.
	Load(ctx context.Context, room string) (*Snapshot, error)
	// Save keeps a snapshot in place of the room's last. When it returns no
	// error, the snapshot outlives a crash of the process.
	Save(ctx context.Context, room string, s *Snapshot) error
}

// ChangeStorage is a [Storage] that can keep a change without the rest.
type ChangeStorage interface {
	Storage
	// SaveChanges keeps a snapshot, of which the storage has all but what
	// changed after the timestamp: see [Snapshot.Pages].
	SaveChanges(ctx context.Context, room string, s *Snapshot, after int64) error
}

// saver saves a room some time after it changed: at the latest when the interval
// is over, a little earlier by chance so that rooms which changed together are
// not saved together, and so that a room which takes long to save does not do
// little else. A save that fails is tried again, ever less often.
type saver struct {
	room *Room
	// busy is held by who saves; it guards saved.
	busy  chan struct{}
	saved int64

	// guarded by room.mu
	timer    *time.Timer
	queued   bool          // to be saved in its turn
	saving   bool          // and who saves sees to what changes meanwhile
	took     time.Duration // by the last save
	failures int           // in a row
	err      error         // of the last save
	since    time.Time     // of the first failure in the row
}

const (
	// savingShare bounds the share of time that a room spends saving: after a
	// save it rests for this many times as long as that took.
	savingShare  = 4
	firstRetry   = time.Second
	longestRetry = 30 * time.Second
)

func (s *saver) init(r *Room) {
	s.room, s.saved = r, r.state.doc.timestamp
	s.busy = make(chan struct{}, 1)
}

// changed sees to it that a change will be saved. The room is locked.
func (s *saver) changed() {
	if s.timer == nil && !s.saving && !s.queued && s.room.config.Storage != nil {
		s.timer = s.room.manager.after(max(s.room.config.SaveInterval-s.room.manager.early(s.room.config.SaveInterval/4), savingShare*s.took), s.due)
	}
}

func (s *saver) due() {
	r := s.room
	r.mu.Lock()
	s.timer = nil
	closed := r.closed // then who closes it saves it
	s.queued = !closed
	r.mu.Unlock()
	if closed {
		return
	}
	_ = s.save(r.manager.ctx, r.manager.savers) // logged, and tried again
	r.mu.Lock()
	defer r.mu.Unlock()
	s.queued = false
	s.rearm()
}

// rearm sees to it that what has changed during a save will be saved. The room
// is locked.
func (s *saver) rearm() {
	if s.room.state.doc.timestamp != s.saved && !s.room.closed {
		s.changed()
	}
}

// save saves what has changed since the last save, as one of as many at once as
// there are slots.
func (s *saver) save(ctx context.Context, slots chan struct{}) error {
	r := s.room
	if r.config.Storage == nil {
		return nil
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	if r.state.doc.timestamp == s.saved {
		r.mu.Unlock()
		return nil
	}
	snapshot := r.state.doc.Snapshot()
	s.saving = true
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, r.config.StorageTimeout)
	defer cancel()
	start := time.Now()
	err := s.write(ctx, snapshot)
	s.finished(snapshot, time.Since(start), err)
	return err
}

func (s *saver) write(ctx context.Context, snapshot *Snapshot) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("storage panicked: %T", p)
		}
	}()
	id := s.room.id
	if storage, ok := s.room.config.Storage.(ChangeStorage); ok {
		return storage.SaveChanges(ctx, id, snapshot, s.saved)
	}
	return s.room.config.Storage.Save(ctx, id, snapshot)
}

func (s *saver) finished(snapshot *Snapshot, took time.Duration, err error) {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	s.saving, s.took = false, took
	if err == nil {
		s.saved = snapshot.timestamp
		r.manager.saved(r, took)
		if s.failures > 0 {
			r.config.Logger.Info("the room is saved again", "room", r.id, "failures", s.failures)
		}
		s.failures, s.err = 0, nil
		s.rearm()
		return
	}
	if s.failures == 0 {
		s.since = time.Now()
	}
	s.failures++
	s.err = err
	r.manager.saveFailed(r, err)
	retry := min(firstRetry<<min(s.failures-1, 10), longestRetry)
	r.config.Logger.Error("the room was not saved; its changes are in memory only", "room", r.id, "error", err, "failures", s.failures, "retry", retry)
	if s.timer == nil && !r.closed {
		s.timer = r.manager.after(retry, s.due)
	}
}

// Flush saves the room now, if it has changed. When it returns no error, all
// that was acknowledged before the call is saved.
func (r *Room) Flush(ctx context.Context) error {
	if err := r.saver.save(ctx, r.manager.flushers); err != nil {
		return fmt.Errorf("save room %q: %w", r.id, err)
	}
	return nil
}

// savedLocked reports whether the storage has everything. The room is locked.
func (r *Room) savedLocked() bool {
	if r.config.Storage == nil {
		return true
	}
	select {
	case r.saver.busy <- struct{}{}:
		defer func() { <-r.saver.busy }()
		return r.saver.saved == r.state.doc.timestamp
	default:
		return false // being saved
	}
}
