package protocol

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Parser reads client messages. It keeps its buffers from one message to the
// next. It is not safe for concurrent use.
type Parser struct {
	limits Limits
	data   []byte
	rd     bytes.Buffer
	dec    jsontext.Decoder
	msg    Message

	violation *Violation // the first of the member being read
	member    string
	index     int // of the patch within the list
	key       []byte
}

// NewParser returns a parser that enforces the limits.
func NewParser(limits Limits) *Parser {
	return &Parser{limits: limits.WithDefaults()}
}

// lenient: JavaScript takes repeated names (the last wins) and lone
// surrogates, so Weft does. That the bytes are UTF-8 is the socket's to check.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// Parse reads one message. The returned message and everything it points to is
// good until the next call and for as long as data is not changed. The error,
// if any, is a [*Violation]; what the protocol passes over is no error but a
// message of kind [Ignored].
func (p *Parser) Parse(data []byte) (*Message, error) {
	p.data = data
	p.rd = *bytes.NewBuffer(data)
	p.dec.Reset(&p.rd, lenient...)
	m := &p.msg
	m.Kind, m.ID, m.Token = Ignored, nil, ""
	m.LastTimestamp, m.ProtocolVersion = math.NaN(), math.NaN()
	m.Document.reset()
	m.Presence.reset()
	p.violation = nil
	p.member, p.key = "", nil

	err := p.message(m)
	if err == nil {
		if _, err = p.dec.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errTrailing
		}
	}
	switch violation := (*Violation)(nil); {
	case err == nil:
		return m, nil
	case errors.As(err, &violation):
		return nil, violation
	case isTooDeep(err):
		return nil, &Violation{"message", "message", "is nested too deeply"}
	default:
		m.Kind = Ignored
		return m, nil
	}
}

// isTooDeep looks at the reason alone: the whole error quotes the text, which may
// say anything.
func isTooDeep(err error) bool {
	var syntax *jsontext.SyntacticError
	return errors.As(err, &syntax) && syntax.Err != nil && syntax.Err.Error() == "exceeded max depth"
}

var errTrailing = errors.New("text after the message")

// memberOf is a member that a message may have, by its quoted name.
type memberOf struct {
	name string
	read func(*Parser, *Message) error
	of   [AuthRefresh + 1]bool // the kinds to which it means something
}

var members = map[string]*memberOf{
	`"type"`:             {"type", (*Parser).readType, [...]bool{AuthRefresh: false}},
	`"messageId"`:        {"messageId", (*Parser).readID, [...]bool{Patch: true, AuthRefresh: false}},
	`"documentPatches"`:  {"documentPatches", (*Parser).readDocument, [...]bool{Patch: true, Reconnect: true, AuthRefresh: false}},
	`"ephemeralPatches"`: {"ephemeralPatches", (*Parser).readPresence, [...]bool{Patch: true, Reconnect: true, AuthRefresh: false}},
	`"lastTimestamp"`:    {"lastTimestamp", (*Parser).readLastTimestamp, [...]bool{Reconnect: true, AuthRefresh: false}},
	`"protocolVersion"`:  {versionMember, (*Parser).readProtocolVersion, [...]bool{Reconnect: true, AuthRefresh: false}},
	`"token"`:            {"token", (*Parser).readToken, [...]bool{AuthRefresh: true}},
}

const versionMember = "protocolVersion"

// faults holds what is wrong with each member, as of its last appearance.
type faults struct {
	n    int
	list [8]struct {
		member    *memberOf
		violation *Violation
	}
}

func (f *faults) set(member *memberOf, v *Violation) {
	at := 0
	for at < f.n && f.list[at].member != member {
		at++
	}
	if at == f.n {
		if v == nil {
			return
		}
		f.n++
	}
	f.list[at].member, f.list[at].violation = member, v
}

// judge is the first fault that matters to the kind of message.
func (f *faults) judge(m *Message) error {
	otherVersion := m.Kind == Reconnect && m.ProtocolVersion != Version
	for _, fault := range f.list[:f.n] {
		if fault.violation == nil || !fault.member.of[m.Kind] {
			continue
		}
		// Another version may mean anything by its other members.
		if otherVersion && fault.member.name != versionMember {
			continue
		}
		return fault.violation
	}
	return nil
}

