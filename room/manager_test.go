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

var errDisk = errors.New("the disk is on fire")

func TestOneLoadHoweverManyAsk(t *testing.T) {
	release := make(chan struct{})
	storage := &fakeStorage{load: func(context.Context, string) error { <-release; return nil }}
	m := NewManager(Config{Storage: storage})
	defer m.CloseAll(context.Background(), protocol.CloseNormal)
	rooms := make([]*Room, 100)
	var callers, started sync.WaitGroup
	for i := range rooms {
		started.Add(1)
		callers.Go(func() {
			started.Done()
			r, err := m.Room(context.Background(), "r")
			if err != nil {
				t.Error(err)
			}
			rooms[i] = r
		})
	}
	started.Wait()
	if _, ok := m.Existing("r"); ok || len(m.RoomIDs()) != 0 {
		t.Error("the room is there before it is loaded")
	}
	close(release)
	callers.Wait()
	for _, r := range rooms {
		if r == nil || r != rooms[0] {
			t.Fatal("not all have the same room")
		}
	}
	if storage.loads != 1 || m.Stats().Loads != 1 {
		t.Errorf("%d loads, stats %+v", storage.loads, m.Stats())
	}
}

func TestLoadThatFails(t *testing.T) {
	out := &logs{}
	var load func(ctx context.Context) error
	storage := &fakeStorage{load: func(ctx context.Context, _ string) error { return load(ctx) }}
	managed(t, Config{Storage: storage, Logger: out.logger(), StorageTimeout: 5 * time.Second}, func(t *testing.T, m *Manager) {
		fails := func(want string, is error) {
			t.Helper()
			_, err := m.Connect(context.Background(), "r", ConnectOptions{Socket: &fakeSocket{}})
			if err == nil || !strings.Contains(err.Error(), want) || is != nil && !errors.Is(err, is) {
				t.Errorf("error %v, want %s", err, want)
			}
			if _, ok := m.Existing("r"); ok {
				t.Error("the room is there")
			}
		}
		load = func(context.Context) error { return errDisk }
		fails(`load room "r": the disk is on fire`, errDisk)
		load = func(context.Context) error { panic("secret") }
		fails("panicked", nil)
		start := time.Now()
		load = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		fails("deadline", context.DeadlineExceeded)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the timeout took %v", took)
		}
		load = func(context.Context) error { return nil }
		connect(t, m, "r", "c", ReadWrite)
		if s := m.Stats(); s.LoadFailures != 3 || s.Loads != 1 || s.Rooms != 1 {
			t.Errorf("stats %+v", s)
		}
	})
	if strings.Contains(out.String(), "secret") || strings.Count(out.String(), "cannot be loaded") != 3 {
		t.Errorf("logged %s", out)
	}
}

// Who gives up waiting for a room does not take it from those who wait on.
func TestLoadOutlivesACaller(t *testing.T) {
	storage := &fakeStorage{load: func(context.Context, string) error { time.Sleep(3 * time.Second); return nil }}
	managed(t, Config{Storage: storage}, func(t *testing.T, m *Manager) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Room(ctx, "r"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		connect(t, m, "r", "c", ReadWrite)
		if storage.loads != 1 {
			t.Errorf("%d loads", storage.loads)
		}
	})
}

func TestPanicOfPerRoomIsAnError(t *testing.T) {
	managed(t, Config{PerRoom: func(string, *Config) { panic("secret") }}, func(t *testing.T, m *Manager) {
		if _, err := m.Room(t.Context(), "r"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v", err)
		}
	})
}

