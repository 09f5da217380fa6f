package room

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// fakeSocket remembers what a session is sent.
type fakeSocket struct {
	mu     sync.Mutex
	sent   []string
	closes []protocol.Close
	onSend func(text string) // if set, with the room locked
}

func (s *fakeSocket) Send(f protocol.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, string(f.Text()))
	if s.onSend != nil {
		s.onSend(string(f.Text()))
	}
}

func (s *fakeSocket) Close(c protocol.Close) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes = append(s.closes, c)
}

// take returns what was sent since the last call.
func (s *fakeSocket) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.sent
	s.sent = nil
	return sent
}

func (s *fakeSocket) closed() []protocol.Close {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]protocol.Close(nil), s.closes...)
}

func wantSent(t *testing.T, s *fakeSocket, want ...string) {
	t.Helper()
	if got := strings.Join(s.take(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("sent\n%.2000s\nwant\n%.2000s", got, strings.Join(want, "\n"))
	}
}

func wantClosed(t *testing.T, s *fakeSocket, want ...protocol.Close) {
	t.Helper()
	got := s.closed()
	same := len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		same = got[i] == want[i]
	}
	if !same {
		t.Errorf("closed %v, want %v", got, want)
	}
}

// fakeStorage keeps rooms in a map. Its functions, if set, come first.
type fakeStorage struct {
	load func(ctx context.Context, room string) error
	save func(ctx context.Context, room string, s *Snapshot) error

	mu    sync.Mutex
	rooms map[string]*Snapshot
	loads int
	saves []string // the rooms, in order
	times []time.Time
	busy  map[string]bool
	clash bool // two calls at once for one room
}

func (f *fakeStorage) enter(room string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy == nil {
		f.busy, f.rooms = map[string]bool{}, map[string]*Snapshot{}
	}
	f.clash = f.clash || f.busy[room]
	f.busy[room] = true
}

func (f *fakeStorage) leave(room string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy[room] = false
}

func (f *fakeStorage) Load(ctx context.Context, room string) (*Snapshot, error) {
	f.enter(room)
	defer f.leave(room)
	f.mu.Lock()
	f.loads++
	f.mu.Unlock()
	if f.load != nil {
		if err := f.load(ctx, room); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rooms[room], nil
}

func (f *fakeStorage) Save(ctx context.Context, room string, s *Snapshot) error {
	f.enter(room)
	defer f.leave(room)
	f.mu.Lock()
	f.saves, f.times = append(f.saves, room), append(f.times, time.Now())
	f.mu.Unlock()
	if f.save != nil {
		if err := f.save(ctx, room, s); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rooms[room] = s
	return nil
}

// saved is the room's stored timestamp, -1 if there is none.
func (f *fakeStorage) saved(room string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.rooms[room]; s != nil {
		return s.timestamp
	}
	return -1
}

func (f *fakeStorage) attempts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.saves)
}

// logs is what was logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// managed runs a test with a manager, in virtual time.
func managed(t *testing.T, c Config, test func(t *testing.T, m *Manager)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(c)
		m.early = func(time.Duration) time.Duration { return 0 }
		defer func() { _ = m.CloseAll(context.Background(), protocol.CloseRestart) }() // many tests have broken the storage
		test(t, m)
	})
}

// pass lets virtual time pass and everything that is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func connect(t testing.TB, m *Manager, room, client string, p Permission) (Session, *fakeSocket) {
	t.Helper()
	socket := &fakeSocket{}
	s, err := m.Connect(context.Background(), room, ConnectOptions{Socket: socket, Client: client, Grant: Grant{Permission: p}})
	if err != nil {
		t.Fatalf("connect to %q: %v", room, err)
	}
	return s, socket
}

func existing(t testing.TB, m *Manager, id string) *Room {
	t.Helper()
	r, ok := m.Existing(id)
	if !ok {
		t.Fatalf("no room %q", id)
	}
	return r
}

const put = `{"type":"patch","messageId":"m","documentPatches":[{"a":{"_exists":true}}]}`

func receive(s Session, text string) { s.Receive([]byte(text)) }

func ack(timestamp string) string {
	return `{"type":"ack","messageId":"m","timestamp":` + timestamp + `}`
}
