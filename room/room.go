package room

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// Errors of rooms and their manager.
var (
	// ErrClosed: the room or the manager is closed. A room closes when it has
	// been idle, so ask the manager again.
	ErrClosed = errors.New("room is closed")
	// ErrFull: the room has as many sessions as it takes.
	ErrFull = errors.New("room is full")
	// ErrNoSession: the room does not have the session.
	ErrNoSession = errors.New("no such session")
)

// Socket is where a session's messages go. Its methods are called with the room
// locked: they must return at once and not call back into the room. They may
// be called after the socket has closed.
type Socket interface {
	// Send queues one message. Messages go out in order; if one cannot, the
	// socket must close rather than skip it.
	Send(f protocol.Frame)
	// Close sends what is queued, then the close, and ends the socket.
	Close(c protocol.Close)
}

// Room is one live room: a [State], the sockets of its sessions, and its
// saving. It is safe for concurrent use.
type Room struct {
	id      string
	config  Config
	manager *Manager
	inbound *Inbound

	mu     sync.Mutex
	state  *State
	seats  map[string]*seat
	order  []*seat // in the order of joining
	closed bool
	idle   *time.Timer // runs while there is no session

	saver     saver
	callbacks callbacks
}

// seat is a session's place in a room.
type seat struct {
	id        string
	socket    Socket
	backlog   Backlog[Effect]
	closed    bool // its socket is; what comes until it leaves is dropped
	refresher Refresher
}

func newRoom(m *Manager, id string, config Config, state *State) *Room {
	r := &Room{
		id: id, config: config, manager: m,
		inbound: m.inbound,
		state:   state,
		seats:   map[string]*seat{},
	}
	if c := m.inboundConfig(config); c != m.inbound.config {
		r.inbound = NewInbound(m.ctx, c)
	}
	r.saver.init(r)
	r.idle = m.after(config.IdleTimeout, r.idled)
	return r
}

// ID is the room's id.
func (r *Room) ID() string { return r.id }

// ConnectOptions describes a session to be.
type ConnectOptions struct {
	Socket Socket
	Client string // the clientId
	Grant  Grant
	// OnTokenRefresh authorizes the session anew when its client sends a new
	// token; nil means what the config says. See [Config].
	OnTokenRefresh func(TokenRefresh) (Grant, error)
}

// Connect adds a session. The errors are [ErrClosed] and [ErrFull].
func (r *Room) Connect(o ConnectOptions) (Session, error) {
	s := &seat{id: newSessionID(), socket: o.Socket}
	s.refresher.Authorize = o.OnTokenRefresh
	if o.OnTokenRefresh == nil {
		s.refresher.Authorize = r.config.OnTokenRefresh
	}
	r.mu.Lock()
	defer r.unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if r.state.Sessions() >= r.config.Limits.MaxSessions {
		return nil, ErrFull
	}
	r.seats[s.id] = s
	r.order = append(r.order, s)
	r.applyLocked(Event{Kind: Join, Session: s.id, Client: o.Client, Grant: o.Grant})
	r.manager.stats.sessions.Add(1)
	return &localSession{r, s}, nil
}

// unlock unlocks the room and then calls the callbacks that have come due.
func (r *Room) unlock() {
	r.mu.Unlock()
	r.callbacks.run(r.config.Logger)
}

// apply applies an event, unless the room is closed.
func (r *Room) apply(e Event) {
	r.mu.Lock()
	defer r.unlock()
	if !r.closed {
		r.applyLocked(e)
	}
}

// applyLocked applies an event and carries out its effects. What it finds
// broken ends the session that sent it and nothing else.
func (r *Room) applyLocked(e Event) {
	before := r.state.doc.timestamp
	effects, err := r.tryApply(e)
	if err != nil {
		r.manager.stats.panics.Add(1)
		r.config.Logger.Error("a message broke the room's engine; its sender is closed", "room", r.id, "session", e.Session, "panic", err)
		if r.state.doc.timestamp != before {
			r.saver.changed() // what was applied before it broke is in what others get
		}
		if s := r.seats[e.Session]; s != nil {
			s.socket.Close(protocol.CloseInternal)
			r.leaveLocked(s)
		}
		return
	}
	var closed *seat
	for i := range effects {
		if effects[i].Close != nil {
			closed = r.seats[effects[i].To] // an event closes none but its own session
		}
		r.carryOut(&effects[i])
	}
	if after := r.state.doc.timestamp; after != before {
		r.saver.changed()
		if r.config.OnDocumentPatch != nil {
			client, _, _ := r.state.Session(e.Session)
			patch := DocumentPatch{Session: e.Session, Client: client, Timestamp: after, Patches: slices.Clone(e.Message.Document.Raw)}
			r.callbacks.add(func() { r.config.OnDocumentPatch(r, patch) })
		}
	}
	if closed != nil {
		r.leaveLocked(closed)
	}
}

func (r *Room) tryApply(e Event) (effects []Effect, err error) {
	defer func() {
		if p := recover(); p != nil {
			// Not the panic's own words: they may quote the document.
			effects, err = nil, fmt.Errorf("%T at %s", p, debug.Stack())
		}
	}()
	if hook := r.manager.beforeApply; hook != nil {
		hook(e)
	}
	return r.state.Apply(e), nil
}

