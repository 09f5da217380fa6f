package protocol

import (
	"fmt"
	"math"
)

func (p *Parser) readDocument(m *Message) error { return p.list(&m.Document) }
func (p *Parser) readPresence(m *Message) error { return p.list(&m.Presence) }

func (l *List) reset() {
	l.Raw, l.Patches, l.Growth = nil, l.Patches[:0], 0
}

// list reads a list of patches.
func (p *Parser) list(l *List) error {
	l.reset()
	if p.dec.PeekKind() != '[' {
		return p.skipWrong("", "must be a list")
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	start := int(p.dec.InputOffset()) - 1
	for p.dec.PeekKind() != ']' {
		p.index++
		p.key = nil
		var patch *ComponentPatches
		l.Patches, patch = extend(l.Patches)
		*patch = (*patch)[:0]
		if err := p.patch(l, patch); err != nil {
			return err
		}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	l.Raw = p.data[start:p.dec.InputOffset()]
	return nil
}

// patch reads an object of component patches.
func (p *Parser) patch(l *List, patch *ComponentPatches) error {
	if p.dec.PeekKind() != '{' {
		return p.skipWrong("", "must be an object")
	}
	var seen names
	err := p.each(func(key []byte) error {
		p.key = key
		at := seen.find(key, len(*patch), func(i int) []byte { return (*patch)[i].Key })
		var c *ComponentPatch
		if at >= 0 {
			c = &(*patch)[at] // said again: the last wins
		} else {
			*patch, c = extend(*patch)
		}
		c.Key, c.Exists, c.Fields = key, Updates, c.Fields[:0]
		return p.component(l, c)
	})
	p.key = nil
	return err
}

const existsName = `"_exists"`

// component reads an object of fields.
func (p *Parser) component(l *List, c *ComponentPatch) error {
	if p.dec.PeekKind() != '{' {
		return p.skipWrong("", "must be an object")
	}
	var seen names
	return p.each(func(name []byte) (err error) {
		at := seen.find(name, len(c.Fields), func(i int) []byte { return c.Fields[i].Name })
		var f *Field
		if at >= 0 {
			f = &c.Fields[at]
		} else {
			c.Fields, f = extend(c.Fields)
		}
		f.Name, f.IsDelta, f.Delta.Len, f.Delta.Runs = name, false, 0, f.Delta.Runs[:0]
		if p.dec.PeekKind() == '{' {
			err = p.object(f)
		} else {
			f.Value, err = p.value()
		}
		if err != nil {
			return err
		}
		if f.IsDelta {
			l.Growth += f.Delta.Len
		}
		if string(name) == existsName {
			c.Exists = Updates
			switch f.Value[0] {
			case 't':
				c.Exists = Creates
			case 'f':
				c.Exists = Deletes
			}
		}
		return nil
	})
}

// object reads a field's value that is an object, which is a buffer delta if
// its __buf is the number 1. That may be said after the rest, and to any other
// object len and runs mean nothing, so faults count only at the end.
func (p *Parser) object(f *Field) error {
	before := p.violation
	var lenFault, runsFault *Violation
	marked, hasLen, hasRuns := false, false, false
	end := int(p.dec.InputOffset())
	err := p.each(func(name []byte) (err error) {
		p.violation = nil
		switch string(name) {
		case `"__buf"`:
			var n float64
			n, err = p.number()
			marked = n == 1
		case `"len"`:
			hasLen = true
			f.Delta.Len, err = p.deltaLength(f.Name)
			lenFault = p.violation
		case `"runs"`:
			hasRuns = true
			err = p.deltaRuns(f)
			runsFault = p.violation
		default:
			err = p.dec.SkipValue()
		}
		return err
	})
	p.violation = before
	if err != nil {
		return err
	}
	f.Value = valueAfter(p.data, end, int(p.dec.InputOffset()))
	f.IsDelta = marked
	switch {
	case !marked || p.violation != nil:
	case !hasLen:
		p.wrong(member(f.Name, ".len"), "is missing")
	case !hasRuns:
		p.wrong(member(f.Name, ".runs"), "is missing")
	case lenFault != nil:
		p.violation = lenFault
	case runsFault != nil:
		p.violation = runsFault
	}
	return nil
}

// valueAfter is the value of a name that ends at one place and itself ends at
// another: what is between them, without the colon and white space.
func valueAfter(data []byte, from, to int) []byte {
	for data[from] != '{' {
		from++
	}
	return data[from:to]
}

func member(name []byte, rest string) string { return "[" + shorten(name) + "]" + rest }

func (p *Parser) deltaLength(field []byte) (int, error) {
	if p.dec.PeekKind() != '0' {
		return 0, p.skipWrong(member(field, ".len"), "must be a number")
	}
	n, err := p.number()
	if err != nil {
		return 0, err
	}
	switch {
	case n < 0 || n != math.Trunc(n):
		p.wrong(member(field, ".len"), "must be a whole number")
		return 0, nil
	case n > float64(p.limits.MaxBufferLength):
		p.wrong(member(field, ".len"), fmt.Sprintf("is over the limit of %d", p.limits.MaxBufferLength))
		return 0, nil
	}
	return int(n), nil
}

func (p *Parser) deltaRuns(f *Field) error {
	f.Delta.Runs = f.Delta.Runs[:0]
	if p.dec.PeekKind() != '[' {
		return p.skipWrong(member(f.Name, ".runs"), "must be a list")
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; p.dec.PeekKind() != ']'; i++ {
		if err := p.deltaRun(f, i); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

// deltaRun reads [offset, [values…]]; what follows in the list is passed over.
func (p *Parser) deltaRun(f *Field, i int) error {
	wrong := func(problem string) {
		p.wrong(member(f.Name, fmt.Sprintf(".runs[%d]", i)), problem)
	}
	if p.dec.PeekKind() != '[' {
		wrong("must be [offset, [values]]")
		return p.dec.SkipValue()
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	var run *Run
	f.Delta.Runs, run = extend(f.Delta.Runs)
	run.Offset, run.Values = -1, run.Values[:0]
	parts := 0
	for ; p.dec.PeekKind() != ']'; parts++ {
		kind := p.dec.PeekKind()
		switch {
		case parts == 0 && kind == '0':
			offset, err := p.number()
			if err != nil {
				return err
			}
			run.Offset = wholeOffset(offset)
		case parts == 1 && kind == '[':
			if err := p.runValues(run); err != nil {
				return err
			}
		default:
			if parts < 2 {
				wrong("must be [offset, [values]]")
			}
			if err := p.dec.SkipValue(); err != nil {
				return err
			}
		}
	}
	if parts < 2 {
		wrong("must be [offset, [values]]")
	}
	_, err := p.dec.ReadToken()
	return err
}

// nowhere is an offset from which no run reaches an array.
const nowhere = math.MinInt64 / 2

// wholeOffset turns a double into an offset. JavaScript takes a fractional or
// a vast one without complaint and writes to no element.
func wholeOffset(f float64) int64 {
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return nowhere
	}
	return int64(f)
}

func (p *Parser) runValues(run *Run) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() != ']' {
		v, err := p.value()
		if err != nil {
			return err
		}
		run.Values = append(run.Values, v)
	}
	_, err := p.dec.ReadToken()
	return err
}

// extend lengthens s by one element, of which it keeps what an earlier use has
// left, so that inner slices are used again.
func extend[T any](s []T) ([]T, *T) {
	if len(s) < cap(s) {
		s = s[:len(s)+1]
	} else {
		var zero T
		s = append(s, zero)
	}
	return s, &s[len(s)-1]
}

// names finds a name among those that an object has had so far: by looking at
// each while they are few, by a map beyond that.
type names map[string]int

const fewNames = 24

func (seen *names) find(name []byte, n int, at func(int) []byte) int {
	if n < fewNames {
		for i := range n {
			if string(at(i)) == string(name) {
				return i
			}
		}
		return -1
	}
	if *seen == nil {
		*seen = make(names, 2*n)
		for i := range n {
			(*seen)[string(at(i))] = i
		}
	}
	if i, ok := (*seen)[string(name)]; ok {
		return i
	}
	(*seen)[string(name)] = n
	return -1
}
