package cluster

import (
	"errors"
	"maps"
	"slices"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// roomFold is one room of a [fold].
type roomFold struct {
	name    string
	state   *room.State
	applied ID                // the last entry that changed it
	saved   ID                // the last entry that its checkpoint has
	stored  any               // what the storage wants to know at the next save
	homes   map[string]string // session → edge
	perEdge map[string]int    // sessions
}

func newRoomFold(name string, c *roomCheckpoint) *roomFold {
	if c == nil {
		c = &roomCheckpoint{}
	}
	r := &roomFold{
		name: name, state: room.RestoreState(c.snapshot, c.sessions, room.Limits{}),
		applied: c.applied, saved: c.applied, stored: c.stored,
		homes: map[string]string{}, perEdge: map[string]int{},
	}
	for session, edge := range c.homes {
		r.homes[session] = edge
		r.perEdge[edge]++
	}
	return r
}

// checkpoint is the room as it is now.
func (r *roomFold) checkpoint() *roomCheckpoint {
	return &roomCheckpoint{
		applied:  r.applied,
		snapshot: r.state.Document().Snapshot(),
		sessions: r.state.Checkpoint(),
		homes:    maps.Clone(r.homes),
		stored:   r.stored,
	}
}

// dirty reports whether the room has changed since its checkpoint.
func (r *roomFold) dirty() bool { return r.applied.After(r.saved) }

// item applies what an edge tells the room.
func (r *roomFold) item(f *fold, id ID, b *batch, it *item) []output {
	edge := b.edge
	if it.kind == itemSessions {
		return []output{r.reply(id, edge, &reply{ask: it.ask, found: true, sessions: r.sessions()})}
	}
	e := room.Event{Session: it.session, Client: it.client, Grant: it.grant, Now: int64(id.MS) * 100, Limits: &b.limits}
	_, grant, known := r.state.Session(it.session)
	switch it.kind {
	case itemJoin:
		if known {
			return nil
		}
		return r.join(f, id, edge, e)
	case itemLeave:
		if !known {
			return nil
		}
		r.forget(it.session)
		e.Kind = room.Leave
		return r.event(f, id, e)
	case itemRegrant, itemDisconnect:
		var out []output
		if it.ask != 0 {
			out = append(out, r.reply(id, edge, &reply{ask: it.ask, found: known}))
		}
		switch {
		case !known:
			return out
		case it.kind == itemDisconnect:
			return append(out, r.sendOff(f, id, it.session, it.close)...)
		}
		if it.grant.Permission == "" {
			e.Grant.Permission = grant.Permission
		}
		e.Kind = room.Regrant
		out = append(out, r.event(f, id, e)...)
		_, grant, _ = r.state.Session(it.session)
		return append(out, output{id: id, edge: r.homes[it.session], room: r.name, to: it.session, grant: &grant, timestamp: r.timestamp()})
	default: // itemMessage
		if !known {
			// It has left by the word of somebody else, who took its edge for
			// dead; the client comes back.
			why := protocol.CloseRestart
			return []output{r.close(id, edge, it.session, &why)}
		}
		m, err := f.parser.Parse(it.text)
		if violation := (*protocol.Violation)(nil); errors.As(err, &violation) {
			return r.sendOff(f, id, it.session, violation.Close())
		}
		e.Kind, e.Message = room.Received, m
		return r.event(f, id, e)
	}
}

func (r *roomFold) join(f *fold, id ID, edge string, e room.Event) []output {
	e.Kind = room.Join
	r.homes[e.Session] = edge
	r.perEdge[edge]++
	out := r.event(f, id, e)
	if r.homes[e.Session] == "" {
		return out // the room is full
	}
	joined := output{id: id, edge: edge, room: r.name, to: e.Session, joined: true, timestamp: r.timestamp()}
	return append([]output{joined}, out...)
}

func (r *roomFold) timestamp() int64 { return r.state.Document().Timestamp() }

func (r *roomFold) reply(id ID, edge string, to *reply) output {
	return output{id: id, edge: edge, room: r.name, reply: to, timestamp: r.timestamp()}
}

func (r *roomFold) close(id ID, edge, session string, why *protocol.Close) output {
	return output{id: id, edge: edge, room: r.name, to: session, close: why, timestamp: r.timestamp()}
}

// sessions lists the sessions, sorted by their ids.
func (r *roomFold) sessions() []room.SessionInfo {
	list := make([]room.SessionInfo, 0, len(r.homes))
	for _, id := range slices.Sorted(maps.Keys(r.homes)) {
		client, grant, _ := r.state.Session(id)
		list = append(list, room.SessionInfo{ID: id, Client: client, Permission: grant.Permission, Metadata: grant.Metadata})
	}
	return list
}

// event applies one event and addresses its effects.
func (r *roomFold) event(f *fold, id ID, e room.Event) []output {
	r.applied = id
	if f.beforeApply != nil {
		f.beforeApply(e)
	}
	before := r.timestamp()
	effects := r.state.Apply(e)
	timestamp := r.timestamp()
	var out []output
	if timestamp > before+1 {
		for _, edge := range slices.Sorted(maps.Keys(r.perEdge)) {
			out = append(out, output{id: id, edge: edge, room: r.name, passed: true, passedFrom: before, timestamp: timestamp})
		}
	}
	var closed []string
	for i := range effects {
		x := &effects[i]
		o := output{id: id, room: r.name, to: x.To, except: x.Except, frame: x.Frame, diff: x.Diff, close: x.Close, timestamp: timestamp}
		if x.To != "" {
			if o.edge = r.homes[x.To]; o.edge != "" {
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
		r.forget(session)
		if _, _, known := r.state.Session(session); known {
			out = append(out, r.event(f, id, room.Event{Kind: room.Leave, Session: session})...)
		}
	}
	return out
}

// sendOff closes a session, which leaves.
func (r *roomFold) sendOff(f *fold, id ID, session string, why protocol.Close) []output {
	out := []output{r.close(id, r.homes[session], session, &why)}
	r.forget(session)
	return append(out, r.event(f, id, room.Event{Kind: room.Leave, Session: session})...)
}

// edgeGone sends off all sessions of an edge.
func (r *roomFold) edgeGone(f *fold, id ID, edge string) []output {
	var gone []string
	for session, home := range r.homes {
		if home == edge {
			gone = append(gone, session)
		}
	}
	slices.Sort(gone)
	var out []output
	for _, session := range gone {
		out = append(out, r.sendOff(f, id, session, protocol.CloseRestart)...)
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
