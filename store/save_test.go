package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/weftsync/weft/room"
)

// brokenFile is a temporary file on a disk that fails.
type brokenFile struct {
	tempFile
	write func(b []byte) (int, error)
	sync  func() error
	close func() error
}

func (f brokenFile) Write(b []byte) (int, error) {
	if f.write != nil {
		return f.write(b)
	}
	return f.tempFile.Write(b)
}

func (f brokenFile) Sync() error {
	if f.sync != nil {
		return f.sync()
	}
	return f.tempFile.Sync()
}

func (f brokenFile) Close() error {
	err := f.tempFile.Close()
	if f.close != nil {
		err = f.close()
	}
	return err
}

// breakFiles makes every temporary file of f go through broken.
func breakFiles(f *File, broken func(brokenFile) brokenFile) {
	f.disk.createTemp = func(dir string) (tempFile, error) {
		temp, err := osDisk.createTemp(dir)
		if err != nil {
			return nil, err
		}
		return broken(brokenFile{tempFile: temp}), nil
	}
}

// large is a snapshot that takes several writes.
func large(t *testing.T) *room.Snapshot {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{"timestamp":9,"state":{"a/b":{"_exists":true}`)
	for i := range 4000 {
		fmt.Fprintf(&b, `,"key%d":{"text":"%s"}`, i, strings.Repeat("x", 100))
	}
	b.WriteString(`},"timestamps":{}}`)
	s, err := room.ParseSnapshot([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSaveFails(t *testing.T) {
	full := syscall.ENOSPC
	for name, breakDisk := range map[string]func(*File){
		"create": func(f *File) {
			f.disk.createTemp = func(string) (tempFile, error) { return nil, full }
		},
		"first write": func(f *File) {
			breakFiles(f, func(b brokenFile) brokenFile {
				b.write = func([]byte) (int, error) { return 0, full }
				return b
			})
		},
		"later write, short": func(f *File) {
			breakFiles(f, func(b brokenFile) brokenFile {
				left := 3
				b.write = func(text []byte) (int, error) {
					if left--; left > 0 {
						return b.tempFile.Write(text)
					}
					n, err := b.tempFile.Write(text[:len(text)/2])
					return n, errors.Join(full, err)
				}
				return b
			})
		},
		"sync": func(f *File) {
			breakFiles(f, func(b brokenFile) brokenFile {
				b.sync = func() error { return full }
				return b
			})
		},
		"close": func(f *File) {
			breakFiles(f, func(b brokenFile) brokenFile {
				b.close = func() error { return full }
				return b
			})
		},
		"rename": func(f *File) {
			f.disk.rename = func(string, string) error { return full }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFile(t, t.TempDir())
			save(t, f, "room", 1)
			breakDisk(f)
			for _, id := range []string{"room", "new"} {
				err := f.Save(t.Context(), id, large(t))
				if !errors.Is(err, full) || !strings.Contains(err.Error(), filepath.Join(f.dir, id+".json")+" is not saved") {
					t.Errorf("room %q: %v", id, err)
				}
				wantListing(t, f.dir, map[string]string{"room.json": text(1)})
			}
			f.disk = osDisk
			save(t, f, "room", 2)
			wantListing(t, f.dir, map[string]string{"room.json": text(2)})
		})
	}
}

func TestSaveFailsToWriteAll(t *testing.T) {
	f := newFile(t, t.TempDir())
	save(t, f, "room", 1)
	breakFiles(f, func(b brokenFile) brokenFile {
		b.write = func(text []byte) (int, error) { return b.tempFile.Write(text[:len(text)-1]) } // and no error
		return b
	})
	if err := f.Save(t.Context(), "room", snapshot(t, 2)); err == nil {
		t.Error("a save of which a byte is missing succeeds")
	}
	wantListing(t, f.dir, map[string]string{"room.json": text(1)})
}

func TestSaveFailsToSyncFolder(t *testing.T) {
	f := newFile(t, t.TempDir())
	save(t, f, "room", 1)
	broken := syscall.EIO
	f.disk.syncFolder = func(string) error { return broken }
	if err := f.Save(t.Context(), "room", snapshot(t, 2)); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	wantListing(t, f.dir, map[string]string{"room.json": text(2)}) // whole, as promised
}

// TestSaveSteps watches the order on which all safety rests.
func TestSaveSteps(t *testing.T) {
	f := newFile(t, t.TempDir())
	var steps []string
	step := func(s string) {
		if len(steps) == 0 || steps[len(steps)-1] != s {
			steps = append(steps, s)
		}
	}
	breakFiles(f, func(b brokenFile) brokenFile {
		if filepath.Dir(b.Name()) != f.dir || !isTemp(filepath.Base(b.Name())) {
			t.Errorf("the temporary file is %s", b.Name())
		}
		b.write = func(text []byte) (int, error) { step("write"); return b.tempFile.Write(text) }
		b.sync = func() error { step("sync"); return b.tempFile.Sync() }
		b.close = func() error { step("close"); return nil }
		return b
	})
	f.disk.rename = func(from, to string) error { step("rename"); return os.Rename(from, to) }
	f.disk.syncFolder = func(dir string) error { step("sync " + dir); return syncFolder(dir) }
	if err := f.Save(t.Context(), "room", large(t)); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(steps, ", "), "write, sync, close, rename, sync "+f.dir; got != want {
		t.Errorf("the steps are %s; want %s", got, want)
	}
}

func TestSaveIsCancelled(t *testing.T) {
	for name, cancelAt := range map[string]func(*File, context.CancelFunc){
		"write": func(f *File, cancel context.CancelFunc) {
			breakFiles(f, func(b brokenFile) brokenFile {
				writes := 0
				b.write = func(text []byte) (int, error) {
					if writes++; writes == 2 {
						cancel()
					}
					if writes > 2 {
						t.Error("it goes on writing")
					}
					return b.tempFile.Write(text)
				}
				return b
			})
		},
		"sync": func(f *File, cancel context.CancelFunc) {
			breakFiles(f, func(b brokenFile) brokenFile {
				b.sync = func() error { cancel(); return b.tempFile.Sync() }
				return b
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFile(t, t.TempDir())
			save(t, f, "room", 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cancelAt(f, cancel)
			if err := f.Save(ctx, "room", large(t)); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want %v", err, context.Canceled)
			}
			wantListing(t, f.dir, map[string]string{"room.json": text(1)})
		})
	}
}

func TestReadIsCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

// held is a store whose saves stop before they write, each until it is let go.
func held(t *testing.T) (f *File, letGo chan struct{}) {
	f = newFile(t, t.TempDir())
	letGo = make(chan struct{})
	f.disk.createTemp = func(dir string) (tempFile, error) {
		<-letGo
		return osDisk.createTemp(dir)
	}
	return f, letGo
}

func TestSavesOfARoomAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, letGo := held(t)
		const saves, given = 8, 5 // the caller of the latter gives up
		ctx, giveUp := context.WithCancel(t.Context())
		errs := make([]error, saves)
		var all sync.WaitGroup
		for i := range saves {
			all.Go(func() {
				if i == given {
					errs[i] = f.Save(ctx, "room", snapshot(t, i))
				} else {
					errs[i] = f.Save(t.Context(), "room", snapshot(t, i))
				}
			})
			synctest.Wait() // it is in the line, or at the disk
		}
		giveUp()
		synctest.Wait()
		if !errors.Is(errs[given], context.Canceled) {
			t.Errorf("the save that was given up: %v", errs[given])
		}
		for i := range saves {
			if i == given {
				continue
			}
			letGo <- struct{}{}
			synctest.Wait()
			wantLoaded(t, f, "room", i)
		}
		all.Wait()
		for i, err := range errs {
			if err != nil && i != given {
				t.Errorf("save %d: %v", i, err)
			}
		}
		if len(f.turns.waiting) != 0 {
			t.Errorf("lines are left: %v", f.turns.waiting)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRoomsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, letGo := held(t)
		var all sync.WaitGroup
		const rooms = 5
		for i := range rooms {
			all.Go(func() {
				if err := f.Save(t.Context(), fmt.Sprint(i), snapshot(t, i)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for range rooms { // all of them are at the disk
			select {
			case letGo <- struct{}{}:
			default:
				t.Error("a room waits for another")
				letGo <- struct{}{}
			}
		}
		all.Wait()
		for i := range rooms {
			wantLoaded(t, f, fmt.Sprint(i), i)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseWaitsForSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, letGo := held(t)
		var all sync.WaitGroup
		all.Go(func() {
			if err := f.Save(t.Context(), "room", snapshot(t, 1)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		closed := false
		all.Go(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			closed = true
		})
		synctest.Wait()
		if closed {
			t.Error("Close does not wait")
		}
		if _, err := NewFile(f.dir); !errors.Is(err, ErrInUse) {
			t.Errorf("the folder is free while a save is under way: %v", err)
		}
		letGo <- struct{}{}
		all.Wait()
		wantListing(t, f.dir, map[string]string{"room.json": text(1)})
	})
}

// TestTurnsRace lets contexts end at the moment at which the turn comes.
func TestTurnsRace(t *testing.T) {
	var line turns
	holders := 0 // guarded by the turn
	var all sync.WaitGroup
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if err := line.take(ctx, "room"); err != nil {
				return
			}
			holders++
			if holders != 1 {
				t.Errorf("%d have the turn", holders)
			}
			holders--
			line.pass("room")
		})
		all.Go(cancel)
	}
	all.Wait()
	if len(line.waiting) != 0 {
		t.Errorf("the turn was lost: %v", line.waiting)
	}
}
