package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

// world is a partition, the nodes that serve it and their clients, with a fake
// Redis between them and a seeded fate: which of them moves next, and what goes
// wrong. Everything that decides in it is the real code.
type world struct {
	rng    *rand.Rand
	guards guards
	trace  []string

	*simRedis                     // as it is now
	history   []*simRedis         // as it was before each of the last commands
	clock     uint64              // ms
	epochs    uint64              // the highest that was ever claimed
	told      ID                  // the last entry that any owner has applied
	streams   map[string][]bundle // by edge
	emitted   map[string]uint64   // bundles, by edge
	late      []entry             // appends that arrive again
	// fragile is the owner while it alone knows what Redis has forgotten.
	fragile *node

	nodes   []*node
	clients []*simClient
	boots   int
	gone    map[string]bool // edges whose sessions have been sent off
	dead    []string        // edges that are to be sent off
}

type entry struct {
	id, before ID
	data       []byte
}

type node struct {
	name   int
	up     bool
	paused bool
	edge   *simEdge
	own    *simOwner
}

type simEdge struct {
	inc      string
	sender   *sender
	receiver receiver
	sessions map[string]*simClient
	read     int    // of its stream
	number   uint64 // of the last bundle
}

type simOwner struct {
	epoch   uint64
	fold    *fold
	quiet   ID // the previous owner has told everything up to here
	last    ID // the last entry that was read; zero: not known
	fence   store.Fence
	pending []bundle // to be emitted, in order
}

const (
	simNodes   = 3
	simClients = 4
	simRooms   = 2
)

func newWorld(seed uint64, g guards) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), guards: g, simRedis: newSimRedis(g),
		streams: map[string][]bundle{}, emitted: map[string]uint64{}, gone: map[string]bool{},
	}
	for i := range simNodes {
		n := &node{name: i}
		w.nodes = append(w.nodes, n)
		w.boot(n)
	}
	for i := range simClients {
		w.clients = append(w.clients, newSimClient(w, i))
	}
	return w
}

// simLimits are a node's: the last one takes few sessions, and nothing into a
// room of more than a few edits.
func simLimits(node int) room.Limits {
	l := room.Limits{}.WithDefaults()
	if node == simNodes-1 {
		l.MaxSessions, l.MaxDocumentBytes = 2, 1500
	}
	return l
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) boot(n *node) {
	w.boots++
	n.up, n.paused = true, false
	inc := fmt.Sprintf("n%d.%d", n.name, w.boots)
	n.edge = &simEdge{inc: inc, sender: newSender(inc, simLimits(n.name)), receiver: receiver{guards: w.guards}, sessions: map[string]*simClient{}}
	n.own = nil
	w.note("boot %s", inc)
}

// run lets the world live for a number of steps, then come to rest.
func (w *world) run(steps int) error {
	for range steps {
		if err := w.step(); err != nil {
			return err
		}
	}
	return w.rest()
}

// step lets somebody do something.
func (w *world) step() error {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if w.chance(10) {
		w.learn(n)
	}
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch p := w.rng.IntN(1000); {
	case p < 250:
		c.act()
	case p < 450:
		w.appendFrom(n, true)
	case p < 620:
		w.ownerReads()
	case p < 720:
		w.ownerEmits()
	case p < 900:
		return w.edgeReads(n)
	case p < 925:
		w.ownerCheckpoints(w.ownerOf(n))
	case p < 930:
		w.ownerTrims(w.ownerOf(n))
	case p < 935:
		w.ownerLooks(w.ownerOf(n))
		w.ownerEvicts(w.ownerOf(n))
	case p < 950:
		w.claim(n)
	case p < 957:
		w.crash(n)
	case p < 965:
		n.paused = n.up && !n.paused && n != w.fragile
		w.note("%s paused %v", n.edge.inc, n.paused)
	case p < 970:
		w.handOff()
	case p < 978:
		w.sendOff()
	case p < 984:
		w.loseBundle(n)
	case p < 990:
		w.forget()
	case p < 995:
		w.arriveLate()
	default:
		if n.up && !n.paused {
			n.edge.sender.doubt()
		}
	}
	return nil
}

