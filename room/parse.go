package room

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/weftsync/weft/room/protocol"
)

// ErrBadSnapshot is wrapped by the errors of [ParseSnapshot].
var ErrBadSnapshot = errors.New("unreadable snapshot")

// ParseSnapshot reads a snapshot's JSON. It keeps nothing of data. Members that
// it does not know are passed over; without a timestamp, or with anything of
// the wrong type, the error wraps [ErrBadSnapshot] and names the place by byte
// offset.
func ParseSnapshot(data []byte) (*Snapshot, error) {
	l := &loader{doc: newDocument()}
	if err := l.load(data, l.snapshot); err != nil {
		return nil, err
	}
	return l.doc.Snapshot(), nil
}

// PageParser puts a snapshot together from its pages. The zero value waits for
// the first.
type PageParser struct {
	loader loader
	parsed int
	moved  bool
}

// Parse reads the next page, in the form of [Page.AppendJSON]. It keeps nothing
// of data. The errors are those of [ParseSnapshot]; after one there is no
// snapshot.
func (p *PageParser) Parse(data []byte) error {
	l := &p.loader
	if l.doc == nil {
		l.doc = newDocument()
	}
	p.moved = p.moved || l.doc.Len() != p.parsed*pageLen
	p.parsed++
	return l.load(data, l.page)
}

// Snapshot returns the document of the pages parsed, and whether the snapshot
// has the same pages under the same numbers. If it has not, since a page was
// written with more or fewer keys than it could have, they must all be saved
// anew: to replace some would leave keys in two of them.
func (p *PageParser) Snapshot(timestamp int64, forgotten ...Forgotten) (s *Snapshot, samePages bool) {
	doc := p.loader.doc
	if doc == nil {
		doc = newDocument()
	}
	doc.timestamp, doc.forgotten = timestamp, forgotten
	return doc.Snapshot(), !p.moved && len(doc.pages) == p.parsed
}

// newDecoder takes JSON apart as leniently as messages are: see [protocol.Parser].
func newDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

type loader struct {
	data []byte
	dec  *jsontext.Decoder
	doc  *Document

	fields []protocol.Field // of the component being read
}

// load reads a text into the document.
func (l *loader) load(data []byte, read func() error) error {
	l.data, l.dec = data, newDecoder(data)
	err := read()
	if err == nil {
		switch _, end := l.dec.ReadToken(); {
		case end == nil:
			err = errors.New("text after the snapshot")
		case !errors.Is(end, io.EOF):
			err = reason(end)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: at byte %d: %w", ErrBadSnapshot, l.dec.InputOffset(), err)
	}
	l.data, l.dec = nil, nil
	return err
}

func (l *loader) snapshot() error {
	seen := false
	err := l.object("the snapshot", func(name []byte) (err error) {
		if string(name) == `"timestamp"` {
			seen = true
			l.doc.timestamp, err = l.timestamp()
			return err
		}
		if string(name) == `"forgotten"` {
			return l.forgotten()
		}
		return l.member(name)
	})
	if err == nil && !seen {
		err = errors.New("there is no timestamp")
	}
	return err
}

func (l *loader) page() error { return l.object("the page", l.member) }

func (l *loader) member(name []byte) error {
	switch string(name) {
	case `"state"`:
		return l.object("state", l.state)
	case `"timestamps"`:
		return l.object("timestamps", l.timestamps)
	default:
		return l.dec.SkipValue()
	}
}

// reason keeps the text of the document out of a syntax error, which is what
// will stand in the log.
func reason(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the text ends too early")
	}
	if errors.As(err, &syntax) {
		return errors.New("this is not JSON")
	}
	return err
}