func TestIdleRoomCloses(t *testing.T) {
	storage := &fakeStorage{}
	managed(t, Config{Storage: storage, SaveInterval: time.Hour, IdleTimeout: time.Minute}, func(t *testing.T, m *Manager) {
		if _, err := m.Room(t.Context(), "unused"); err != nil {
			t.Fatal(err)
		}
		s, _ := connect(t, m, "r", "c", ReadWrite)
		receive(s, put)
		pass(10 * time.Minute)
		if ids := m.RoomIDs(); !slices.Equal(ids, []string{"r"}) {
			t.Errorf("rooms %v while r has a session", ids)
		}
		s.Leave()
		pass(59 * time.Second)
		if _, err := m.Room(t.Context(), "r"); err != nil { // puts it off
			t.Fatal(err)
		}
		pass(59 * time.Second)
		r := existing(t, m, "r")
		pass(2 * time.Second)
		if ids := m.RoomIDs(); len(ids) != 0 || storage.saved("r") != 1 {
			t.Errorf("rooms %v, saved %d", ids, storage.saved("r"))
		}
		if _, err := r.Connect(ConnectOptions{Socket: &fakeSocket{}}); !errors.Is(err, ErrClosed) {
			t.Errorf("connect to a closed room: %v", err)
		}
		again, socket := connect(t, m, "r", "c", ReadWrite)
		receive(again, `{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)
		wantSent(t, socket, one, `{"type":"patch","clientId":"","documentPatches":[{"a":{"_exists":true}}],"timestamp":1}`, `{"type":"synced","timestamp":1}`)
	})
}

func TestIdleRoomStaysUntilSaved(t *testing.T) {
	var fail atomic.Bool
	fail.Store(true)
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error {
		if fail.Load() {
			return errDisk
		}
		return nil
	}}
	managed(t, Config{Storage: storage, IdleTimeout: time.Minute}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		receive(s, put)
		s.Leave()
		pass(time.Hour)
		existing(t, m, "r")
		if u := m.Stats().Unsaved; len(u) != 1 || u[0].Room != "r" || !errors.Is(u[0].Err, errDisk) {
			t.Errorf("unsaved %+v", u)
		}
		fail.Store(false)
		pass(2 * time.Minute)
		if ids := m.RoomIDs(); len(ids) != 0 || storage.saved("r") != 1 {
			t.Errorf("rooms %v, saved %d", ids, storage.saved("r"))
		}
	})
}

// Sessions come and go while rooms close for being idle: no session is lost and
// no edit that was acknowledged.
func TestConnectRacesWithEviction(t *testing.T) {
	storage := &fakeStorage{}
	m := NewManager(Config{Storage: storage, IdleTimeout: time.Microsecond, SaveInterval: time.Microsecond})
	const workers, rounds, rooms = 8, 120, 3
	var acked [rooms]atomic.Int64
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range rounds {
				n := (w + i) % rooms
				s, socket := connect(t, m, fmt.Sprint("r", n), "c", ReadWrite)
				receive(s, put)
				for _, text := range socket.take() {
					if strings.HasPrefix(text, `{"type":"ack"`) {
						acked[n].Add(1)
					}
				}
				if _, err := s.Info(); err != nil || len(socket.closed()) > 0 {
					t.Errorf("the session is lost: %v, closed %v", err, socket.closed())
				}
				s.Leave()
			}
		})
	}
	all.Wait()
	if err := m.CloseAll(context.Background(), protocol.CloseRestart); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for n := range rooms {
		total += acked[n].Load()
		if got, want := storage.saved(fmt.Sprint("r", n)), acked[n].Load(); got != want {
			t.Errorf("room %d: saved %d edits of %d", n, got, want)
		}
	}
	if total != workers*rounds || storage.clash {
		t.Errorf("%d edits of %d acknowledged; overlapping calls: %v", total, workers*rounds, storage.clash)
	}
	if m.Stats().Loads < 2*rooms {
		t.Errorf("%d loads: the rooms did not close in between", m.Stats().Loads)
	}
}

func TestCloseAll(t *testing.T) {
	var sockets []*fakeSocket
	var saving atomic.Int32
	storage := &fakeStorage{save: func(ctx context.Context, room string, _ *Snapshot) error {
		for _, s := range sockets {
			if len(s.closed()) == 0 {
				t.Error("a room is saved before all sockets are closed")
			}
		}
		saving.Add(1)
		time.Sleep(time.Second) // all at once, or this takes long
		switch room {
		case "r1":
			return errDisk
		case "r2":
			panic("secret")
		}
		return nil
	}}
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{Storage: storage, SaveInterval: time.Hour})
		var sessions []Session
		for i := range 6 {
			s, socket := connect(t, m, fmt.Sprint("r", i), "c", ReadWrite)
			receive(s, put)
			sessions, sockets = append(sessions, s), append(sockets, socket)
			socket.take()
		}
		connect(t, m, "unchanged", "c", ReadWrite)
		start := time.Now()
		err := m.CloseAll(t.Context(), protocol.CloseRestart)
		if took := time.Since(start); took != time.Second || saving.Load() != 6 {
			t.Errorf("%d saves took %v", saving.Load(), took)
		}
		if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), `save room "r2": storage panicked`) || strings.Contains(err.Error(), "r3") || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v", err)
		}
		for i, want := range []int64{1, -1, -1, 1, 1, 1} {
			wantClosed(t, sockets[i], protocol.CloseRestart)
			wantSent(t, sockets[i])
			if got := storage.saved(fmt.Sprint("r", i)); got != want {
				t.Errorf("room %d: saved %d", i, got)
			}
		}
		for _, s := range sessions {
			receive(s, put)
			receive(s, `{"type":"auth-refresh","token":"t"}`)
			s.Leave()
		}
		for i := range sessions {
			if r := existing(t, m, fmt.Sprint("r", i)); r.Snapshot().Timestamp() != 1 {
				t.Errorf("room %d applied a message after it was closed", i)
			}
		}
		if _, err := m.Room(t.Context(), "new"); !errors.Is(err, ErrClosed) {
			t.Errorf("a new room: %v", err)
		}
		if _, err := m.Connect(t.Context(), "r0", ConnectOptions{Socket: &fakeSocket{}}); !errors.Is(err, ErrClosed) {
			t.Errorf("a new session: %v", err)
		}
		if err := m.CloseAll(t.Context(), protocol.CloseRestart); !errors.Is(err, errDisk) { // again: tries again
			t.Errorf("closing again: %v", err)
		}
	})
}

// Messages come in while everything closes: what was acknowledged is saved.
func TestCloseAllUnderLoad(t *testing.T) {
	storage := &fakeStorage{}
	m := NewManager(Config{Storage: storage, SaveInterval: time.Millisecond})
	var acked atomic.Int64
	var clients sync.WaitGroup
	started := make(chan struct{}, 4)
	for range 4 {
		clients.Go(func() {
			s, socket := connect(t, m, "r", "c", ReadWrite)
			for i := 0; len(socket.closed()) == 0; i++ {
				receive(s, put)
				if i == 50 {
					started <- struct{}{}
				}
			}
			for _, text := range socket.take() {
				if strings.HasPrefix(text, `{"type":"ack"`) {
					acked.Add(1)
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	if err := m.CloseAll(context.Background(), protocol.CloseRestart); err != nil {
		t.Error(err)
	}
	clients.Wait()
	if got := storage.saved("r"); got != acked.Load() {
		t.Errorf("%d edits acknowledged, %d saved", acked.Load(), got)
	}
}

func TestCloseAllEndsALoad(t *testing.T) {
	storage := &fakeStorage{load: func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }}
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{Storage: storage})
		var err error
		go func() { _, err = m.Room(context.Background(), "r") }()
		synctest.Wait()
		if err := m.CloseAll(t.Context(), protocol.CloseRestart); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err == nil {
			t.Error("there is a room")
		}
	})
}

func TestCloseAllStopsAtItsContext(t *testing.T) {
	storage := &fakeStorage{save: func(ctx context.Context, _ string, _ *Snapshot) error { <-ctx.Done(); return ctx.Err() }}
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{Storage: storage, StorageTimeout: time.Hour})
		for i := range 20 { // more than are saved at once
			s, _ := connect(t, m, fmt.Sprint("r", i), "c", ReadWrite)
			receive(s, put)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start := time.Now()
		err := m.CloseAll(ctx, protocol.CloseRestart)
		if took := time.Since(start); took != 7*time.Second || !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "save room") != 20 {
			t.Errorf("took %v: %v", took, err)
		}
	})
}

func TestCloseRoom(t *testing.T) {
	var fail atomic.Bool
	storage := &fakeStorage{save: func(context.Context, string, *Snapshot) error {
		if fail.Load() {
			return errDisk
		}
		return nil
	}}
	managed(t, Config{Storage: storage, SaveInterval: time.Hour}, func(t *testing.T, m *Manager) {
		if err := m.CloseRoom(t.Context(), "unknown"); err != nil {
			t.Error(err)
		}
		s, socket := connect(t, m, "r", "c", ReadWrite)
		receive(s, put)
		fail.Store(true)
		if err := m.CloseRoom(t.Context(), "r"); !errors.Is(err, errDisk) {
			t.Errorf("error %v", err)
		}
		wantClosed(t, socket, protocol.CloseNormal)
		s, socket = connect(t, m, "r", "c", ReadWrite) // it is open
		receive(s, put)
		wantSent(t, socket, one, ack("2"))
		fail.Store(false)
		if err := m.CloseRoom(t.Context(), "r"); err != nil {
			t.Error(err)
		}
		if len(m.RoomIDs()) != 0 || storage.saved("r") != 2 || m.Stats().Sessions != 0 {
			t.Errorf("rooms %v, saved %d, stats %+v", m.RoomIDs(), storage.saved("r"), m.Stats())
		}
	})
}
