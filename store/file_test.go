package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/weftsync/weft/room"
)

func newFile(t *testing.T, dir string) *File {
	t.Helper()
	f, err := NewFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// snapshot is a small one; n is its timestamp.
func snapshot(t *testing.T, n int) *room.Snapshot {
	t.Helper()
	s, err := room.ParseSnapshot([]byte(text(n)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(n int) string {
	return fmt.Sprintf(`{"timestamp":%d,"state":{"a/b":{"_exists":true,"n":%d}},"timestamps":{"a/b":{"_exists":1,"n":%d}}}`, n, n, n)
}

func save(t *testing.T, f *File, id string, n int) {
	t.Helper()
	if err := f.Save(t.Context(), id, snapshot(t, n)); err != nil {
		t.Fatal(err)
	}
}

func wantLoaded(t *testing.T, f *File, id string, n int) {
	t.Helper()
	s, err := f.Load(context.Background(), id)
	switch {
	case err != nil:
		t.Fatal(err)
	case s == nil:
		t.Fatalf("room %q is not there", id)
	}
	if got, err := s.MarshalJSON(); err != nil || string(got) != text(n) {
		t.Fatalf("room %q is %s, %v; want %s", id, got, err, text(n))
	}
}

// listing is what a folder has, but for the lock.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if e.Name() == lockName || e.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(content)
	}
	return files
}

func wantListing(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := listing(t, dir); !maps.Equal(got, want) {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFileOpensPublishedFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/published")); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	f := newFile(t, dir)
	for _, id := range []string{"room-1", "My Room", "日本"} {
		s, err := f.Load(t.Context(), id)
		if err != nil || s == nil {
			t.Fatalf("room %q: %v, %v", id, s, err)
		}
		// The keys and fields have an order already in which nothing moves, and
		// there is no room for another spelling, so the text is the same.
		if got, err := s.MarshalJSON(); err != nil || string(got) != before[id+".json"] {
			t.Errorf("room %q is %s, %v; want %s", id, got, err, before[id+".json"])
		}
		if err := f.Save(t.Context(), id, s); err != nil {
			t.Error(err)
		}
	}
	if s, err := f.Load(t.Context(), "room-2"); s != nil || err != nil {
		t.Errorf("a room that is not there: %v, %v", s, err)
	}
	wantListing(t, dir, before) // its temporary file too: that is not ours
}

func TestFileReadsPublishedNames(t *testing.T) {
	if filepath.Separator == '\\' {
		t.Skip("such names cannot be on Windows")
	}
	dir := t.TempDir()
	ids := []string{"project:42", `a\b`, "100%", ".hidden", "nul", "a\nb"}
	for i, id := range ids {
		put(t, dir, id+".json", text(i))
	}
	put(t, dir, "%2Fetc.json", text(99)) // our name for /etc
	f := newFile(t, dir)
	for i, id := range ids {
		wantLoaded(t, f, id, i)
		save(t, f, id, 10+i)
		wantLoaded(t, f, id, 10+i)
	}
	if s, err := f.Load(t.Context(), "%2Fetc"); s != nil || err != nil {
		t.Errorf("another room's file was loaded: %v, %v", s, err)
	}
	wantLoaded(t, f, "/etc", 99)
	files := listing(t, dir)
	for i, id := range ids {
		if files[id+".json"] != text(i) || files[fileName(id)] != text(10+i) {
			t.Errorf("room %q: %q", id, files)
		}
	}
}

func TestFileTellsCaseApart(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "probe", "")
	if _, err := os.Stat(filepath.Join(dir, "PROBE")); err == nil {
		t.Skip("this file system ignores case: see File")
	}
	f := newFile(t, dir)
	save(t, f, "Room", 1)
	save(t, f, "room", 2)
	wantLoaded(t, f, "Room", 1)
	wantLoaded(t, f, "room", 2)
}

func TestFileRefusesBadFiles(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "blank": " \n", "null": "null", "half": `{"timestamp":1,"state":{"secret`, "list": "[]",
		"twice": text(1) + text(2), "no timestamp": `{"state":{},"timestamps":{}}`, "zeros": strings.Repeat("\x00", 4096),
		"wrong": `{"timestamp":1,"state":{"secret":"secret"},"timestamps":{}}`, "binary": "\x1f\x8b\x08secret",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "room.json", content)
			f := newFile(t, dir)
			s, err := f.Load(t.Context(), "room")
			if s != nil || !errors.Is(err, room.ErrBadSnapshot) {
				t.Fatalf("%v, %v; want %v", s, err, room.ErrBadSnapshot)
			}
			if !strings.Contains(err.Error(), filepath.Join(dir, "room.json")) {
				t.Errorf("the error does not name the file: %v", err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the document: %v", err)
			}
			wantListing(t, dir, map[string]string{"room.json": content})
		})
	}
}