// appendFrom appends a node's next batch, or loses the request or the reply.
func (w *world) appendFrom(n *node, faults bool) {
	if !n.up || n.paused {
		return
	}
	s := n.edge.sender
	b := s.take()
	if b == nil {
		return
	}
	data := encodeBatch(b)
	fate := 100
	if faults {
		fate = w.rng.IntN(100)
	}
	if fate < 5 {
		w.note("%s loses request %d", n.edge.inc, b.number)
		s.unknown()
		return
	}
	w.store(data)
	switch {
	case fate < 15:
		w.note("%s loses reply %d", n.edge.inc, b.number)
		s.unknown()
	case fate < 20:
		w.late = append(w.late, entry{data: data})
		s.appended(b)
	default:
		s.appended(b)
	}
}

func (w *world) store(data []byte) {
	w.command()
	w.clock += uint64(w.rng.IntN(3))
	id := ID{w.clock, 0}
	if !id.After(w.generated) {
		id = ID{w.generated.MS, w.generated.Seq + 1}
	}
	w.log = append(w.log, entry{id, w.last, data})
	w.last, w.generated = id, id
}

// arriveLate stores an append again that was taken long before.
func (w *world) arriveLate() {
	if len(w.late) > 0 {
		w.note("late append")
		w.store(w.late[0].data)
		w.late = w.late[1:]
	}
}

// ownerOf is the node if it thinks that it owns, else whoever does so.
func (w *world) ownerOf(n *node) *node {
	if n.own != nil && n.up && !n.paused {
		return n
	}
	return w.active()
}

