package store

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/weftsync/weft/room"
)

// A process that ends without closing its File may have told clients of changes that
// it has not saved. So the lock file says whether the folder is in use, and when it was
// last found to be left like that. What is in a room's file since before then may be
// older than what clients have seen; see [room.Forgotten].

// usage is what the lock file says.
type usage struct {
	Open bool `json:"open"`
	// Crashed is when a process found that the one before had not closed the
	// folder; zero: never.
	Crashed time.Time `json:"crashed,omitzero"`
}

// readUsage reads the lock file. One that cannot be understood is of a process that
// ended while it wrote.
func readUsage(file *os.File) (u usage, err error) {
	const most = 4096
	text, err := io.ReadAll(io.NewSectionReader(file, 0, most))
	if err != nil || len(text) == 0 {
		return u, err
	}
	if json.Unmarshal(text, &u) != nil {
		u = usage{Open: true}
	}
	return u, nil
}

// writeUsage writes the lock file, and makes sure that it survives a power failure.
func writeUsage(file *os.File, u usage) error {
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.WriteAt(text, 0); err != nil {
		return err
	}
	return file.Sync()
}

// beginUse notes that the folder is in use, and finds out whether it was left in use.
func (f *File) beginUse() error {
	u, err := readUsage(f.lock)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", f.lock.Name(), err)
	}
	if u.Open {
		u.Crashed = time.Now()
	}
	u.Open = true
	if err := writeUsage(f.lock, u); err != nil {
		return fmt.Errorf("%s cannot be written: %w", f.lock.Name(), err)
	}
	f.crashed = u.Crashed
	return nil
}

// NotAllSaved tells that there are changes which could not even be tried to be saved, and
// that Close is to leave the folder like a crash.
func (f *File) NotAllSaved() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
}

// endUse notes that the folder is not in use any more, unless there is something
// that was not saved.
func (f *File) endUse() error {
	f.mu.Lock()
	lost := f.lost || len(f.unsaved) > 0
	f.mu.Unlock()
	if lost {
		return nil
	}
	if err := writeUsage(f.lock, usage{Crashed: f.crashed}); err != nil {
		return fmt.Errorf("%s cannot be written: %w", f.lock.Name(), err)
	}
	return nil
}

// mayHaveForgotten reports whether a room's file was not written since before a
// process ended without closing the folder.
func (f *File) mayHaveForgotten(path string) bool {
	if f.crashed.IsZero() {
		return false
	}
	info, err := os.Stat(path)
	return err != nil || !info.ModTime().After(f.crashed)
}

// noteSaved notes whether a room's last save has failed.
func (f *File) noteSaved(id string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.unsaved, id)
		return
	}
	if f.unsaved == nil {
		f.unsaved = map[string]bool{}
	}
	f.unsaved[id] = true
}

// forget is the snapshot of a room that may have given out timestamps which the
// snapshot does not know.
func forget(s *room.Snapshot) *room.Snapshot { return s.Forget(room.Clock(time.Now())) }
