package room

import (
	"strconv"
	"strings"

	"github.com/weftsync/weft/room/protocol"
)

// component is one key of a document: its fields, and when each was written.
type component struct {
	epoch uint64
	key   string // canonical JSON string
	kind  kind
	// fields holds the values in the order in which they came, and the
	// timestamps. A tombstone's fields have a timestamp and, but for _exists,
	// no value.
	fields []field
	// index finds a field once there are more than fewFields. Clones do not
	// share it: several documents may come from one snapshot, and each adds
	// fields of its own.
	index map[string]int
}

type field struct {
	name      string // canonical JSON string
	value     value
	timestamp int64 // noTimestamp if it was never written by a patch
}

const (
	noTimestamp = -1
	fewFields   = 24
)

// kind says what the document state has for a key.
type kind uint8

const (
	absent    kind = iota // nothing: the key is known only by timestamps
	live                  // a component
	tombstone             // {"_exists":false}
)

const existsName = `"_exists"`

// find returns the field's position, or -1.
func (c *component) find(name []byte) int {
	if c.index != nil {
		if i, ok := c.index[string(name)]; ok {
			return i
		}
		return -1
	}
	for i := range c.fields {
		if c.fields[i].name == string(name) {
			return i
		}
	}
	return -1
}

// add appends a field that the component does not have.
func (c *component) add(name string) *field {
	c.fields = append(c.fields, field{name: name, timestamp: noTimestamp})
	switch {
	case c.index != nil:
		c.index[name] = len(c.fields) - 1
	case len(c.fields) > fewFields:
		c.index = make(map[string]int, 2*len(c.fields))
		for i := range c.fields {
			c.index[c.fields[i].name] = i
		}
	}
	return &c.fields[len(c.fields)-1]
}

// set applies one field of a patch.
func (c *component) set(d *Document, f *protocol.Field, v value, timestamp int64) {
	i := c.find(f.Name)
	var at *field
	if i < 0 {
		at = c.add(d.intern(f.Name))
		d.size += len(at.name) + perField
	} else {
		at = &c.fields[i]
	}
	d.size -= at.value.len()
	if f.IsDelta {
		v = at.value.applyDelta(&f.Delta, d.epoch)
	}
	d.size += v.len()
	at.value = v
	at.timestamp = timestamp
}

// delete makes the component a tombstone that remembers which fields the
// patch named.
func (c *component) delete(d *Document, fields []protocol.Field, timestamp int64) {
	for i := range c.fields {
		d.size -= len(c.fields[i].name) + perField + c.fields[i].value.len()
	}
	c.kind, c.fields, c.index = tombstone, nil, nil
	for i := range fields {
		if d.presence && string(fields[i].Name) != existsName {
			continue
		}
		f := c.add(d.intern(fields[i].Name))
		f.timestamp = timestamp
		if f.name == existsName {
			f.value = value{raw: "false"}
		}
		d.size += len(f.name) + perField + f.value.len()
	}
}

// dropValues forgets a tombstone's values, keeping the timestamps, before the
// component is created anew.
func (c *component) dropValues(d *Document) {
	for i := range c.fields {
		d.size -= c.fields[i].value.len()
		c.fields[i].value = value{}
	}
}

// longValue is from which length a value is copied by itself, so that a short
// one does not keep it in memory when it is gone.
const longValue = 512

// merge writes a patch's fields over the component's. The plain values are
// copied, since the patch's bytes are not the document's to keep: the short ones
// together.
func (c *component) merge(d *Document, fields []protocol.Field, timestamp int64) {
	n := 0
	for i := range fields {
		if together(&fields[i]) {
			n += len(fields[i].Value)
		}
	}
	var text strings.Builder
	text.Grow(n)
	for i := range fields {
		if together(&fields[i]) {
			text.Write(fields[i].Value)
		}
	}
	rest := text.String()
	if c.fields == nil {
		c.fields = make([]field, 0, len(fields))
	}
	for i := range fields {
		f := &fields[i]
		var v value
		switch {
		case together(f):
			v.raw, rest = rest[:len(f.Value)], rest[len(f.Value):]
		case !f.IsDelta:
			v.raw = string(f.Value)
		}
		c.set(d, f, v, timestamp)
	}
}

// together reports whether merge copies a field's value with others.
func together(f *protocol.Field) bool { return !f.IsDelta && len(f.Value) < longValue }

// appendState appends the component as the document state has it.
func (c *component) appendState(b []byte) []byte {
	b = append(b, '{')
	first := true
	for i := range c.fields {
		if f := &c.fields[i]; !f.value.isZero() {
			b, first = comma(b, first), false
			b = append(append(b, f.name...), ':')
			b = f.value.appendJSON(b)
		}
	}
	return append(b, '}')
}

// appendTimestamps appends the component's field timestamps.
func (c *component) appendTimestamps(b []byte) []byte {
	b = append(b, '{')
	first := true
	for i := range c.fields {
		if f := &c.fields[i]; f.timestamp != noTimestamp {
			b, first = comma(b, first), false
			b = append(append(b, f.name...), ':')
			b = strconv.AppendInt(b, f.timestamp, 10)
		}
	}
	return append(b, '}')
}

func (c *component) hasTimestamps() bool {
	for i := range c.fields {
		if c.fields[i].timestamp != noTimestamp {
			return true
		}
	}
	return false
}

// appendDiff appends the fields written after since, if any was. A field that
// has a timestamp but no value is left out, though it counts.
func (c *component) appendDiff(b []byte, since float64, first bool) (_ []byte, some bool) {
	if c.kind == absent {
		return b, false
	}
	for i := range c.fields {
		f := &c.fields[i]
		if f.timestamp == noTimestamp || !(float64(f.timestamp) > since) { // since may be NaN
			continue
		}
		if !some {
			some = true
			b = comma(b, first)
			b = append(append(b, c.key...), ':', '{')
			first = true
		}
		if !f.value.isZero() {
			b, first = comma(b, first), false
			b = append(append(b, f.name...), ':')
			b = f.value.appendJSON(b)
		}
	}
	if some {
		b = append(b, '}')
	}
	return b, some
}

func comma(b []byte, first bool) []byte {
	if first {
		return b
	}
	return append(b, ',')
}
