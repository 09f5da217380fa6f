package cluster

import (
	"maps"
	"math"
	"slices"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// fold is what the owner of a partition computes: the rooms as a function of
// their checkpoints and the log, and of nothing else. Two nodes that fold the
// same log say the same things, whoever of them is the owner, and when. No setting
// of a node is an input: the limits by which a batch is judged came with it.
type fold struct {
	rooms    map[string]*roomFold
	edges    map[string]edgeMark
	position ID                  // of the last entry that was applied
	base     partitionCheckpoint // where the log begins
	source   source
	parser   *protocol.Parser
	guards   guards

	// What broke the engine, see broken.go.
	tries       map[place]int
	only        string               // if set, what concerns other rooms is passed over
	except      map[string]*roomFold // what concerns these is passed over, see adopt
	beforeApply func(room.Event)     // tests break the engine here
}

// source is where a fold gets what is not in the log's next entry.
type source interface {
	// load reads a room's checkpoint, nil if there is none. An error says
	// that it is unreadable: other trouble is waited out.
	load(room string) (*roomCheckpoint, error)
	// live lists the rooms whose checkpoints have sessions.
	live() []string
	// history yields the log's entries after base up to a place, that included.
	history(base, upto ID, yield func(ID, *batch))
	// broke tells that an item has broken the engine, and how often by now.
	broke(at place, room, session string, tries int)
	// held tells that an item which had broken the engine has been applied.
	held(at place)
}

// edgeMark is what an owner remembers of an edge.
type edgeMark struct {
	number uint64 // of its last batch
	// gone is when its sessions were sent off, in the log's milliseconds; 0:
	// they were not. Whatever comes of it later is passed over.
	gone uint64
}

// rememberGone is for how long an edge that was sent off is remembered, in the
// log's milliseconds: much longer than anything of it could still be on its way.
const rememberGone = 3600_000

// roomCheckpoint is a room at a place in the log.
type roomCheckpoint struct {
	applied  ID
	snapshot *room.Snapshot
	sessions []room.SessionState
	homes    map[string]string // session → edge
	stored   any               // what the storage wants to know at the next save
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
	grant  *room.Grant // what the session may do from here on
	reply  *reply      // of no session, but to a question of the edge
	// joined says that the session is in the room from here on: what comes
	// before in the log is not for it.
	joined bool
	// hold says that a large diff for the session is being built: what comes
	// after for it waits at the edge until it comes, late, with that.
	hold, late bool
	// timestamp is the room's after the entry. What an edge gets of a room
	// has every timestamp, so that it notices when something is missing.
	timestamp int64
	// passed says that all timestamps after passedFrom and before timestamp are passed
	// over; there is nothing else to tell.
	passed     bool
	passedFrom int64
}

// reply answers a question that an edge has asked through the log.
type reply struct {
	ask      uint64
	found    bool // the session that it was about
	sessions []room.SessionInfo
}

// partitionCheckpoint is what is known of a partition beside its rooms, at the
// place up to which the log has been trimmed.
type partitionCheckpoint struct {
	position ID
	edges    map[string]edgeMark
}

// guards can be taken away, one by one, by tests that show what for they are.
type guards struct {
	noBatchCheck, noEpochCheck, noContiguityCheck, noTrimBound, noChain, noAdoption bool
}

// noLimits is for the parser of what edges have let in: the length of a buffer is
// for them to judge. It is the longest that JavaScript counts without a gap.
var noLimits = protocol.Limits{MaxBufferLength: min(math.MaxInt, 1<<53-1)}

func newFold(base partitionCheckpoint, s source) *fold {
	edges := maps.Clone(base.edges)
	if edges == nil {
		edges = map[string]edgeMark{}
	}
	return &fold{
		source: s, parser: protocol.NewParser(noLimits),
		rooms: map[string]*roomFold{}, edges: edges, position: base.position, base: base,
		tries: map[place]int{},
	}
}

// checkpoint is what is known of the partition beside its rooms, as of now.
func (f *fold) checkpoint() partitionCheckpoint {
	return partitionCheckpoint{position: f.position, edges: maps.Clone(f.edges)}
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
	mark := f.edges[b.edge]
	if !f.guards.noBatchCheck {
		switch {
		case b.number <= mark.number:
			return nil, duplicate
		case b.number > mark.number+1:
			return nil, gap
		}
	}
	f.edges[b.edge] = edgeMark{number: b.number}
	var out []output
	for i := range b.items {
		out = append(out, f.tryItem(place{id, i}, b, &b.items[i])...)
	}
	return out, applied
}

func (f *fold) item(id ID, b *batch, it *item) []output {
	if it.kind == itemEdgeGone {
		return f.edgeGone(id, it.session)
	}
	if !f.about(it.room) {
		return nil
	}
	r, err := f.room(it.room)
	if err != nil {
		why := protocol.Close{Code: protocol.CodeInternal, Reason: "room cannot be loaded"}
		out := []output{{id: id, edge: b.edge, room: it.room, to: it.session, close: &why}}
		if it.ask != 0 {
			out[0] = output{id: id, edge: b.edge, room: it.room, reply: &reply{ask: it.ask}}
		}
		return out
	}
	if !id.After(r.saved) {
		return nil // the checkpoint has it
	}
	return r.item(f, id, b, it)
}

// about reports whether the fold is about a room.
func (f *fold) about(room string) bool {
	return (f.only == "" || f.only == room) && f.except[room] == nil
}

// edgeGone lets all sessions of a dead edge leave, in an order that all agree on.
// The edge is told, in case that it only slept: its clients come back.
func (f *fold) edgeGone(id ID, edge string) []output {
	f.edges[edge] = edgeMark{number: math.MaxUint64, gone: max(1, id.MS)}
	for other, mark := range f.edges {
		if mark.gone != 0 && mark.gone+rememberGone < id.MS {
			delete(f.edges, other)
		}
	}
	for _, name := range f.source.live() {
		if f.about(name) {
			_, _ = f.room(name) // one that cannot be loaded has no sessions that hear of it
		}
	}
	var out []output
	for _, name := range slices.Sorted(maps.Keys(f.rooms)) {
		if r := f.rooms[name]; r.perEdge[edge] > 0 && id.After(r.saved) {
			out = append(out, r.edgeGone(f, id, edge)...)
		}
	}
	return out
}

// room returns a room, from its checkpoint if need be.
func (f *fold) room(name string) (*roomFold, error) {
	if r := f.rooms[name]; r != nil {
		return r, nil
	}
	c, err := f.source.load(name)
	if err != nil {
		return nil, err
	}
	r := newRoomFold(name, c)
	f.rooms[name] = r
	return r, nil
}

// bring loads the rooms that a batch is about, and returns the names of those that
// were not in memory. Those that cannot be loaded are not among them.
func (f *fold) bring(b *batch) (loaded []string) {
	bring := func(name string) {
		if f.rooms[name] != nil {
			return
		}
		if _, err := f.room(name); err == nil {
			loaded = append(loaded, name)
		}
	}
	for i := range b.items {
		if b.items[i].kind == itemEdgeGone {
			for _, name := range f.source.live() {
				bring(name)
			}
		} else {
			bring(b.items[i].room)
		}
	}
	return loaded
}

// adopt takes, from a Redis that has gone back to an earlier moment, the rooms that are
// not in memory. What Redis had at that moment was whole: checkpoints, the place where the
// log begins and the entries after it. So a room is what its checkpoint
// and those entries say. They may have been trimmed since, but that is what Redis has
// forgotten.
func (f *fold) adopt(base partitionCheckpoint) {
	then := newFold(base, f.source)
	then.except, then.tries, then.guards, then.beforeApply = f.rooms, f.tries, f.guards, f.beforeApply
	if f.guards.noAdoption {
		return
	}
	f.source.history(base.position, f.position, func(id ID, b *batch) { then.apply(id, b) })
	for name, r := range then.rooms {
		if f.rooms[name] == nil {
			f.rooms[name] = r
		}
	}
}
