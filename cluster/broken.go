package cluster

import (
	"strconv"
	"strings"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// An item that makes the engine panic leaves its room half changed. The room
// is computed anew from its checkpoint and the log, and the item is tried once
// more; if it breaks the engine again, it is passed over and its session is
// closed. Tries are counted in Redis, too, before the next one, so that the next
// owner, who reads the same log, does not begin to count anew. What is applied in the
// end has its count removed before anybody hears of it: whoever applies it again may
// fail as often.

// place is where an item is in the log.
type place struct {
	id    ID
	index int // in the batch
}

// maxTries is how often an item may break the engine before it is passed over.
const maxTries = 2

// tryItem applies an item that may break the engine.
func (f *fold) tryItem(at place, b *batch, it *item) []output {
	for f.tries[at] < maxTries {
		out, ok := f.attempt(at.id, b, it)
		if ok {
			if f.tries[at] > 0 {
				delete(f.tries, at)
				f.source.held(at)
			}
			return out
		}
		f.tries[at]++
		f.source.broke(at, it.room, it.session, f.tries[at])
		f.rebuild(it.room, at)
	}
	return f.passOver(at.id, b.edge, it)
}

// attempt reports false if the engine broke. The panic's own words are not
// kept: they may quote the document.
func (f *fold) attempt(id ID, b *batch, it *item) (out []output, ok bool) {
	defer func() {
		if recover() != nil {
			out, ok = nil, false
		}
	}()
	return f.item(id, b, it), true
}

// rebuild computes a room anew, as it was before the item at a place.
func (f *fold) rebuild(name string, before place) {
	again := newFold(f.base, f.source)
	again.only, again.tries, again.guards, again.beforeApply = name, f.tries, f.guards, f.beforeApply
	f.source.history(f.base.position, before.id, func(id ID, b *batch) {
		if id == before.id {
			b = &batch{edge: b.edge, number: b.number, limits: b.limits, items: b.items[:before.index]}
		}
		again.apply(id, b)
	})
	if name == "" { // an item about all rooms
		f.rooms = again.rooms
		return
	}
	delete(f.rooms, name)
	if r := again.rooms[name]; r != nil {
		f.rooms[name] = r
	}
}

// passOver closes the session whose item cannot be applied.
func (f *fold) passOver(id ID, edge string, it *item) (out []output) {
	why := protocol.CloseInternal
	out = []output{{id: id, edge: edge, room: it.room, to: it.session, close: &why}}
	if it.ask != 0 {
		out[0] = output{id: id, edge: edge, room: it.room, reply: &reply{ask: it.ask}}
	}
	defer func() {
		if r := f.rooms[it.room]; recover() != nil && r != nil {
			r.forget(it.session) // even its leaving breaks the engine
		}
	}()
	r, err := f.room(it.room)
	if err != nil || !id.After(r.saved) {
		return out
	}
	out[0].timestamp = r.timestamp()
	if _, _, known := r.state.Session(it.session); !known {
		return out
	}
	r.forget(it.session)
	return append(out, r.event(f, id, room.Event{Kind: room.Leave, Session: it.session})...)
}

func (p place) String() string { return p.id.String() + "/" + strconv.Itoa(p.index) }

// parsePlace reads what String writes.
func parsePlace(s string) (place, bool) {
	text, index, _ := strings.Cut(s, "/")
	id, err := ParseID(text)
	n, err2 := strconv.Atoi(index)
	return place{id, n}, err == nil && err2 == nil
}
