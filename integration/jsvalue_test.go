package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"
	"unicode/utf8"
)

// parseJS reads JSON the way JavaScript's JSON.parse does: numbers are float64 (too big ones
// infinite), the last of equal names wins, lone surrogates stay what they are. Strings come as Go
// strings in which a lone surrogate is its three bytes, so equal means equal in JavaScript.
// Values are nil, bool, float64, string, []any (never nil) and map[string]any.
//
// encoding/json cannot be used for this: it turns lone surrogates into U+FFFD and refuses big numbers.
func parseJS(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(text) {
		return nil, errors.New("not JSON")
	}
	p := jsParser{text: text}
	return p.value(), nil
}

// sameJS tells whether JavaScript would call two parsed values deeply equal (-0 and 0 are).
func sameJS(a, b any) bool { return reflect.DeepEqual(a, b) }

// jsParser walks text that is known to be valid JSON, so it checks nothing.
type jsParser struct {
	text []byte
	pos  int
}

// next skips white space, commas and colons, and looks at the byte that follows.
func (p *jsParser) next() byte {
	for {
		switch c := p.text[p.pos]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			p.pos++
		default:
			return c
		}
	}
}

func (p *jsParser) value() any {
	switch p.next() {
	case '{':
		p.pos++
		object := map[string]any{}
		for p.next() != '}' {
			name := p.str()
			object[name] = p.value()
		}
		p.pos++
		return object
	case '[':
		p.pos++
		array := []any{}
		for p.next() != ']' {
			array = append(array, p.value())
		}
		p.pos++
		return array
	case '"':
		return p.str()
	case 't':
		p.pos += len("true")
		return true
	case 'f':
		p.pos += len("false")
		return false
	case 'n':
		p.pos += len("null")
		return nil
	default:
		return p.number()
	}
}

func (p *jsParser) number() any {
	start := p.pos
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c >= '0' && c <= '9', c == '+', c == '-', c == '.', c == 'e', c == 'E':
			p.pos++
			continue
		}
		break
	}
	f, _ := strconv.ParseFloat(string(p.text[start:p.pos]), 64) // the error is of range: f is ±Inf
	return f
}

func (p *jsParser) str() string {
	p.pos++
	var out []byte
	for {
		c := p.text[p.pos]
		p.pos++
		switch {
		case c == '"':
			return string(out)
		case c != '\\':
			out = append(out, c)
			continue
		}
		c = p.text[p.pos]
		p.pos++
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			unit := p.hex4()
			if unit>>10 == 0xd800>>10 && p.pos+6 <= len(p.text) && p.text[p.pos] == '\\' && p.text[p.pos+1] == 'u' {
				mark := p.pos
				p.pos += 2
				if low := p.hex4(); low>>10 == 0xdc00>>10 {
					out = utf8.AppendRune(out, 0x10000+(unit-0xd800)<<10+(low-0xdc00))
					continue
				}
				p.pos = mark
			}
			out = appendUnit(out, unit)
		default:
			out = append(out, c)
		}
	}
}

func (p *jsParser) hex4() rune {
	n, _ := strconv.ParseUint(string(p.text[p.pos:p.pos+4]), 16, 16)
	p.pos += 4
	return rune(n)
}

// appendUnit appends one UTF-16 code unit; a surrogate as the three bytes that UTF-8 forbids.
func appendUnit(out []byte, unit rune) []byte {
	if unit>>11 != 0xd800>>11 {
		return utf8.AppendRune(out, unit)
	}
	return append(out, 0xe0|byte(unit>>12), 0x80|byte(unit>>6)&0x3f, 0x80|byte(unit)&0x3f)
}

func TestParseJSReadsAsJavaScriptDoes(t *testing.T) {
	same := [][2]string{
		{`{"a":1,"a":[2]}`, `{"\u0061":[2.0]}`},
		{`-0`, `0`},
		{`[1e400,1e-400]`, `[9e999,0]`},
		{`9007199254740993`, `9007199254740992`},
		{`"\ud83d\ude00"`, `"😀"`},
		{`"\ud800x"`, `"\uD800x"`},
		{`{"x":{},"y":[]}`, ` { "y" : [ ] , "x" : { } } `},
		{`"\/\b\f\n\r\t\"\\"`, `"/\u0008\u000c\u000a\u000d\u0009\u0022\u005c"`},
	}
	for _, c := range same {
		if a, b := mustParseJS(t, c[0]), mustParseJS(t, c[1]); !sameJS(a, b) {
			t.Errorf("%s and %s differ: %#v, %#v", c[0], c[1], a, b)
		}
	}
	differ := [][2]string{
		{`"\ud800"`, `"\ufffd"`},
		{`"\ud800\ud800"`, `"\ud800"`},
		{`[]`, `{}`},
		{`null`, `[null]`},
		{`{"a":null}`, `{}`},
		{`0.1`, `0.10000000000000002`},
		{`"1"`, `1`},
	}
	for _, c := range differ {
		if a, b := mustParseJS(t, c[0]), mustParseJS(t, c[1]); sameJS(a, b) {
			t.Errorf("%s and %s are called equal", c[0], c[1])
		}
	}
	for _, text := range []string{``, `{`, `01`, `"`, "\"\xff\"", "\"\xed\xa0\x80\"", `{"a":1,}`} {
		if v, err := parseJS([]byte(text)); err == nil {
			t.Errorf("%q was read as %#v", text, v)
		}
	}
}

func mustParseJS(t *testing.T, text string) any {
	t.Helper()
	v, err := parseJS([]byte(text))
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", text, err))
	}
	return v
}