func TestFileRefusesUnreadableFiles(t *testing.T) {
	f := newFile(t, t.TempDir())
	if err := os.Mkdir(filepath.Join(f.dir, "folder.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), "folder")
	if s != nil || err == nil || errors.Is(err, room.ErrBadSnapshot) || !strings.Contains(err.Error(), "folder.json") {
		t.Errorf("a folder: %v, %v", s, err)
	}
	// Root may read everything, so the permission is refused here.
	f.disk.read = func(_ context.Context, path string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	s, err = f.Load(t.Context(), "room")
	if s != nil || !errors.Is(err, fs.ErrPermission) || errors.Is(err, room.ErrBadSnapshot) || !strings.Contains(err.Error(), "room.json") {
		t.Errorf("permission: %v, %v", s, err)
	}
}

func TestFileLastsAndHasModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	f := newFile(t, dir)
	save(t, f, "room", 1)
	save(t, f, "room", 2)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantLoaded(t, newFile(t, dir), "room", 2)
	if runtime.GOOS == "windows" {
		return
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, filepath.Join(dir, "room.json"): 0o600, filepath.Join(dir, lockName): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
}

func TestNewFileRemovesOnlyItsLeftovers(t *testing.T) {
	dir := t.TempDir()
	others := map[string]string{}
	for _, name := range []string{
		"room.json", "room.json.1.tmp", "x.tmp", ".weft-.tmp", ".weft-a1.tmp", ".weft-1.tmp.json", ".weft-1", "weft-1.tmp", ".weft-1.tmp ", "%2Eweft-1.tmp.json",
	} {
		others[name] = name
		put(t, dir, name, name)
	}
	put(t, dir, ".weft-123.tmp", `{"timestamp":`)
	put(t, dir, ".weft-0987654321.tmp", "")
	if err := os.Mkdir(filepath.Join(dir, ".weft-5.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	// What a crash leaves is what createTemp makes.
	temp, err := osDisk.createTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := temp.Close(); err != nil {
		t.Fatal(err)
	}
	newFile(t, dir)
	wantListing(t, dir, others)
	if _, err := os.Stat(filepath.Join(dir, ".weft-5.tmp")); err != nil {
		t.Errorf("a folder was removed: %v", err)
	}
}

func TestNewFileLocks(t *testing.T) {
	f := newFile(t, t.TempDir())
	put(t, f.dir, ".weft-1.tmp", "being written")
	if runtime.GOOS == "windows" {
		t.Skip("there is no lock on Windows: see File")
	}
	for range 2 {
		second, err := NewFile(f.dir)
		if second != nil || !errors.Is(err, ErrInUse) {
			t.Fatalf("%v, %v; want %v", second, err, ErrInUse)
		}
		if want := fmt.Sprintf("the data folder %q cannot be opened: another process is using it", f.dir); err.Error() != want {
			t.Errorf("the error is %q, want %q", err, want)
		}
	}
	wantListing(t, f.dir, map[string]string{".weft-1.tmp": "being written"})
	save(t, f, "room", 1) // it does not matter to the first
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantLoaded(t, newFile(t, f.dir), "room", 1)
}

func TestNewFileErrors(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "file", "")
	bad := map[string]string{
		"":                                "has no name",
		filepath.Join(dir, "file"):        "cannot be created",
		filepath.Join(dir, "file", "sub"): "cannot be created",
		filepath.Join(dir, "nul\x00"):     "cannot be created",
	}
	if os.Getuid() != 0 {
		readOnly := filepath.Join(dir, "read-only")
		if err := os.Mkdir(readOnly, 0o500); err != nil {
			t.Fatal(err)
		}
		bad[readOnly] = "cannot be written"
	} else if runtime.GOOS == "linux" { // one that not even root can write
		bad["/proc"] = "cannot be written"
	}
	for path, want := range bad {
		f, err := NewFile(path)
		if f != nil || err == nil || !strings.Contains(err.Error(), want) || path != "" && !strings.Contains(err.Error(), fmt.Sprintf("the data folder %q", path)) {
			t.Errorf("%q: %v, %v; want an error that says %q", path, f, err, want)
		}
	}
}

func TestFileNoticesAnotherFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f := newFile(t, dir)
	save(t, f, "room", 1)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if s, err := f.Load(t.Context(), "room"); s != nil || !errors.Is(err, ErrFolderGone) {
			t.Errorf("Load: %v, %v; want %v", s, err, ErrFolderGone)
		}
		if err := f.Save(t.Context(), "room", snapshot(t, 2)); !errors.Is(err, ErrFolderGone) {
			t.Errorf("Save: %v, want %v", err, ErrFolderGone)
		}
	}
	check()
	if err := os.Mkdir(dir, 0o700); err != nil { // as an unmounted one looks
		t.Fatal(err)
	}
	check()
	wantListing(t, dir, map[string]string{})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".old", dir); err != nil {
		t.Fatal(err)
	}
	wantLoaded(t, f, "room", 1)
	save(t, f, "room", 2)
}

func TestFileClosed(t *testing.T) {
	f := newFile(t, t.TempDir())
	save(t, f, "room", 1)
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := f.Load(t.Context(), "room"); s != nil || !errors.Is(err, ErrClosed) {
		t.Errorf("Load: %v, %v; want %v", s, err, ErrClosed)
	}
	if err := f.Save(t.Context(), "room", snapshot(t, 2)); !errors.Is(err, ErrClosed) {
		t.Errorf("Save: %v, want %v", err, ErrClosed)
	}
	wantListing(t, f.dir, map[string]string{"room.json": text(1)})
}

// FuzzFileRoomID saves and loads a room of any id in a folder where a file of
// any name and content lies.
func FuzzFileRoomID(f *testing.F) {
	f.Add("room", "room.json", []byte(text(1)))
	f.Add("../x", "x.json", []byte("{}"))
	f.Add("", ".json", []byte(""))
	f.Fuzz(func(t *testing.T, id, name string, content []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) == name && name != lockName && !isTemp(name) {
			_ = os.WriteFile(filepath.Join(dir, name), content, 0o600) // not every name will do
		}
		store, err := NewFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if _, err := store.Load(t.Context(), id); err != nil && !errors.Is(err, room.ErrBadSnapshot) {
			t.Fatal(err)
		}
		save(t, store, id, 1)
		wantLoaded(t, store, id, 1)
		entries, err := os.ReadDir(outer)
		if err != nil || len(entries) != 1 {
			t.Errorf("%q left the folder: %v, %v", id, entries, err)
		}
		if other, ok := listing(t, dir)[name]; ok && name != fileName(id) && !bytes.Equal([]byte(other), content) {
			t.Errorf("room %q changed the file %q", id, name)
		}
	})
}
