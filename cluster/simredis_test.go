package cluster

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weftsync/weft/store"
)

// simRedis is what Redis has, as a value: what it was before a command can be
// kept, and Redis go back to it.
type simRedis struct {
	guards    guards
	log       []entry
	last      ID // the log's last entry, as it is told beside it
	generated ID // after which new ids come
	epoch     uint64
	link      uint64
	owner     string // incarnation
	free      bool   // the owner has released
	cut       ID     // the place up to which it had told everything then
	base      partitionCheckpoint
	rooms     map[string]*roomCheckpoint
}

// standing is what fence.lua is given: what Redis must have.
type standing struct {
	epoch uint64
	owner string
	link  uint64
	read  string
}

func dueOf(f store.Fence) standing {
	link, read := f.Chain.Due()
	return standing{f.Epoch, f.Owner, link, read}
}

type lookResult int

const (
	lookWell lookResult = iota
	lookForgotten
	lookFenced
)

// look is what fence.lua finds.
func (r *simRedis) look(must standing) lookResult {
	has := must.read == "" || must.read == r.last.String() || must.read == r.base.position.String() ||
		slices.ContainsFunc(r.log, func(e entry) bool { return e.id.String() == must.read })
	switch {
	case r.guards.noEpochCheck:
	case r.epoch > must.epoch || r.epoch == must.epoch && (r.owner != must.owner || r.free):
		return lookFenced
	case !r.guards.noChain && (r.epoch < must.epoch || r.link < must.link || !has):
		return lookForgotten
	}
	return lookWell
}

func newSimRedis(g guards) *simRedis {
	return &simRedis{guards: g, free: true, rooms: map[string]*roomCheckpoint{}}
}

func (r *simRedis) clone() *simRedis {
	x := *r
	x.log, x.rooms = slices.Clone(r.log), maps.Clone(r.rooms)
	x.base.edges = maps.Clone(r.base.edges)
	return &x
}

// trim is what trim.lua does.
func (r *simRedis) trim(base partitionCheckpoint) {
	r.base = base
	r.log = slices.DeleteFunc(r.log, func(e entry) bool { return !e.id.After(base.position) })
}

// fence is what fence.lua does.
func (r *simRedis) fence(must standing, next uint64, retake bool) lookResult {
	is := r.look(must)
	if is == lookFenced || is == lookForgotten && !retake {
		return is
	}
	if r.epoch < must.epoch {
		r.epoch, r.link, r.owner, r.free, r.cut = must.epoch, 0, must.owner, false, ID{}
	}
	r.link = max(r.link, next)
	return lookWell
}

// command notes what Redis was before one.
func (w *world) command() {
	w.history = append(w.history, w.simRedis.clone())
	if len(w.history) > simForgets {
		w.history = w.history[1:]
	}
}

// simForgets is how many commands Redis may forget at once.
const simForgets = 12

// write writes something in the name of a node that thinks that it owns. It reports
// false if that is refused, and draws the conclusions.
func (w *world) write(n *node, do func(*simRedis)) bool {
	f := n.own.fence
	must := dueOf(f)
	next := f.Chain.Next()
	w.command()
	switch w.fence(must, next, false) {
	case lookFenced:
		w.note("%s (epoch %d) is fenced", n.edge.inc, n.own.epoch)
		n.own = nil
		return false
	case lookForgotten:
		w.mend(n)
		return false
	}
	do(w.simRedis)
	if w.chance(10) {
		return false // nobody hears of it
	}
	f.Chain.Done(next)
	return true
}

// lookAt is what a node that thinks that it owns finds when it looks.
func (w *world) lookAt(n *node) lookResult { return w.look(dueOf(n.own.fence)) }

// ownerLooks lets an owner look whether Redis has forgotten something.
func (w *world) ownerLooks(n *node) {
	if n == nil || n.own == nil {
		return
	}
	switch w.lookAt(n) {
	case lookFenced:
		w.note("%s (epoch %d) sees that it is fenced", n.edge.inc, n.own.epoch)
		n.own = nil
	case lookForgotten:
		w.mend(n)
	default:
		if w.fragile == n {
			w.fragile = nil // nothing was forgotten that it wrote or read
		}
	}
}

// mend lets an owner take up the chain again, and write all that it knows.
func (w *world) mend(n *node) {
	o := n.own
	for len(o.pending) > 0 {
		w.emit(o)
	}
	f := o.fence
	f.Chain.Read("")
	next := f.Chain.Next()
	w.command()
	if w.fence(dueOf(f), next, true) != lookWell {
		w.note("%s (epoch %d) is fenced", n.edge.inc, o.epoch)
		n.own = nil
		return
	}
	f.Chain.Done(next)
	w.note("%s (epoch %d) mends", n.edge.inc, o.epoch)
	if o.fold.position.After(w.generated) {
		w.generated, w.last = o.fold.position, o.fold.position
	}
	o.fold.adopt(w.base)
	for name, r := range o.fold.rooms {
		w.command()
		w.rooms[name] = r.checkpoint()
		r.saved = r.applied
		w.link = f.Chain.Next()
		f.Chain.Done(w.link)
	}
	w.command()
	w.trim(o.fold.checkpoint())
	w.link = f.Chain.Next()
	f.Chain.Done(w.link)
	o.fold.base = o.fold.checkpoint()
	o.last = ID{}
	f.Chain.Read(w.base.position.String())
	if w.fragile == n {
		w.fragile = nil
	}
}

// ownerEvicts lets go of a room, as [partition.evict] does: what the log had of it is
// too old to be forgotten.
func (w *world) ownerEvicts(n *node) {
	if n == nil || n.own == nil || len(w.history) < simForgets {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.own.fold.rooms)) {
		r := n.own.fold.rooms[name]
		if len(r.homes) == 0 && !r.dirty() && !r.applied.After(w.history[0].last) {
			w.note("%s (epoch %d) evicts %s", n.edge.inc, n.own.epoch, name)
			delete(n.own.fold.rooms, name)
		}
	}
}

// forget lets Redis go back by some commands, unless what is lost nobody knows
// any more: there is an owner, and what it has not applied itself Redis keeps.
func (w *world) forget() {
	n := w.nodeOf(w.owner)
	if w.free || n == nil || n.own == nil || n.own.epoch != w.epoch || len(w.history) == 0 || w.told.After(n.own.fold.position) {
		return
	}
	k := w.rng.IntN(len(w.history))
	then := w.history[k]
	for i := range simRooms {
		name := roomName(i)
		if n.own.fold.rooms[name] == nil && w.knownTo(then, name, n.own.fold.position) != w.knownTo(w.simRedis, name, n.own.fold.position) {
			return
		}
	}
	w.note("Redis forgets %d commands: log to %s instead of %s", len(w.history)-k, then.last, w.last)
	w.simRedis, w.history = then, w.history[:k]
	w.fragile = n
	w.clock++ // that takes longer than a millisecond
	for _, other := range w.nodes {
		if other != n && other.own != nil {
			other.own = nil // its lease ended before there was another owner
		}
	}
}

// knownTo is a room as a replay of what Redis has computes it, up to a place in the log.
func (w *world) knownTo(r *simRedis, name string, upto ID) string {
	now := w.simRedis
	defer func() { w.simRedis = now }()
	w.simRedis = r
	f := w.newFold()
	f.source.history(f.position, upto, func(id ID, b *batch) { f.apply(id, b) })
	x, err := f.room(name)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(document(f, name), x.homes)
}
