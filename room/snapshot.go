package room

import (
	"io"
	"iter"
	"strconv"
)

// Snapshot is a document at one moment. It is immutable, shares its memory
// with the document it came from, and is safe for concurrent use.
//
// Its JSON is the published server's:
//
//	{"timestamp":n,"state":{key:data},"timestamps":{key:{field:n}}}
//
// with tombstones included, and "forgotten":[[n,n],…] at the end if there is
// something [Forgotten]. The zero Snapshot is an empty document.
type Snapshot struct {
	timestamp int64
	forgotten []Forgotten
	epoch     uint64 // the last of those that made anything in pages
	pages     []*page
	size      int
}

// Timestamp is the document's timestamp.
func (s *Snapshot) Timestamp() int64 { return s.timestamp }

// Len is the number of keys, tombstones included.
func (s *Snapshot) Len() int {
	if len(s.pages) == 0 {
		return 0
	}
	last := len(s.pages) - 1
	return last*pageLen + len(s.pages[last].components)
}

// Size is about the length of the JSON, in bytes.
func (s *Snapshot) Size() int { return s.size }

// Document returns a document that begins as the snapshot.
func (s *Snapshot) Document() *Document {
	d := newDocument()
	d.timestamp, d.forgotten, d.epoch, d.size = s.timestamp, s.forgotten, s.epoch+1, s.size
	d.pages = append(d.pages, s.pages...)
	d.index = make(map[string]uint32, s.Len())
	for at, c := range s.components() {
		d.index[c.key] = uint32(at)
	}
	return d
}

func (s *Snapshot) components() iter.Seq2[int, *component] {
	return func(yield func(int, *component) bool) {
		for i, p := range s.pages {
			for j, c := range p.components {
				if !yield(i*pageLen+j, c) {
					return
				}
			}
		}
	}
}

// Page is a part of a snapshot: up to 16 keys that stay together for the life
// of the room. It is what a [ChangeStorage] saves.
type Page struct{ p *page }

// AppendJSON appends the page as {"state":{…},"timestamps":{…}}.
func (p Page) AppendJSON(b []byte) []byte {
	b = append(b, `{"state":{`...)
	b, _ = appendStates(b, p.p, true)
	b = append(b, `},"timestamps":{`...)
	b, _ = appendAllTimestamps(b, p.p, true)
	return append(b, '}', '}')
}

// Pages yields the number and the content of every page that changed after the
// timestamp; -1 yields all.
func (s *Snapshot) Pages(after int64) iter.Seq2[int, Page] {
	return func(yield func(int, Page) bool) {
		for i, p := range s.pages {
			if p.latest > after && !yield(i, Page{p}) {
				return
			}
		}
	}
}

// WriteTo writes the JSON, page by page, so that a large document is never in
// memory as text as a whole.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := &counter{w: w}
	b := make([]byte, 0, 64<<10)
	b = append(b, `{"timestamp":`...)
	b = strconv.AppendInt(b, s.timestamp, 10)
	b = append(b, `,"state":{`...)
	b = s.writePages(out, b, appendStates)
	b = append(b, `},"timestamps":{`...)
	b = s.writePages(out, b, appendAllTimestamps)
	b = s.appendForgotten(append(b, '}'))
	out.write(append(b, '}'))
	return out.n, out.err
}

type appendPage func(b []byte, p *page, first bool) ([]byte, bool)

func (s *Snapshot) writePages(out *counter, b []byte, each appendPage) []byte {
	first := true
	for _, p := range s.pages {
		b, first = each(b, p, first)
		if len(b) >= 48<<10 {
			out.write(b)
			b = b[:0]
		}
	}
	return b
}

func appendStates(b []byte, p *page, first bool) ([]byte, bool) {
	for _, c := range p.components {
		if c.kind != absent {
			b = append(append(comma(b, first), c.key...), ':')
			b, first = c.appendState(b), false
		}
	}
	return b, first
}

func appendAllTimestamps(b []byte, p *page, first bool) ([]byte, bool) {
	for _, c := range p.components {
		if c.hasTimestamps() {
			b = append(append(comma(b, first), c.key...), ':')
			b, first = c.appendTimestamps(b), false
		}
	}
	return b, first
}

// MarshalJSON is the JSON as one text.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	w := appender{b: make([]byte, 0, s.size+64)}
	_, err := s.WriteTo(&w)
	return w.b, err
}

// UnmarshalJSON makes s the snapshot that data describes; see [ParseSnapshot].
func (s *Snapshot) UnmarshalJSON(data []byte) error {
	parsed, err := ParseSnapshot(data)
	if err == nil {
		*s = *parsed
	}
	return err
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// counter writes until the first error.
type counter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counter) write(b []byte) {
	if c.err == nil {
		var n int
		n, c.err = c.w.Write(b)
		c.n += int64(n)
	}
}

// pagesAfter yields the pages in which something was written after since, none
// if that is NaN.
func pagesAfter(pages []*page, since float64) iter.Seq[*page] {
	return func(yield func(*page) bool) {
		for _, p := range pages {
			if float64(p.latest) > since && !yield(p) {
				return
			}
		}
	}
}

// appendDiff appends the object of all that was written after since, and
// reports whether anything was.
func appendDiff(b []byte, pages []*page, since float64) (_ []byte, some bool) {
	b = append(b, '{')
	for p := range pagesAfter(pages, since) {
		for _, c := range p.components {
			var added bool
			b, added = c.appendDiff(b, since, !some)
			some = some || added
		}
	}
	return append(b, '}'), some
}
