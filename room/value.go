package room

import (
	"bytes"
	"strconv"
	"unicode/utf16"

	"github.com/weftsync/weft/room/protocol"
)

// value is what a field holds: JSON as it came, or an array to which deltas
// have been applied. The zero value is no value.
type value struct {
	raw string
	arr *array
}

func (v value) isZero() bool { return v.arr == nil && v.raw == "" }

func (v value) len() int {
	if v.arr != nil {
		return v.arr.size + 2
	}
	return len(v.raw)
}

func (v value) appendJSON(b []byte) []byte {
	if v.arr != nil {
		return v.arr.appendJSON(b)
	}
	return append(b, v.raw...)
}

// applyDelta returns the array that a delta makes of the value.
//
// Only arrays and values that JavaScript takes for false are old arrays in
// earnest. For the others this does what the published server does, so that a
// document means the same under both: text is a list of its UTF-16 units, and
// anything else has no length, which leaves holes that JSON writes as null. (An
// object with a member length, which that server would copy from, is the
// exception: here it has none either.)
func (v value) applyDelta(d *protocol.Delta, epoch uint64) value {
	if v.arr != nil {
		return value{arr: v.arr.apply(d, zeros, epoch)}
	}
	old, filler := &array{epoch: epoch}, zeros
	switch {
	case v.raw == "":
	case v.raw[0] == '[':
		old = newArray(elements(v.raw, d.Len), epoch)
	case v.raw[0] == '"':
		old = newArray(units(v.raw, d.Len), epoch)
	case !isFalsy(v.raw):
		filler = nulls
	}
	return value{arr: old.apply(d, filler, epoch)}
}

// isFalsy reports whether JavaScript takes a JSON value that is no string, list
// or object for false.
func isFalsy(raw string) bool {
	switch raw[0] {
	case 'n', 'f':
		return true
	case 't', '{':
		return false
	}
	f, _ := strconv.ParseFloat(raw, 64)
	return f == 0
}

// elements takes a JSON list apart: its first elements, most at most, so that a
// short delta on a long list costs no more than what stays.
func elements(raw string, most int) (list [][]byte) {
	d := newDecoder([]byte(raw))
	if _, err := d.ReadToken(); err != nil {
		return nil
	}
	for len(list) < most && d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			return list
		}
		list = append(list, bytes.Clone(v))
	}
	return list
}

// units takes a JSON string apart into its UTF-16 units, each a JSON string:
// most of them or one more.
func units(raw string, most int) (list [][]byte) {
	canonical := protocol.Canonical([]byte(raw))
	for s := canonical[1 : len(canonical)-1]; len(s) > 0 && len(list) < most; {
		n := 1
		switch {
		case s[0] == '\\' && s[1] == 'u':
			n = 6
		case s[0] == '\\':
			n = 2
		default:
			for n < len(s) && s[n]&0xC0 == 0x80 {
				n++
			}
		}
		if char := []rune(string(s[:n])); len(char) == 1 && char[0] > 0xFFFF {
			high, low := utf16.EncodeRune(char[0])
			list = append(list, quotedUnit(high), quotedUnit(low))
		} else {
			list = append(list, append(append([]byte{'"'}, s[:n]...), '"'))
		}
		s = s[n:]
	}
	return list
}

func quotedUnit(r rune) []byte {
	return []byte(`"\u` + strconv.FormatInt(int64(r), 16) + `"`)
}
