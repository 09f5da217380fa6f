package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weftsync/weft/room"
)

// Errors of [File], besides those of the file system and [room.ErrBadSnapshot].
var (
	// ErrInUse: another process, or another File, uses the folder.
	ErrInUse = errors.New("another process is using it")
	// ErrClosed: the File is closed.
	ErrClosed = errors.New("the file store is closed")
	// ErrFolderGone: the path no longer leads to the folder that was opened,
	// because it was removed, replaced or unmounted.
	ErrFolderGone = errors.New("it is not the folder that was opened at the start")
)

var errLocked = errors.New("locked")

// File keeps each room in a JSON file of its own, in one folder. Make it with
// [NewFile]. It is safe for concurrent use.
//
// # Names
//
// A room's file is its id with ".json", as the published server has it, so that
// the folder of such a server opens as it is. Bytes that mean something to a
// file system are escaped, each as % and two hexadecimal digits: the separators
// and reserved characters % / \ : * ? " < > |, control characters, what is not
// UTF-8, a dot at the beginning, and the first letter of a name that is a
// device on Windows. An id whose file name would have more than 255 bytes is
// cut and ends in %~ and its SHA-256. Two ids never have the same name, and no
// id leads out of the folder.
//
// If a room whose id needs escaping has no file yet, the name under which the
// published server would have kept it is tried too, provided that it is in the
// folder itself and could not be another room's; the next save goes to the
// escaped name and leaves the old file where it is. An id with a slash led the
// published server out of its folder or into one below; such a file is not
// looked for. Move it.
//
// A file system that ignores case or Unicode normalization (the usual ones of
// macOS and Windows; not those of Linux) gives ids that differ only by it the
// same file. File does nothing about that: there, hand out ids of one case.
//
// # After a crash
//
// A File that was not closed may have had rooms whose last changes were not saved.
// The next File on the folder tells so of each room that it loads and that was
// not saved since: see [room.Forgotten]. It cannot tell so of a room that was
// never saved at all.
//
// # Guarantees
//
// A save writes a temporary file, syncs it, renames it over the room's file,
// and syncs the folder. Whatever fails, and whenever the machine stops, the
// file holds one whole snapshot, the old one or the new. Files have mode 0600
// and folders that NewFile creates 0700, for documents are nobody else's
// business; an existing folder keeps its mode.
//
// One process at a time may use a folder: NewFile locks the file .weft.lock in
// it, by flock, and says in it whether the folder is in use. On systems without flock (Windows among them) there is no such
// guard.
type File struct {
	// fixed after construction
	dir  string
	info fs.FileInfo // of dir
	lock *os.File
	disk disk
	// crashed is when the folder was last found to be left in use; zero: never.
	crashed time.Time

	turns   turns
	running sync.WaitGroup // loads and saves

	mu      sync.Mutex
	closed  bool
	unsaved map[string]bool // rooms whose last save has failed
	lost    bool            // there were changes that Save was not called with
}

// NewFile opens a folder of rooms, which it creates if need be, locks it, makes
// sure that files can be written there, and removes the temporary files that a
// process which ended in mid-save has left. The errors are sentences that name
// the folder; one wraps [ErrInUse]. The caller must close the File.
func NewFile(dir string) (*File, error) {
	if dir == "" {
		return nil, errors.New("the data folder has no name")
	}
	f := &File{dir: dir, disk: osDisk}
	if err := f.open(); err != nil {
		if f.lock != nil {
			_ = f.lock.Close() // the first error tells more
		}
		return nil, err
	}
	return f, nil
}

func (f *File) open() (err error) {
	if err := makeFolder(f.dir); err != nil {
		return fmt.Errorf("the data folder %q cannot be created: %w", f.dir, err)
	}
	if f.info, err = os.Stat(f.dir); err != nil {
		return fmt.Errorf("the data folder %q cannot be read: %w", f.dir, err)
	}
	f.lock, err = os.OpenFile(filepath.Join(f.dir, lockName), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return fmt.Errorf("the data folder %q cannot be written: %w", f.dir, err)
	}
	switch err := lock(f.lock); {
	case errors.Is(err, errLocked):
		return fmt.Errorf("the data folder %q cannot be opened: %w", f.dir, ErrInUse)
	case err != nil:
		return fmt.Errorf("the data folder %q cannot be locked: %w", f.dir, err)
	}
	if err := removeLeftovers(f.dir); err != nil {
		return fmt.Errorf("the data folder %q cannot be cleaned of temporary files: %w", f.dir, err)
	}
	if err := tryWriting(f.dir); err != nil {
		return fmt.Errorf("the data folder %q cannot be written: %w", f.dir, err)
	}
	return f.beginUse()
}

// Close waits for the loads and saves under way, bounded by their contexts, and
// lets others use the folder. That is no crash, unless the last save of a room has
// failed; see also [File.NotAllSaved]. Afterwards the File's methods fail with
// [ErrClosed]; Close itself may be called again.
func (f *File) Close() error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	f.running.Wait()
	return errors.Join(f.endUse(), f.lock.Close())
}

// begin must be followed by f.running.Done unless there is an error.
func (f *File) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.running.Add(1)
	return nil
}

// checkFolder keeps a folder that was unmounted from looking like one without
// rooms.
func (f *File) checkFolder() error {
	now, err := os.Stat(f.dir)
	if err == nil && os.SameFile(f.info, now) {
		return nil
	}
	return fmt.Errorf("the data folder %q: %w", f.dir, ErrFolderGone)
}

// Load reads a room's file; nil and no error means that there is none. A file
// that cannot be understood, an empty one included, is an error that names it
// and wraps [room.ErrBadSnapshot]; one that cannot be read is an error too. The
// file stays as it is.
func (f *File) Load(ctx context.Context, id string) (*room.Snapshot, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	defer f.running.Done()
	for _, name := range []string{fileName(id), publishedName(id)} {
		if name == "" {
			continue
		}
		path := filepath.Join(f.dir, name)
		forgetful := f.mayHaveForgotten(path)
		text, err := f.disk.read(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", path, err)
		}
		s, err := room.ParseSnapshot(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if forgetful {
			s = forget(s)
		}
		return s, nil
	}
	return nil, f.checkFolder()
}

// Save puts the snapshot in place of the room's file. Saves of one room happen
// one at a time in the order of the calls, so that the last call is the one
// that stays; different rooms do not wait for each other. The context is looked
// at between steps, and no part of a save goes on after Save has returned.
//
// After an error the old file is whole and in its place, but for one case: if
// only the folder could not be synced, the new file is in its place and might
// not survive a power failure.
func (f *File) Save(ctx context.Context, id string, s *room.Snapshot) (err error) {
	defer func() { f.noteSaved(id, err) }()
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.running.Done()
	path := filepath.Join(f.dir, fileName(id))
	if err := f.turns.take(ctx, id); err != nil {
		return fmt.Errorf("%s is not saved: %w", path, err)
	}
	defer f.turns.pass(id)
	if err := f.checkFolder(); err != nil {
		return err
	}
	if err := f.disk.replace(ctx, path, s); err != nil {
		return fmt.Errorf("%s is not saved: %w", path, err)
	}
	if err := f.disk.syncFolder(f.dir); err != nil {
		return fmt.Errorf("%s is written, but might not survive a power failure: %w", path, err)
	}
	return nil
}
