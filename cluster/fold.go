package cluster

import (
	"errors"
	"maps"
	"slices"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// fold is what the owner of a partition computes: the rooms as a function of
// their checkpoints and the log, and of nothing else. Two nodes that fold the
// same log say the same things, whoever of them is the owner, and when.
type fold struct {
	limits   room.Limits
	load     func(room string) (*roomCheckpoint, error)
	stored   func() []string // the rooms whose checkpoints have sessions
	parser   *protocol.Parser
	rooms    map[string]*roomFold
	edges    map[string]uint64 // the number of the last batch of each edge
	position ID                // of the last entry that was applied
	guards   guards
}

// roomFold is one room.
type roomFold struct {
	state   *room.State
	applied ID                // the last entry that changed it
	saved   ID                // the last entry that its checkpoint has
	homes   map[string]string // session → edge
	perEdge map[string]int    // sessions
}

// roomCheckpoint is a room at a place in the log.
type roomCheckpoint struct {
	applied  ID
	snapshot *room.Snapshot
	sessions []room.SessionState
	homes    map[string]string // session → edge
}

// output is what one entry of the log makes the owner tell one edge.
type output struct {
	id     ID
	edge   string
	room   string
	to     string // a session; empty: all of the room at the edge
	except string // a session that does not get it
	frame  protocol.Frame
	diff   *room.Diff
	close  *protocol.Close
	// joined says that the session is in the room from here on: what comes
	// before in the log is not for it.
	joined bool
	// timestamp is the room's after the entry. What an edge gets of a room
	// has every timestamp, so that it notices when something is missing.
	timestamp int64
}

// partitionCheckpoint is what is known of a partition beside its rooms, at the
// place up to which the log has been trimmed.
type partitionCheckpoint struct {
	position ID
	edges    map[string]uint64
}

// guards can be taken away, one by one, by tests that show what for they are.
type guards struct {
	noBatchCheck, noEpochCheck, noContiguityCheck, noTrimBound bool
}

func newFold(limits room.Limits, start partitionCheckpoint, load func(string) (*roomCheckpoint, error), stored func() []string) *fold {
	edges := maps.Clone(start.edges)
	if edges == nil {
		edges = map[string]uint64{}
	}
	return &fold{
		limits: limits, load: load, stored: stored, parser: protocol.NewParser(limits.Limits),
		rooms: map[string]*roomFold{}, edges: edges, position: start.position,
	}
}

// verdict is what an owner thinks of a batch.
type verdict int

const (
	applied   verdict = iota
	duplicate         // it has been applied before
	gap               // one before it is missing
)

// apply applies the entry and returns what to tell whom, in order.
func (f *fold) apply(id ID, b *batch) ([]output, verdict) {
	f.position = id
	last := f.edges[b.edge]
	if !f.guards.noBatchCheck {
		switch {
		case b.number <= last:
			return nil, duplicate
		case b.number > last+1:
			return nil, gap
		}
	}
	f.edges[b.edge] = b.number
	var out []output
	for i := range b.items {
		out = append(out, f.item(id, b.edge, &b.items[i])...)
	}
	return out, applied
}

func (f *fold) item(id ID, edge string, it *item) []output {
	if it.kind == itemEdgeGone {
		return f.edgeGone(id, it.session)
	}
	r, err := f.room(it.room)
	if err != nil {
		why := protocol.Close{Code: protocol.CodeInternal, Reason: "room cannot be loaded"}
		return []output{{id: id, edge: edge, room: it.room, to: it.session, close: &why}}
	}
	if !id.After(r.saved) {
		return nil // the checkpoint has it
	}
	e := room.Event{Session: it.session, Client: it.client, Grant: it.grant}
	switch it.kind {
	case itemJoin:
		if _, known := r.homes[it.session]; known {
			return nil
		}
		e.Kind = room.Join
		r.homes[it.session] = edge
		r.perEdge[edge]++
	case itemLeave:
		e.Kind = room.Leave
		r.forget(it.session)
	case itemRegrant:
		e.Kind = room.Regrant
	case itemMessage:
		m, err := f.parser.Parse(it.text)
		if violation := (*protocol.Violation)(nil); errors.As(err, &violation) {
			why := violation.Close()
			out := []output{{id: id, edge: edge, room: it.room, to: it.session, close: &why, timestamp: r.state.Document().Timestamp()}}
			r.forget(it.session)
			return append(out, f.event(id, it.room, r, room.Event{Kind: room.Leave, Session: it.session})...)
		}
		e.Kind, e.Message = room.Received, m
	}
	if e.Kind != room.Join {
		if _, _, known := r.state.Session(it.session); !known {
			if it.kind == itemLeave {
				return nil
			}
			// It has left by the word of somebody else, who took its edge for
			// dead; the client comes back.
			why := protocol.CloseRestart
			return []output{{id: id, edge: edge, room: it.room, to: it.session, close: &why, timestamp: r.state.Document().Timestamp()}}
		}
	}
	out := f.event(id, it.room, r, e)
	if e.Kind == room.Join {
		joined := output{id: id, edge: edge, room: it.room, to: it.session, joined: true, timestamp: r.state.Document().Timestamp()}
		out = append([]output{joined}, out...)
	}
	return out
}

// event applies one event to a room and addresses its effects.
func (f *fold) event(id ID, name string, r *roomFold, e room.Event) []output {
	r.applied = id
	effects := r.state.Apply(e)
	timestamp := r.state.Document().Timestamp()
	var out []output
	var closed []string
	for i := range effects {
		x := &effects[i]
		o := output{id: id, room: name, to: x.To, except: x.Except, frame: x.Frame, diff: x.Diff, close: x.Close, timestamp: timestamp}
		if x.To != "" {
			o.edge = r.homes[x.To]
			if o.edge != "" {
				out = append(out, o)
			}
			if x.Close != nil {
				closed = append(closed, x.To)
			}
			continue
		}
		for _, edge := range slices.Sorted(maps.Keys(r.perEdge)) {
			if r.perEdge[edge] == 1 && r.homes[x.Except] == edge {
				continue // the sender is alone there
			}
			o.edge = edge
			out = append(out, o)
		}
	}
	for _, session := range closed {
		if _, _, known := r.state.Session(session); known {
			r.forget(session)
			out = append(out, f.event(id, name, r, room.Event{Kind: room.Leave, Session: session})...)
		} else {
			r.forget(session)
		}
	}
	return out
}

func (r *roomFold) forget(session string) {
	edge, known := r.homes[session]
	if !known {
		return
	}
	delete(r.homes, session)
	if r.perEdge[edge]--; r.perEdge[edge] == 0 {
		delete(r.perEdge, edge)
	}
}

// edgeGone lets all sessions of a dead edge leave, in an order that all agree on.
// The edge is told, in case that it only slept: its clients come back.
func (f *fold) edgeGone(id ID, edge string) []output {
	for _, name := range f.stored() {
		_, _ = f.room(name) // one that cannot be loaded has no sessions that hear of it
	}
	var out []output
	for _, name := range slices.Sorted(maps.Keys(f.rooms)) {
		r := f.rooms[name]
		if r.perEdge[edge] == 0 || !id.After(r.saved) {
			continue
		}
		var gone []string
		for session, home := range r.homes {
			if home == edge {
				gone = append(gone, session)
			}
		}
		slices.Sort(gone)
		for _, session := range gone {
			why := protocol.CloseRestart
			out = append(out, output{id: id, edge: edge, room: name, to: session, close: &why, timestamp: r.state.Document().Timestamp()})
			r.forget(session)
			out = append(out, f.event(id, name, r, room.Event{Kind: room.Leave, Session: session})...)
		}
	}
	return out
}

// room returns a room, from its checkpoint if need be.
func (f *fold) room(name string) (*roomFold, error) {
	if r := f.rooms[name]; r != nil {
		return r, nil
	}
	c, err := f.load(name)
	if err != nil {
		return nil, err
	}
	r := &roomFold{homes: map[string]string{}, perEdge: map[string]int{}}
	if c == nil {
		c = &roomCheckpoint{}
	}
	r.state = room.RestoreState(c.snapshot, c.sessions, f.limits)
	r.applied, r.saved = c.applied, c.applied
	for session, edge := range c.homes {
		r.homes[session] = edge
		r.perEdge[edge]++
	}
	f.rooms[name] = r
	return r, nil
}

// checkpoint is the room as it is now.
func (r *roomFold) checkpoint() *roomCheckpoint {
	return &roomCheckpoint{
		applied:  r.applied,
		snapshot: r.state.Document().Snapshot(),
		sessions: r.state.Checkpoint(),
		homes:    maps.Clone(r.homes),
	}
}

// dirty reports whether the room has changed since its checkpoint.
func (r *roomFold) dirty() bool { return r.applied.After(r.saved) }
