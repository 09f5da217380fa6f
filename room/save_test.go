package room

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// since are the seconds from a start at which saves began.
func (f *fakeStorage) since(start time.Time) (list []float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.times {
		list = append(list, at.Sub(start).Seconds())
	}
	return list
}

func TestSavesAreThrottled(t *testing.T) {
	storage := &fakeStorage{}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		start := time.Now()
		pass(time.Minute)
		if storage.attempts() != 0 {
			t.Error("a room without a change was saved")
		}
		for range 5 { // a second of edits every 10 seconds
			for range 10 {
				receive(s, put)
				pass(100 * time.Millisecond)
			}
			pass(9 * time.Second)
		}
		if got := storage.since(start); !slices.Equal(got, []float64{62, 72, 82, 92, 102}) {
			t.Errorf("saved at %v", got)
		}
		if storage.saved("r") != 50 {
			t.Errorf("saved %d", storage.saved("r"))
		}
		receive(s, `{"type":"patch","ephemeralPatches":[{}]}`)
		receive(s, `{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)
		pass(time.Minute)
		if st := m.Stats(); storage.attempts() != 5 || st.Saves != 5 || st.SaveFailures != 0 || len(st.Unsaved) != 0 {
			t.Errorf("%d saves, stats %+v", storage.attempts(), st)
		}
	})
}

// A room that takes long to save rests for as long again and more.
func TestSlowSavesRest(t *testing.T) {
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error { time.Sleep(5 * time.Second); return nil }}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		start := time.Now()
		for range 600 {
			receive(s, put)
			pass(100 * time.Millisecond)
		}
		got := storage.since(start)
		for i := 1; i < len(got); i++ {
			if got[i]-got[i-1] > 26 || i > 1 && got[i]-got[i-1] < 20 {
				t.Errorf("saved at %v", got)
			}
		}
		if len(got) < 3 {
			t.Errorf("saved at %v", got)
		}
		if storage.clash {
			t.Error("two saves at once")
		}
	})
}

func TestFailedSavesAreTriedAgain(t *testing.T) {
	out := &logs{}
	var broken atomic.Bool
	broken.Store(true)
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error {
		if broken.Load() {
			return errDisk
		}
		return nil
	}}
	managed(t, Config{Storage: storage, Logger: out.logger()}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		start := time.Now()
		receive(s, put)
		pass(100 * time.Second)
		if got := storage.since(start); !slices.Equal(got, []float64{2, 3, 5, 9, 17, 33, 63, 93}) {
			t.Errorf("tried at %v", got)
		}
		u := m.Stats().Unsaved
		if len(u) != 1 || u[0].Room != "r" || u[0].Failures != 8 || !errors.Is(u[0].Err, errDisk) || u[0].Since.Sub(start) != 2*time.Second {
			t.Errorf("unsaved %+v", u)
		}
		for range 100 { // edits do not make it try more often
			receive(s, put)
			pass(100 * time.Millisecond)
		}
		if got := storage.attempts(); got != 8 {
			t.Errorf("%d attempts", got)
		}
		broken.Store(false)
		pass(20 * time.Second)
		if st := m.Stats(); storage.saved("r") != 101 || len(st.Unsaved) != 0 || st.Saves != 1 || st.SaveFailures != 8 {
			t.Errorf("saved %d, stats %+v", storage.saved("r"), st)
		}
		receive(s, put)
		pass(2 * time.Second)
		if storage.saved("r") != 102 {
			t.Error("not back to the usual interval")
		}
	})
	if n := strings.Count(out.String(), "not saved"); n != 8 || !strings.Contains(out.String(), "saved again") {
		t.Errorf("logged %d failures: %s", n, out)
	}
}

// A storage that hangs until its time is over is tried again as soon as one
// that fails at once, though the room changes all the while.
func TestHangingSavesAreTriedAgain(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	storage := &fakeStorage{save: func(ctx context.Context, _ string, _ *Snapshot) error {
		if broken.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		start := time.Now()
		for range 140 {
			receive(s, put)
			pass(time.Second)
		}
		// 30 s of trying, then 1, 2, 4… of waiting.
		if got := storage.since(start); !slices.Equal(got, []float64{2, 33, 65, 99, 137}) {
			t.Errorf("tried at %v", got)
		}
		broken.Store(false)
		pass(time.Minute)
		if storage.saved("r") != 140 {
			t.Errorf("saved %d", storage.saved("r"))
		}
	})
}

func TestPanickingStorage(t *testing.T) {
	out := &logs{}
	n := 0
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error {
		if n++; n == 1 {
			panic("secret")
		}
		return nil
	}}
	managed(t, Config{Storage: storage, Logger: out.logger()}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		receive(s, put)
		pass(2 * time.Second)
		if u := m.Stats().Unsaved; len(u) != 1 || !strings.Contains(u[0].Err.Error(), "storage panicked") {
			t.Errorf("unsaved %+v", u)
		}
		pass(time.Second)
		if storage.saved("r") != 1 {
			t.Error("not saved after the panic")
		}
	})
	if strings.Contains(out.String(), "secret") {
		t.Errorf("logged %s", out)
	}
}

// A change while the room is being saved is in the next save.
func TestChangeDuringASave(t *testing.T) {
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error { time.Sleep(100 * time.Millisecond); return nil }}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, socket := connect(t, m, "r", "c", ReadWrite)
		socket.take()
		receive(s, put)
		pass(2*time.Second + 50*time.Millisecond)
		receive(s, put) // it is not held up
		wantSent(t, socket, ack("1"), ack("2"))
		pass(100 * time.Millisecond)
		if storage.saved("r") != 1 {
			t.Errorf("saved %d", storage.saved("r"))
		}
		pass(2*time.Second + 100*time.Millisecond)
		if storage.saved("r") != 2 {
			t.Errorf("saved %d", storage.saved("r"))
		}
	})
}

// A flush does not wait for rooms that are saved in the background, but for
// other flushes; one that runs out of time leaves the room to be saved in its
// turn.
func TestFlushWaitsForFlushes(t *testing.T) {
	storage := &fakeStorage{save: func(_ context.Context, room string, _ *Snapshot) error {
		if room != "r" {
			time.Sleep(10 * time.Second)
		}
		return nil
	}}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		for i := range 2 * m.config.SavesAtOnce {
			s, _ := connect(t, m, fmt.Sprint("slow", i), "c", ReadWrite)
			receive(s, put)
		}
		s, _ := connect(t, m, "r", "c", ReadWrite)
		pass(3 * time.Second)
		receive(s, put)
		began := time.Now()
		if err := existing(t, m, "r").Flush(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		pass(time.Minute)

		var flushes sync.WaitGroup
		for i := range flushesAtOnce {
			s, _ := connect(t, m, fmt.Sprint("slow", i), "c", ReadWrite)
			receive(s, put)
			slow := existing(t, m, fmt.Sprint("slow", i))
			flushes.Go(func() {
				if err := slow.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		receive(s, put)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := existing(t, m, "r").Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		flushes.Wait()
		pass(10 * time.Second)
		if n := storage.saved("r"); n != 2 {
			t.Errorf("saved %d", n)
		}
	})
}

func TestFlush(t *testing.T) {
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error { time.Sleep(time.Second); return nil }}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		r := existing(t, m, "r")
		if err := r.Flush(t.Context()); err != nil || storage.attempts() != 0 {
			t.Errorf("%d saves of nothing, %v", storage.attempts(), err)
		}
		receive(s, put)
		pass(2*time.Second + 500*time.Millisecond) // in the midst of a save
		receive(s, put)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := r.Flush(ctx); err == nil || !strings.Contains(err.Error(), `save room "r"`) {
			t.Errorf("error %v", err)
		}
		if err := r.Flush(t.Context()); err != nil || storage.saved("r") != 2 || storage.clash {
			t.Errorf("saved %d, %v; two at once: %v", storage.saved("r"), err, storage.clash)
		}
		pass(time.Minute)
		if storage.attempts() != 2 {
			t.Errorf("%d saves", storage.attempts())
		}
	})
	managed(t, Config{}, func(t *testing.T, m *Manager) { // without a storage there is nothing to fail
		s, _ := connect(t, m, "r", "c", ReadWrite)
		receive(s, put)
		if err := existing(t, m, "r").Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// changeStorage keeps pages as a ChangeStorage may.
type changeStorage struct {
	fakeStorage
	fail  bool
	after []int64
	pages map[int]string
}

func (c *changeStorage) SaveChanges(_ context.Context, _ string, s *Snapshot, after int64) error {
	c.after = append(c.after, after)
	if c.fail {
		return errDisk
	}
	for i, p := range s.Pages(after) {
		c.pages[i] = string(p.AppendJSON(nil))
	}
	return nil
}

func TestChangeStorageHasAllPages(t *testing.T) {
	storage := &changeStorage{pages: map[int]string{}}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		write := func(from, to int) {
			for i := from; i < to; i++ {
				receive(s, fmt.Sprintf(`{"type":"patch","documentPatches":[{"k%d":{"_exists":true,"v":%d}}]}`, i, from))
			}
			pass(2 * time.Second)
		}
		write(0, 600)
		write(300, 310)
		storage.fail = true
		write(5, 6)
		storage.fail = false
		write(599, 601)
		if want := []int64{0, 600, 610, 610}; !slices.Equal(storage.after, want) {
			t.Errorf("after %v, want %v", storage.after, want)
		}
		if storage.attempts() != 0 {
			t.Error("the whole was saved too")
		}
		for i, p := range existing(t, m, "r").Snapshot().Pages(-1) {
			if want := string(p.AppendJSON(nil)); storage.pages[i] != want {
				t.Errorf("page %d is not what was saved", i)
			}
		}
	})
}

func TestSavesContinueFromWhatWasLoaded(t *testing.T) {
	begin, err := ParseSnapshot([]byte(`{"timestamp":41,"state":{"a":{"_exists":true}},"timestamps":{"a":{"_exists":41}}}`))
	if err != nil {
		t.Fatal(err)
	}
	storage := &fakeStorage{rooms: map[string]*Snapshot{"r": begin}, busy: map[string]bool{}}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		s, socket := connect(t, m, "r", "c", ReadWrite)
		pass(time.Minute)
		receive(s, `{"type":"reconnect","protocolVersion":2,"lastTimestamp":50}`)
		wantSent(t, socket, one, string(protocol.Resync(41).Text()), string(protocol.Synced(41).Text()))
		if storage.attempts() != 0 {
			t.Error("saved without a change")
		}
		receive(s, put)
		pass(2 * time.Second)
		if got := storage.saved("r"); got != Clock(time.Now().Add(-2*time.Second)) { // 42 to 50 were given out before
			t.Errorf("saved %d", got)
		}
	})
}

// Rooms that changed together are not saved together, and none is saved late.
func TestSavesAreSpread(t *testing.T) {
	storage := &fakeStorage{}
	managed(t, Config{Storage: storage, SaveInterval: 8 * time.Second}, func(t *testing.T, m *Manager) {
		var asked time.Duration
		m.early = func(atMost time.Duration) time.Duration { asked = atMost; return atMost }
		s, _ := connect(t, m, "r", "c", ReadWrite)
		receive(s, put)
		if asked != 2*time.Second {
			t.Errorf("up to %v early", asked)
		}
		pass(6 * time.Second)
		if storage.saved("r") != 1 {
			t.Error("it was not saved early")
		}
	})
	m := NewManager(Config{})
	for range 1000 {
		if d := m.early(time.Second); d < 0 || d > time.Second {
			t.Fatalf("early by %v", d)
		}
	}
}
