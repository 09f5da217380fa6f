package cluster

import "slices"

// bundle is what an owner tells one edge at a time about one partition.
type bundle struct {
	edge      string // whom it is for
	owner     string // incarnation
	partition int
	number    uint64 // of the bundles in the edge's stream, from 1, whoever put them there: a gap tells that some are lost
	epoch     uint64
	upto      ID     // everything up to here has been told
	confirmed uint64 // the last of the edge's batches that has been applied
	expected  uint64 // the batch that is missing; 0: none
	outputs   []output
}

// receiver is an edge's end of what owners tell it about one partition: it
// passes on what is new, once and in order, whichever owner says it. It is a
// pure state machine.
type receiver struct {
	epoch  uint64
	seen   ID
	rooms  map[string]int64 // the last timestamp of each room that has sessions here
	guards guards
}

// heard is what a receiver makes of a bundle.
type heard struct {
	stale   bool     // it comes from an owner that is none any more
	other   bool     // it comes from another owner than what was heard before
	outputs []output // to be delivered
	missing []string // rooms of which something is missing, here or at the owner: their sessions must close
}

// forget tells that a room has no sessions here any more.
func (r *receiver) forget(room string) { delete(r.rooms, room) }

// accept takes a bundle. local reports whether a room has sessions here.
func (r *receiver) accept(b *bundle, local func(room string) bool) heard {
	if b.epoch < r.epoch && !r.guards.noEpochCheck {
		return heard{stale: true}
	}
	h := heard{other: r.epoch != 0 && b.epoch > r.epoch}
	r.epoch = max(r.epoch, b.epoch)
	lost := map[string]bool{}
	for _, o := range b.outputs {
		if o.late {
			h.outputs = append(h.outputs, o)
			continue
		}
		if !o.id.After(r.seen) || lost[o.room] {
			continue // told before
		}
		if o.reply != nil {
			h.outputs = append(h.outputs, o)
			continue
		}
		if !local(o.room) {
			delete(r.rooms, o.room)
			continue
		}
		last, known := r.rooms[o.room]
		next := last + 1
		if o.passed && o.passedFrom <= last {
			next = o.timestamp
		}
		if known && o.timestamp > next && !r.guards.noContiguityCheck {
			lost[o.room] = true
			delete(r.rooms, o.room)
			h.missing = append(h.missing, o.room)
			continue
		}
		if o.timestamp < last && o.close == nil && !slices.Contains(h.missing, o.room) {
			// The room has lost what its sessions here have seen: they come back and say so.
			h.missing = append(h.missing, o.room)
		}
		if r.rooms == nil {
			r.rooms = map[string]int64{}
		}
		if o.close == nil { // one of a room that cannot be loaded has no timestamp
			last = 0
		}
		r.rooms[o.room] = max(last, o.timestamp)
		if o.passed {
			continue
		}
		h.outputs = append(h.outputs, o)
	}
	if b.upto.After(r.seen) {
		r.seen = b.upto
	}
	return h
}