// carryOut does what one effect says. Deliveries are counted once for all who
// receive it: the number is every room's, and the processors' to fight over.
func (r *Room) carryOut(e *Effect) {
	sent := int64(0)
	if e.To != "" {
		if s := r.seats[e.To]; s != nil {
			sent += r.deliver(s, e)
		}
	} else {
		for _, s := range r.order {
			if s.id != e.Except {
				sent += r.deliver(s, e)
			}
		}
	}
	r.manager.stats.deliveries.Add(sent)
}

// deliver hands one effect to a session's socket, or keeps it while a diff
// that must go first is being built. It returns the number of messages that the
// socket got.
func (r *Room) deliver(s *seat, e *Effect) int64 {
	switch {
	case s.closed:
	case e.Close != nil:
		s.close(*e.Close)
	case s.backlog.Building():
		if !s.backlog.Keep(*e, e.held(), r.config.MaxWaitingBytes) {
			r.manager.stats.slow.Add(1)
			s.close(protocol.CloseSlowConsumer)
		}
	case e.Diff != nil:
		s.backlog.Begin()
		d := e.Diff // e is the state's, to be used again for the next event
		r.manager.tasks.Go(func() { r.build(s, d) })
	default:
		s.socket.Send(e.Frame)
		return 1
	}
	return 0
}

// close closes the socket, instead of whatever waits.
func (s *seat) close(c protocol.Close) {
	s.closed = true
	s.backlog.End()
	s.socket.Close(c)
}

// build builds a diff with the room unlocked, then lets out what waits for it.
func (r *Room) build(s *seat, d *Diff) {
	r.manager.builders <- struct{}{}
	frame := d.Frame()
	<-r.manager.builders

	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := s.backlog.End()
	if r.seats[s.id] != s || s.closed {
		return
	}
	sent := int64(0)
	if !frame.IsZero() {
		s.socket.Send(frame)
		sent++
	}
	for i := range waiting {
		sent += r.deliver(s, &waiting[i])
	}
	r.manager.stats.deliveries.Add(sent)
}

// leave removes a session, if the room still has it.
func (r *Room) leave(s *seat) {
	r.mu.Lock()
	defer r.unlock()
	r.leaveLocked(s)
}

func (r *Room) leaveLocked(s *seat) {
	if r.seats[s.id] != s {
		return
	}
	client, _, _ := r.state.Session(s.id)
	delete(r.seats, s.id)
	r.order = slices.DeleteFunc(r.order, func(x *seat) bool { return x == s })
	s.backlog.End()
	r.manager.stats.sessions.Add(-1)
	if effects, err := r.tryApply(Event{Kind: Leave, Session: s.id}); err == nil {
		for i := range effects {
			r.carryOut(&effects[i])
		}
	}
	if len(r.order) == 0 && !r.closed {
		r.idle = r.manager.rearm(r.idle, r.config.IdleTimeout, r.idled)
	}
	if r.config.OnSessionRemoved != nil {
		removed := SessionRemoved{Session: s.id, Client: client, Remaining: len(r.order)}
		r.callbacks.add(func() { r.config.OnSessionRemoved(r, removed) })
	}
}

// Snapshot is the document as it is now.
func (r *Room) Snapshot() *Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.doc.Snapshot()
}

// SessionCount is the number of sessions.
func (r *Room) SessionCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.order)
}

// Sessions lists the sessions in the order in which they joined.
func (r *Room) Sessions() []SessionInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]SessionInfo, 0, len(r.order))
	for _, s := range r.order {
		info, _ := r.infoLocked(s.id)
		list = append(list, info)
	}
	return list
}

// Session describes one session; the error is [ErrNoSession].
func (r *Room) Session(id string) (SessionInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.infoLocked(id)
}

func (r *Room) infoLocked(id string) (SessionInfo, error) {
	client, grant, ok := r.state.Session(id)
	if !ok {
		return SessionInfo{}, fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	return SessionInfo{ID: id, Client: client, Permission: grant.Permission, Metadata: grant.Metadata}, nil
}

// SetPermission changes what a session may do from its next message on; the
// error is [ErrNoSession].
func (r *Room) SetPermission(id string, p Permission) error {
	return r.regrant(id, func(g *Grant) { g.Permission = p })
}

// SetMetadata replaces a session's metadata, nil leaving none; the error is
// [ErrNoSession].
func (r *Room) SetMetadata(id string, metadata json.RawMessage) error {
	if metadata == nil {
		metadata = json.RawMessage{}
	}
	return r.regrant(id, func(g *Grant) { g.Metadata = metadata })
}

func (r *Room) regrant(id string, change func(*Grant)) error {
	r.mu.Lock()
	defer r.unlock()
	_, grant, ok := r.state.Session(id)
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	change(&grant)
	r.applyLocked(Event{Kind: Regrant, Session: id, Grant: grant})
	return nil
}

// Disconnect closes a session's socket and removes the session; the error is
// [ErrNoSession].
func (r *Room) Disconnect(id string, c protocol.Close) error {
	r.mu.Lock()
	defer r.unlock()
	s := r.seats[id]
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	s.socket.Close(c)
	r.leaveLocked(s)
	return nil
}

// shut closes the room for good: no event is applied after it, so what the
// document holds now is final. It closes the sockets.
func (r *Room) shut(c protocol.Close) {
	r.mu.Lock()
	defer r.unlock()
	if r.closed {
		return
	}
	r.closed = true
	r.manager.stop(r.idle)
	for _, s := range slices.Clone(r.order) {
		s.socket.Close(c)
		r.leaveLocked(s)
	}
}