// object reads an object; each reads the value of a name.
func (l *loader) object(what string, each func(name []byte) error) error {
	if l.dec.PeekKind() != '{' {
		if _, err := l.dec.ReadToken(); err != nil {
			return reason(err)
		}
		return fmt.Errorf("%s is not an object", what)
	}
	if _, err := l.dec.ReadToken(); err != nil {
		return reason(err)
	}
	for l.dec.PeekKind() != '}' {
		name, err := l.value()
		if err != nil {
			return err
		}
		if err := each(protocol.Canonical(name)); err != nil {
			return reason(err)
		}
	}
	_, err := l.dec.ReadToken()
	return err
}

func (l *loader) value() ([]byte, error) {
	v, err := l.dec.ReadValue()
	if err != nil {
		return nil, reason(err)
	}
	end := int(l.dec.InputOffset())
	return l.data[end-len(v) : end], nil
}

// component returns the component of a key, new or not.
func (l *loader) component(key []byte) *component {
	at, known := l.doc.index[string(key)]
	return l.doc.writable(at, known, key, 0)
}

// state reads one component's data. It may come after its timestamps, which
// then stay.
func (l *loader) state(key []byte) error {
	c := l.component(key)
	c.kind = live
	l.fields = l.fields[:0]
	err := l.object("a component", func(name []byte) error {
		v, err := l.value()
		l.fields = append(l.fields, protocol.Field{Name: name, Value: v})
		if string(name) == existsName { // if said again, the last counts
			c.kind = live
			if string(v) == "false" {
				c.kind = tombstone
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	known := slices.Clone(c.fields)
	c.dropValues(l.doc)
	c.merge(l.doc, l.fields, noTimestamp)
	for i := range known {
		c.fields[i].timestamp = known[i].timestamp
	}
	return nil
}

// timestamps reads one component's timestamps.
func (l *loader) timestamps(key []byte) error {
	c := l.component(key)
	page := l.doc.pages[l.doc.index[string(key)]/pageLen]
	return l.object("a component's timestamps", func(name []byte) error {
		t, err := l.timestamp()
		if err != nil {
			return err
		}
		at := c.find(name)
		if at < 0 {
			c.add(l.doc.intern(name))
			l.doc.size += len(name) + perField
			at = len(c.fields) - 1
		}
		c.fields[at].timestamp = t
		page.latest = max(page.latest, t)
		return nil
	})
}

func (l *loader) timestamp() (int64, error) {
	if l.dec.PeekKind() != '0' {
		if _, err := l.dec.ReadToken(); err != nil {
			return 0, reason(err)
		}
		return 0, errors.New("a timestamp is not a number")
	}
	v, err := l.value()
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil && n >= 0 && n <= maxTimestamp {
		return n, nil
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > maxTimestamp {
		return 0, errors.New("a timestamp is not a whole number")
	}
	return int64(f), nil
}

// forgotten reads a list of pairs of timestamps.
func (l *loader) forgotten() error {
	l.doc.forgotten = nil
	return l.list("forgotten", func() error {
		var pair []int64
		err := l.list("a range of what is forgotten", func() error {
			t, err := l.timestamp()
			pair = append(pair, t)
			return err
		})
		if err == nil && (len(pair) != 2 || pair[0] >= pair[1]) {
			err = errors.New("a range of what is forgotten is not two timestamps, the lesser first")
		}
		if err == nil {
			l.doc.forgotten = append(l.doc.forgotten, Forgotten{pair[0], pair[1]})
		}
		return err
	})
}

// list reads a list; each reads an element.
func (l *loader) list(what string, each func() error) error {
	if l.dec.PeekKind() != '[' {
		if _, err := l.dec.ReadToken(); err != nil {
			return reason(err)
		}
		return fmt.Errorf("%s is not a list", what)
	}
	if _, err := l.dec.ReadToken(); err != nil {
		return reason(err)
	}
	for l.dec.PeekKind() != ']' {
		if err := each(); err != nil {
			return reason(err)
		}
	}
	_, err := l.dec.ReadToken()
	return err
}

// maxTimestamp is the last whole number that JavaScript counts without a gap.
const maxTimestamp = 1<<53 - 1