// message reads the whole object before it judges: the type may come last, a
// member may come again, and text that turns out not to be JSON is ignored
// whatever came before the fault.
func (p *Parser) message(m *Message) error {
	switch p.dec.PeekKind() {
	case '{':
	case 'n':
		// JSON that is no object is passed over, but null has a history of
		// ending servers: who sends it should learn that it means nothing.
		if err := p.dec.SkipValue(); err != nil {
			return err
		}
		if _, err := p.dec.ReadToken(); !errors.Is(err, io.EOF) {
			return errTrailing
		}
		return &Violation{"message", "message", "must be an object, not null"}
	default:
		return p.dec.SkipValue()
	}
	var f faults
	err := p.each(func(name []byte) error {
		member := members[string(name)]
		if member == nil {
			return p.dec.SkipValue()
		}
		p.violation, p.member, p.index, p.key = nil, member.name, -1, nil
		err := member.read(p, m)
		f.set(member, p.violation)
		return err
	})
	if err != nil {
		return err
	}
	return f.judge(m)
}

// each reads an object; f reads the value of a name, which is in its canonical
// spelling.
func (p *Parser) each(f func(name []byte) error) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() != '}' {
		name, err := p.value()
		if err == nil {
			err = f(Canonical(name))
		}
		if err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

// wrong notes the first violation of the member being read; the rest of the
// member is still read, for the text must be JSON to be judged at all.
func (p *Parser) wrong(place, problem string) {
	if p.violation != nil {
		return
	}
	member := p.member
	if p.index >= 0 {
		member += "[" + strconv.Itoa(p.index) + "]"
	}
	full := member
	if p.key != nil {
		full += "[" + shorten(p.key) + "]"
	}
	p.violation = &Violation{Member: member, Place: full + place, Problem: problem}
}

// shorten keeps a quoted key or name short enough that a close reason has room
// for what is wrong with it.
func shorten(quoted []byte) string {
	const most = 40
	if len(quoted) <= most {
		return string(quoted)
	}
	return CutReason(strings.ToValidUTF8(string(quoted[:most]), "")) + `…"`
}

// skipWrong reads over a value of the wrong type.
func (p *Parser) skipWrong(place, problem string) error {
	p.wrong(place, problem)
	return p.dec.SkipValue()
}

// value reads the next value and returns it as a part of the text.
func (p *Parser) value() ([]byte, error) {
	v, err := p.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(p.dec.InputOffset())
	return p.data[end-len(v) : end : end], nil
}

func (p *Parser) readType(m *Message) error {
	raw, err := p.value()
	if err != nil {
		return err
	}
	m.Kind = Ignored
	if raw[0] != '"' {
		return nil
	}
	switch string(Canonical(raw)) {
	case `"patch"`:
		m.Kind = Patch
	case `"reconnect"`:
		m.Kind = Reconnect
	case `"auth-refresh"`:
		m.Kind = AuthRefresh
	}
	return nil
}

func (p *Parser) readID(m *Message) (err error) {
	if p.dec.PeekKind() != '"' {
		return p.skipWrong("", "must be a string")
	}
	m.ID, err = p.value()
	return err
}

func (p *Parser) readToken(m *Message) error {
	if p.dec.PeekKind() != '"' {
		return p.skipWrong("", "must be a string")
	}
	raw, err := p.value()
	if err != nil {
		return err
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		p.wrong("", "must be Unicode text")
		return nil
	}
	m.Token = string(text)
	return nil
}

func (p *Parser) readLastTimestamp(m *Message) (err error) {
	m.LastTimestamp, err = p.number()
	return err
}

func (p *Parser) readProtocolVersion(m *Message) (err error) {
	m.ProtocolVersion, err = p.number()
	return err
}

// number reads a number the way JavaScript does: as a double, infinite where
// it is beyond that. Anything else is noted and read as NaN.
func (p *Parser) number() (float64, error) {
	if p.dec.PeekKind() != '0' {
		return math.NaN(), p.skipWrong("", "must be a number")
	}
	raw, err := p.value()
	if err != nil {
		return 0, err
	}
	f, _ := strconv.ParseFloat(string(raw), 64) // out of range: ±Inf, as in JavaScript
	return f, nil
}