// active is a node that is up and thinks that it owns; there may be several.
func (w *world) active() *node {
	var list []*node
	for _, n := range w.nodes {
		if n.own != nil && n.up && !n.paused {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.rng.IntN(len(list))]
}

// ownerReads lets an owner apply the next entry.
func (w *world) ownerReads() {
	n := w.active()
	if n == nil {
		return
	}
	o := n.own
	for _, e := range w.log {
		if !e.id.After(o.fold.position) {
			continue
		}
		if o.last != (ID{}) && e.before != o.last && !w.guards.noEpochCheck {
			w.mend(n)
			return
		}
		b, err := parseBatch(e.data)
		if err != nil {
			panic(err)
		}
		if loaded := o.fold.bring(&b); len(loaded) > 0 && w.lookAt(n) != lookWell {
			for _, name := range loaded {
				delete(o.fold.rooms, name)
			}
			w.ownerLooks(n)
			return
		}
		outputs, v := o.fold.apply(e.id, &b)
		o.last = e.id
		o.fence.Chain.Read(e.id.String())
		w.note("%s (epoch %d) reads %s: %s/%d, %v", n.edge.inc, o.epoch, e.id, b.edge, b.number, v)
		if e.id.After(w.told) {
			w.told = e.id
		}
		if e.id.After(o.quiet) {
			w.address(o, n, b.edge, e.id, outputs, v)
		}
		return
	}
}

// address makes bundles of an entry's outputs, one for each edge, and one for
// the sender in any case: it waits for the confirmation.
func (w *world) address(o *simOwner, n *node, from string, id ID, outputs []output, v verdict) {
	byEdge := map[string][]output{from: nil}
	for _, x := range outputs {
		byEdge[x.edge] = append(byEdge[x.edge], x)
	}
	for _, edge := range slices.Sorted(maps.Keys(byEdge)) {
		b := bundle{edge: edge, owner: n.edge.inc, epoch: o.epoch, upto: id, outputs: byEdge[edge]}
		if edge == from {
			b.confirmed = o.fold.edges[from].number
			if v == gap {
				b.expected = b.confirmed + 1
			}
		}
		for i := range b.outputs {
			if d := b.outputs[i].diff; d != nil {
				b.outputs[i].frame = d.Frame()
			}
		}
		o.pending = append(o.pending, b)
	}
}

// ownerEmits puts one bundle into its edge's stream.
func (w *world) ownerEmits() {
	if n := w.active(); n != nil && len(n.own.pending) > 0 {
		w.emit(n.own)
	}
}

// emit puts an owner's next bundle into its edge's stream.
func (w *world) emit(o *simOwner) {
	b := o.pending[0]
	o.pending = o.pending[1:]
	w.emitted[b.edge]++
	b.number = w.emitted[b.edge]
	w.streams[b.edge] = append(w.streams[b.edge], b)
}

// edgeReads lets an edge take the next bundle from its stream.
func (w *world) edgeReads(n *node) error {
	if !n.up || n.paused {
		return nil
	}
	e := n.edge
	if e.read >= len(w.streams[e.inc]) {
		return nil
	}
	b := w.streams[e.inc][e.read]
	e.read++
	if b.number != e.number+1 && !w.guards.noContiguityCheck {
		w.note("%s misses a bundle", e.inc)
		for _, session := range slices.Sorted(maps.Keys(e.sessions)) {
			w.closeSession(n, session)
		}
	}
	e.number = b.number
	h := e.receiver.accept(&b, func(name string) bool {
		for _, c := range e.sessions {
			if c.room == name {
				return true
			}
		}
		return false
	})
	if h.stale {
		return nil
	}
	e.sender.confirmed(b.confirmed, b.upto)
	if b.expected > 0 && !e.sender.expected(b.expected, b.upto) {
		return fmt.Errorf("%s is asked for batch %d, which it has been told is applied", e.inc, b.expected)
	}
	for _, x := range h.outputs {
		if err := w.deliver(n, &x); err != nil {
			return err
		}
	}
	for _, name := range h.missing {
		for session, c := range maps.Clone(e.sessions) {
			if c.room == name {
				w.closeSession(n, session)
			}
		}
	}
	return nil
}

func (w *world) deliver(n *node, x *output) error {
	for _, session := range slices.Sorted(maps.Keys(n.edge.sessions)) {
		c := n.edge.sessions[session]
		if c.room != x.room || x.to != "" && x.to != session || session == x.except {
			continue
		}
		if x.joined {
			c.joined = true
			continue
		}
		if x.close != nil {
			w.closeSession(n, session)
			continue
		}
		if !c.joined {
			continue
		}
		if x.frame.IsZero() {
			continue
		}
		if err := c.receive(x.frame.Text()); err != nil {
			return fmt.Errorf("client %d, session %s, after %s: %w", c.number, session, x.id, err)
		}
	}
	return nil
}

// closeSession closes a session's socket at its edge.
func (w *world) closeSession(n *node, session string) {
	c := n.edge.sessions[session]
	if c == nil {
		return
	}
	delete(n.edge.sessions, session)
	n.edge.sender.add(item{kind: itemLeave, room: c.room, session: session})
	c.closed()
}

// ownerCheckpoints saves a room, once all that came of it has been emitted.
func (w *world) ownerCheckpoints(n *node) {
	if n == nil || len(n.own.pending) > 0 {
		return
	}
	o := n.own
	for _, name := range slices.Sorted(maps.Keys(o.fold.rooms)) {
		r := o.fold.rooms[name]
		if !r.dirty() || w.chance(50) {
			continue
		}
		if !w.write(n, func(x *simRedis) { x.rooms[name] = r.checkpoint() }) {
			return
		}
		r.saved = r.applied
	}
}

// ownerTrims cuts the log below what the checkpoints have.
func (w *world) ownerTrims(n *node) {
	if n == nil || len(n.own.pending) > 0 {
		return
	}
	o := n.own
	if !w.guards.noTrimBound {
		for _, r := range o.fold.rooms {
			if r.dirty() {
				return
			}
		}
	}
	if w.write(n, func(x *simRedis) { x.trim(o.fold.checkpoint()) }) {
		o.fold.base = o.fold.checkpoint()
		w.note("%s (epoch %d) trims to %s", n.edge.inc, o.epoch, o.fold.position)
	}
}

// claim makes a node the owner, if nobody is who could be.
func (w *world) claim(n *node) {
	if !n.up || n.paused || n.own != nil || w.fragile != nil {
		return
	}
	if owner := w.nodeOf(w.owner); !w.free && owner != nil && owner.own != nil && owner.own.epoch == w.epoch {
		return
	}
	quiet := ID{}
	if w.free {
		quiet = w.cut
	}
	w.command()
	w.epoch, w.link, w.owner, w.free = max(w.epoch, w.epochs)+1, 0, n.edge.inc, false
	w.epochs = w.epoch
	f := w.newFold()
	n.own = &simOwner{epoch: w.epoch, fold: f, quiet: quiet, last: f.position,
		fence: store.Fence{Epoch: w.epoch, Owner: n.edge.inc, Chain: &store.Chain{}}}
	w.note("%s claims epoch %d", n.edge.inc, w.epoch)
}

// nodeOf is an incarnation's node, if that is up and not paused.
func (w *world) nodeOf(inc string) *node {
	for _, n := range w.nodes {
		if n.edge.inc == inc && n.up && !n.paused {
			return n
		}
	}
	return nil
}

func (w *world) newFold() *fold {
	f := newFold(w.base, simSource{w})
	f.guards = w.guards
	return f
}

// simSource is the world as an owner reads it.
type simSource struct{ w *world }

func (s simSource) load(name string) (*roomCheckpoint, error) { return s.w.rooms[name], nil }
func (s simSource) live() []string                            { return slices.Sorted(maps.Keys(s.w.rooms)) }
func (s simSource) broke(place, string, string, int)          {}
func (s simSource) held(place)                                {}
func (s simSource) history(base, upto ID, yield func(ID, *batch)) {
	for _, e := range s.w.log {
		if b, err := parseBatch(e.data); err == nil && e.id.After(base) && !e.id.After(upto) {
			yield(e.id, &b)
		}
	}
}

// handOff lets the owner finish what it has begun and release.
func (w *world) handOff() {
	n := w.nodeOf(w.owner)
	if w.free || n == nil || n == w.fragile || n.own == nil || n.own.epoch != w.epoch {
		return
	}
	for len(n.own.pending) > 0 {
		w.emit(n.own)
	}
	if w.chance(50) {
		w.ownerCheckpoints(n)
		w.ownerTrims(n)
	}
	if n.own == nil {
		return
	}
	if w.write(n, func(x *simRedis) { x.free, x.cut = true, n.own.fold.position }) {
		w.note("%s releases", n.edge.inc)
		n.own = nil
		if w.chance(50) {
			w.claim(w.nodes[w.rng.IntN(len(w.nodes))])
			w.forget()
		}
	}
}

// crash ends a node with all that it has in memory, and boots it anew.
func (w *world) crash(n *node) {
	if !n.up || n == w.fragile {
		return
	}
	w.note("%s crashes", n.edge.inc)
	w.dead = append(w.dead, n.edge.inc)
	for _, session := range slices.Sorted(maps.Keys(n.edge.sessions)) {
		n.edge.sessions[session].closed()
	}
	w.boot(n)
}

// learn lets a node find out that it was taken for dead: it begins anew.
func (w *world) learn(n *node) {
	if n.up && !n.paused && w.gone[n.edge.inc] {
		w.note("%s learns that it was sent off", n.edge.inc)
		w.crash(n)
	}
}

// sendOff lets an owner tell the log that an edge is gone: one that is, or one
// that has only been silent for too long.
func (w *world) sendOff() {
	n := w.active()
	if n == nil {
		return
	}
	for _, other := range w.nodes {
		if other.paused && !w.gone[other.edge.inc] && w.chance(50) {
			w.dead = append(w.dead, other.edge.inc)
		}
	}
	for _, inc := range w.dead {
		if !w.gone[inc] {
			w.gone[inc] = true
			w.note("%s is sent off", inc)
			n.edge.sender.add(item{kind: itemEdgeGone, session: inc})
		}
	}
	w.dead = nil
}

// loseBundle drops the oldest bundle that an edge has not read, as a stream
// with a bound does to make room for another.
func (w *world) loseBundle(n *node) {
	s := w.streams[n.edge.inc]
	if n.edge.read+1 < len(s) {
		w.note("%s's stream is cut", n.edge.inc)
		w.streams[n.edge.inc] = slices.Delete(s, n.edge.read, n.edge.read+1)
	}
}

// rest ends all faults and lets everything that is under way arrive.
func (w *world) rest() error {
	w.note("rest")
	for _, n := range w.nodes {
		n.paused = false
	}
	w.sendOff()
	for _, n := range w.nodes {
		w.learn(n)
	}
	for round := range 60 {
		for _, n := range w.nodes {
			if n.own != nil {
				w.ownerLooks(n)
			}
		}
		if n := w.nodeOf(w.owner); w.free || n == nil || n.own == nil || n.own.epoch != w.epoch {
			for _, n := range w.nodes {
				if n.own != nil && n.own.epoch != w.epoch {
					n.own = nil
				}
			}
			w.claim(w.nodes[0])
		}
		for _, n := range w.nodes {
			if n.own != nil && n.own.epoch != w.epoch {
				n.own = nil // its lease told it
			}
		}
		for _, c := range w.clients {
			c.settle()
		}
		for _, n := range w.nodes {
			if round%5 == 4 {
				n.edge.sender.doubt()
			}
			for n.edge.sender.pending() {
				w.appendFrom(n, false)
			}
		}
		for i := 0; i <= len(w.log); i++ {
			w.ownerReads()
		}
		for _, n := range w.nodes {
			for n.own != nil && len(n.own.pending) > 0 {
				w.emit(n.own)
			}
		}
		for _, n := range w.nodes {
			for n.edge.read < len(w.streams[n.edge.inc]) {
				if err := w.edgeReads(n); err != nil {
					return err
				}
			}
		}
	}
	return w.check()
}

// check says what must be true at rest.
func (w *world) check() error {
	live := w.nodeOf(w.owner).own.fold
	replay := w.newFold()
	for _, e := range w.log {
		if b, err := parseBatch(e.data); err != nil {
			return err
		} else if e.id.After(replay.position) {
			replay.apply(e.id, &b)
		}
	}
	for i := range simRooms {
		name := roomName(i)
		a, b := document(live, name), document(replay, name)
		if a != b {
			return fmt.Errorf("%s: the owner has %s, a replay %s", name, a, b)
		}
		var snapshot struct {
			State map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(a), &snapshot); err != nil {
			return err
		}
		for _, c := range w.clients {
			if c.room != name {
				continue
			}
			if !c.synced || len(c.unacked) > 0 {
				return fmt.Errorf("client %d does not come to rest", c.number)
			}
			for key := range c.acked {
				if snapshot.State[key] == nil {
					return fmt.Errorf("client %d: %s was acknowledged and is lost", c.number, key)
				}
			}
			if want := slices.Sorted(maps.Keys(snapshot.State)); !slices.Equal(want, slices.Sorted(maps.Keys(c.view))) {
				return fmt.Errorf("client %d sees %v of %v", c.number, slices.Sorted(maps.Keys(c.view)), want)
			}
		}
	}
	for _, n := range w.nodes {
		if !n.edge.sender.idle() {
			return fmt.Errorf("%s does not come to rest", n.edge.inc)
		}
	}
	return nil
}

func document(f *fold, name string) string {
	r, err := f.room(name)
	if err != nil {
		return err.Error()
	}
	text, _ := r.state.Document().Snapshot().MarshalJSON()
	return string(text)
}

func roomName(i int) string { return fmt.Sprintf("room-%d", i) }

func (w *world) story() string { return strings.Join(w.trace, "\n") }
