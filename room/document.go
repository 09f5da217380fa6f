package room

import (
	"maps"
	"slices"

	"github.com/weftsync/weft/room/protocol"
)

// Document is what a room's clients edit: components by key, with a timestamp
// for every field. It is not safe for concurrent use; a [Snapshot] of it is.
//
// Components lie in pages, in the order in which their keys first came, and
// stay there for good: a deleted component leaves a tombstone. A page is the
// unit of sharing: a snapshot holds the pages as they are, and the document
// copies a page, a component or an array before it changes one that a
// snapshot might see. So a snapshot costs a pointer for every pageLen keys
// however large the document, and a room goes on while its snapshot is saved
// or sent. Every page knows the latest timestamp in it, so what changed after
// a timestamp is found without looking at the rest.
type Document struct {
	timestamp int64
	forgotten []Forgotten // in order; shared with snapshots
	epoch     uint64      // of what may be changed in place; see Snapshot
	index     map[string]uint32
	pages     []*page
	size      int // about the bytes of its JSON
	names     map[string]string
	presence  bool // no timestamps are kept: what a tombstone was, it has forgotten
}

const (
	// pageLen is few, since a page is what a checkpoint writes anew for an edit.
	pageLen = 16
	// perField is about what a field takes in JSON beside its name, twice, and value.
	perField = 16
	// maxNames bounds the field names that are kept once for all components.
	maxNames = 1024
)

type page struct {
	epoch      uint64
	latest     int64 // timestamp of the last change to the page
	components []*component
}

func newDocument() *Document {
	return &Document{epoch: 1, index: map[string]uint32{}}
}

// newPresence is for a client's presence, which is a function of what it shows
// to others, in every respect: a checkpoint has no more of it.
func newPresence() *Document {
	d := newDocument()
	d.presence = true
	return d
}

// Timestamp is the number of frames that changed the document, as long as it has
// forgotten none.
func (d *Document) Timestamp() int64 { return d.timestamp }

// Len is the number of keys, tombstones included.
func (d *Document) Len() int { return len(d.index) }

// Size is about the length of the document's JSON, in bytes.
func (d *Document) Size() int { return d.size }

// intern returns the one string that d keeps for a name.
func (d *Document) intern(name []byte) string {
	if s, ok := d.names[string(name)]; ok {
		return s
	}
	s := string(name)
	if len(d.names) < maxNames {
		if d.names == nil {
			d.names = make(map[string]string)
		}
		d.names[s] = s
	}
	return s
}

// apply applies one patch: each key's fields get the timestamp.
func (d *Document) apply(patch protocol.ComponentPatches, timestamp int64) {
	for i := range patch {
		p := &patch[i]
		at, known := d.index[string(p.Key)]
		if p.Exists == protocol.Deletes {
			d.writable(at, known, p.Key, timestamp).delete(d, p.Fields, timestamp)
			continue
		}
		was := absent
		if known {
			was = d.at(at).kind
		}
		if was != live && p.Exists != protocol.Creates {
			continue // neither there nor created: dropped
		}
		c := d.writable(at, known, p.Key, timestamp)
		if was != live {
			c.dropValues(d)
			c.kind = live
		}
		c.merge(d, p.Fields, timestamp)
	}
}

func (d *Document) at(i uint32) *component {
	return d.pages[i/pageLen].components[i%pageLen]
}

// writable returns the component at a place, or a new one, to be changed at
// the timestamp.
func (d *Document) writable(at uint32, known bool, key []byte, timestamp int64) *component {
	if !known {
		return d.insert(string(key), timestamp)
	}
	p := d.writablePage(int(at/pageLen), timestamp)
	c := p.components[at%pageLen]
	if c.epoch != d.epoch {
		clone := *c
		clone.epoch, clone.fields, clone.index = d.epoch, slices.Clone(c.fields), maps.Clone(c.index)
		c = &clone
		p.components[at%pageLen] = c
	}
	return c
}

func (d *Document) insert(key string, timestamp int64) *component {
	n := len(d.index)
	if n%pageLen == 0 {
		d.pages = append(d.pages, &page{epoch: d.epoch})
	}
	p := d.writablePage(n/pageLen, timestamp)
	c := &component{epoch: d.epoch, key: key}
	p.components = append(p.components, c)
	d.index[key] = uint32(n)
	d.size += 2*len(key) + perField
	return c
}

func (d *Document) writablePage(i int, timestamp int64) *page {
	p := d.pages[i]
	if p.epoch != d.epoch {
		p = &page{epoch: d.epoch, latest: p.latest, components: slices.Clone(p.components)}
		d.pages[i] = p
	}
	p.latest = max(p.latest, timestamp)
	return p
}

// Snapshot returns the document as it is now. It costs little, and nothing is
// copied until the document changes.
func (d *Document) Snapshot() *Snapshot {
	d.epoch++
	return &Snapshot{timestamp: d.timestamp, forgotten: d.forgotten, epoch: d.epoch - 1, pages: slices.Clone(d.pages), size: d.size}
}

// SizeAfter is about the length of the JSON, in bytes, of the pages that changed
// after the timestamp; see [Snapshot.Pages]. It looks at every component of them,
// but stops counting when it is more than enough.
func (d *Document) SizeAfter(timestamp int64, enough int) (n int) {
	for _, p := range d.pages {
		if p.latest <= timestamp {
			continue
		}
		if n > enough {
			return n
		}
		for _, c := range p.components {
			n += 2*len(c.key) + perField
			for i := range c.fields {
				n += len(c.fields[i].name) + perField + c.fields[i].value.len()
			}
		}
	}
	return n
}

// hasAfter reports whether anything was written after since.
func (d *Document) hasAfter(since float64) bool {
	for range pagesAfter(d.pages, since) {
		return true
	}
	return false
}
