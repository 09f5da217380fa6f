package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// Config says how a manager keeps its rooms. The zero value is useful: rooms
// in memory, with the defaults below.
type Config struct {
	// Storage keeps the rooms; nil means memory only, and that a room is
	// forgotten when it closes.
	Storage Storage
	// SaveInterval is how long after a change a room is saved. Default 2s.
	SaveInterval time.Duration
	// SavesAtOnce is how many rooms are being saved at the same time while
	// nobody waits for it. Default 2, which leaves a disk and the processors
	// to the clients; a storage behind a network may want more.
	SavesAtOnce int
	// StorageTimeout bounds one load or save. Default 30s.
	StorageTimeout time.Duration
	// IdleTimeout is how long a room without sessions stays in memory.
	// Default 60s.
	IdleTimeout time.Duration
	// AuthorizeTimeout bounds one token refresh. Default 10s.
	AuthorizeTimeout time.Duration
	// MaxWaitingBytes bounds what waits, for one session, for a large diff
	// to be built; beyond it the session is closed as a slow consumer, and
	// gets a diff when it comes back. Default 8 MiB.
	MaxWaitingBytes int
	// Limits bounds what a room holds.
	Limits Limits
	// Logger gets what an operator should know; nil means nothing is logged.
	Logger *slog.Logger

	// The callbacks of one room are called one at a time, in the order of what
	// they tell, and may use the room. Clients of a room whose callbacks are a
	// thousand calls behind wait until they have caught up.

	// OnSessionRemoved, if set, is called after a session has left.
	OnSessionRemoved func(*Room, SessionRemoved)
	// OnDocumentPatch, if set, is called after a document has changed.
	OnDocumentPatch func(*Room, DocumentPatch)
	// OnTokenRefresh, if set, authorizes a session whose client sends a new
	// token. An error closes the session; the client is told its
	// ClientReason() string, if it has that method. Without it new tokens
	// are passed over.
	OnTokenRefresh func(TokenRefresh) (Grant, error)

	// PerRoom, if set, may change the config of one room before it is
	// loaded: another storage, other callbacks. It must not set PerRoom.
	PerRoom func(room string, c *Config)
}

