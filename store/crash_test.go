package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftsync/weft/room"
)

// crash leaves the folder as the end of a process does.
func crash(t *testing.T, f *File) {
	t.Helper()
	if err := f.lock.Close(); err != nil {
		t.Fatal(err)
	}
	f.closed = true // the test's cleanup closes it
}

func at(t *testing.T, timestamp string) *room.Snapshot {
	t.Helper()
	s, err := room.ParseSnapshot([]byte(`{"timestamp":` + timestamp + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAfterACrashRoomsMayHaveForgotten(t *testing.T) {
	dir := t.TempDir()
	save := func(f *File, id, timestamp string) {
		t.Helper()
		if err := f.Save(t.Context(), id, at(t, timestamp)); err != nil {
			t.Fatal(err)
		}
	}
	// The clocks of a file system may be some milliseconds behind.
	longAgo := func(id string) {
		t.Helper()
		then := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(dir, fileName(id)), then, then); err != nil {
			t.Fatal(err)
		}
	}
	soon := func(id string) {
		t.Helper()
		then := time.Now().Add(time.Second)
		if err := os.Chtimes(filepath.Join(dir, fileName(id)), then, then); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(f *File, id string, forgetful bool) {
		t.Helper()
		s, err := f.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		list := s.Forgotten()
		if (len(list) > 0) != forgetful {
			t.Errorf("%s: %v", id, list)
		}
		if now := room.Clock(time.Now()); forgetful && (list[0].After != s.Timestamp() || list[0].Before > now || list[0].Before < now-int64(time.Minute/(10*time.Microsecond))) {
			t.Errorf("%s: %v, now is %d", id, list, now)
		}
	}
	f := newFile(t, dir)
	save(f, "a", "3")
	save(f, "b", "4")
	wants(f, "a", false)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = newFile(t, dir)
	wants(f, "a", false) // it was closed
	longAgo("a")
	longAgo("b")
	crash(t, f)

	f = newFile(t, dir)
	wants(f, "a", true)
	save(f, "a", "7")
	soon("a")
	wants(f, "a", false)
	wants(f, "b", true)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = newFile(t, dir) // it was closed, and remembers
	wants(f, "a", false)
	wants(f, "b", true)
	crash(t, f)
	longAgo("a")

	f = newFile(t, dir)
	wants(f, "a", true)
}

// A folder in which a room was not saved is left as after a crash.
func TestClosedWithARoomThatWasNotSaved(t *testing.T) {
	for _, again := range []bool{false, true} {
		dir := t.TempDir()
		f := newFile(t, dir)
		if err := f.Save(t.Context(), "r", at(t, "3")); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(dir, fileName("r")), then, then); err != nil {
			t.Fatal(err)
		}
		rename := f.disk.rename
		f.disk.rename = func(string, string) error { return errors.New("not now") }
		if f.Save(t.Context(), "r", at(t, "4")) == nil {
			t.Fatal("it is saved")
		}
		if f.disk.rename = rename; again {
			if err := f.Save(t.Context(), "r", at(t, "4")); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := newFile(t, dir).Load(t.Context(), "r")
		if err != nil || (len(s.Forgotten()) > 0) == again {
			t.Errorf("saved again: %v; %v, %v", again, s.Forgotten(), err)
		}
	}
}

func TestClosedWithChangesThatSaveDidNotGet(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	f.NotAllSaved()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f = newFile(t, dir); f.crashed.IsZero() {
		t.Error("it is taken for clean")
	}
}

// A lock file that is half written is that of a process which has crashed.
func TestLockFileThatCannotBeUnderstood(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte(`{"open`), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := newFile(t, dir); f.crashed.IsZero() {
		t.Error("it is taken for clean")
	}
}