func (c Config) withDefaults() Config {
	c.SaveInterval = cmp.Or(c.SaveInterval, 2*time.Second)
	c.SavesAtOnce = cmp.Or(c.SavesAtOnce, 2)
	c.StorageTimeout = cmp.Or(c.StorageTimeout, 30*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	c.AuthorizeTimeout = cmp.Or(c.AuthorizeTimeout, defaultAuthorizeTimeout)
	c.MaxWaitingBytes = cmp.Or(c.MaxWaitingBytes, DefaultMaxWaitingBytes)
	c.Limits = c.Limits.WithDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Manager keeps the live rooms of one process: it loads each room once however
// many ask for it, and lets go of it when it has been idle. It is safe for
// concurrent use.
type Manager struct {
	config  Config
	inbound *Inbound
	stats   stats
	// builders, savers and flushers bound how many rooms at once build a
	// large diff, and are being saved in the background or while somebody waits.
	builders chan struct{}
	savers   chan struct{}
	flushers chan struct{}

	ctx    context.Context // ends when the manager has closed
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines and timers of the manager and its rooms

	early       func(atMost time.Duration) time.Duration // by which a save comes before its time
	beforeApply func(Event)                              // tests break the engine here

	mu     sync.Mutex
	rooms  map[string]*loading
	closed bool
}

// loading is a room that is there or on its way.
type loading struct {
	done chan struct{} // closed when room or err is set
	room *Room
	err  error
}

// flushesAtOnce is how many rooms are saved at the same time when somebody waits
// for it, as at the end: enough to keep a disk busy, few enough not to take a
// thread for every room.
const flushesAtOnce = 16

// NewManager returns a manager without rooms.
func NewManager(c Config) *Manager {
	c = c.withDefaults()
	m := &Manager{
		config:   c,
		rooms:    map[string]*loading{},
		builders: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		savers:   make(chan struct{}, c.SavesAtOnce),
		flushers: make(chan struct{}, flushesAtOnce),
		early:    func(atMost time.Duration) time.Duration { return rand.N(atMost + 1) },
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.inbound = NewInbound(m.ctx, m.inboundConfig(c))
	return m
}

func (m *Manager) inboundConfig(c Config) InboundConfig {
	return InboundConfig{Limits: c.Limits.Limits, AuthorizeTimeout: c.AuthorizeTimeout, Logger: c.Logger, Violations: &m.stats.violations}
}

// Room returns a room, loaded if need be. The errors are the context's,
// [ErrClosed], and the storage's: a room that cannot be loaded is not opened,
// and the next call tries again.
func (m *Manager) Room(ctx context.Context, id string) (*Room, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	l := m.rooms[id]
	if l == nil {
		l = &loading{done: make(chan struct{})}
		m.rooms[id] = l
		m.tasks.Go(func() { m.load(id, l) })
	}
	m.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("load room %q: %w", id, ctx.Err())
	}
	if l.err != nil {
		return nil, l.err
	}
	l.room.touch()
	return l.room, nil
}

func (m *Manager) load(id string, l *loading) {
	defer close(l.done)
	config, snapshot, err := m.read(id)
	var state *State
	if err == nil {
		state = NewState(snapshot, config.Limits) // before the lock: it takes a while for a large document
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil:
		l.err = fmt.Errorf("load room %q: %w", id, err)
		delete(m.rooms, id)
		m.stats.loadFailures.Add(1)
		config.Logger.Error("the room cannot be loaded; it stays closed and what is stored stays as it is", "room", id, "error", err)
	case m.closed:
		l.err = ErrClosed
	default:
		l.room = newRoom(m, id, config, state)
		m.stats.loads.Add(1)
	}
}

// read finds out a room's config and reads what is stored.
func (m *Manager) read(id string) (config Config, s *Snapshot, err error) {
	defer func() {
		if p := recover(); p != nil {
			config, err = m.config, fmt.Errorf("storage or PerRoom panicked: %T", p)
		}
	}()
	config = m.config
	if config.PerRoom != nil {
		config.PerRoom(id, &config)
		config = config.withDefaults()
	}
	if config.Storage == nil {
		return config, nil, nil
	}
	ctx, cancel := context.WithTimeout(m.ctx, config.StorageTimeout)
	defer cancel()
	s, err = config.Storage.Load(ctx, id)
	return config, s, err
}

// Connect adds a session to a room, which is loaded if need be. The errors are
// those of [Manager.Room] and [Room.Connect].
func (m *Manager) Connect(ctx context.Context, id string, o ConnectOptions) (Session, error) {
	for {
		r, err := m.Room(ctx, id)
		if err != nil {
			return nil, err
		}
		s, err := r.Connect(o)
		if !errors.Is(err, ErrClosed) {
			return s, err
		}
		// The room went idle in between: the next call loads it, or learns
		// that the manager is closed.
	}
}

// Existing returns a room if it is in memory.
func (m *Manager) Existing(id string) (*Room, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.rooms[id]
	if l == nil || l.room == nil {
		return nil, false
	}
	return l.room, true
}

// RoomIDs lists the rooms in memory, sorted.
func (m *Manager) RoomIDs() []string {
	var ids []string
	for _, r := range m.live() {
		ids = append(ids, r.id)
	}
	slices.Sort(ids)
	return ids
}

func (m *Manager) live() []*Room {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rooms []*Room
	for l := range maps.Values(m.rooms) {
		if l.room != nil {
			rooms = append(rooms, l.room)
		}
	}
	return rooms
}

// CloseRoom closes a room's sockets, saves it, and lets go of it. If saving
// fails the room stays in memory, is open again, and the error says so.
func (m *Manager) CloseRoom(ctx context.Context, id string) error {
	r, ok := m.Existing(id)
	if !ok {
		return nil
	}
	r.disconnectAll(protocol.CloseNormal)
	if err := r.Flush(ctx); err != nil {
		return err
	}
	m.evict(r)
	return nil
}

// evict lets go of a room, unless someone uses it or it has changes to save.
func (m *Manager) evict(r *Room) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.order) > 0 || !r.savedLocked() {
		return false
	}
	r.closed = true
	m.stop(r.idle)
	m.stop(r.saver.timer)
	delete(m.rooms, r.id)
	return true
}

// CloseAll closes every socket with c and then saves every room, in parallel;
// a room that cannot be saved does not keep the others from it. No message is
// applied once the sockets close, so whatever was acknowledged is in what is
// saved. After it the manager takes no more sessions. The error joins those of
// the rooms that were not saved.
func (m *Manager) CloseAll(ctx context.Context, c protocol.Close) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	rooms := m.live()
	for _, r := range rooms {
		r.shut(c)
	}
	errs := make([]error, len(rooms))
	var saves sync.WaitGroup
	for i, r := range rooms {
		saves.Go(func() { errs[i] = r.Flush(ctx) })
	}
	saves.Wait()
	for _, r := range rooms {
		r.mu.Lock()
		m.stop(r.saver.timer)
		r.mu.Unlock()
	}
	m.cancel()
	m.tasks.Wait()
	return errors.Join(errs...)
}
