package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// document is a room that one client edits.
type document struct {
	state  *room.State
	parser *protocol.Parser
}

// newDocument begins with a snapshot, nil meaning nothing.
func newDocument(s *room.Snapshot) *document {
	d := &document{state: room.NewState(s, room.Limits{}), parser: protocol.NewParser(protocol.Limits{})}
	d.state.Apply(room.Event{Kind: room.Join, Session: "s", Client: "c", Grant: room.Grant{Permission: room.ReadWrite}})
	return d
}

// edit applies one frame with one document patch, a JSON object.
func (d *document) edit(t *testing.T, patch string) {
	t.Helper()
	m, err := d.parser.Parse([]byte(`{"type":"patch","messageId":"m","documentPatches":[` + patch + `]}`))
	if err != nil || m.Kind != protocol.Patch {
		t.Fatalf("the patch %s is no patch: %v", patch, err)
	}
	before := d.state.Document().Timestamp()
	d.state.Apply(room.Event{Kind: room.Received, Session: "s", Message: m})
	if d.state.Document().Timestamp() != before+1 {
		t.Fatalf("the patch %s was not applied", patch)
	}
}

// editMany creates or changes the components named prefix0 up to prefix(n-1)
// in one frame.
func (d *document) editMany(t *testing.T, prefix string, n int, fields string) {
	t.Helper()
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%s%d/block":{"_exists":true,"i":%d,%s}`, prefix, i, i, fields)
	}
	d.edit(t, "{"+b.String()+"}")
}

func (d *document) snapshot() *room.Snapshot { return d.state.Document().Snapshot() }

// small is a snapshot that says what, at timestamp n.
func small(t *testing.T, what string, n int) *room.Snapshot {
	t.Helper()
	d := newDocument(nil)
	for i := range n {
		d.edit(t, fmt.Sprintf(`{"it/name":{"_exists":true,"is":%s,"at":%d}}`, protocol.AppendQuoted(nil, what), i))
	}
	return d.snapshot()
}

// meaning is what a snapshot says, whatever the order: "state"/key/field and
// "timestamps"/key/field with the value's bytes as they are.
type meaning map[string]string

func meaningOf(s *room.Snapshot) (meaning, error) {
	text, err := s.MarshalJSON()
	if err != nil {
		return nil, err
	}
	m := meaning{}
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	err = m.read(d, "", 3)
	return m, err
}

// read reads an object of objects, the innermost ones depth deep.
func (m meaning) read(d *jsontext.Decoder, path string, depth int) error {
	if d.PeekKind() != '{' || depth == 0 {
		v, err := d.ReadValue()
		m[path] = string(v)
		return err
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if path != "" {
		m[path] = "{}"
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return err
		}
		if err := m.read(d, path+"/"+string(protocol.Canonical(bytes.Clone(name))), depth-1); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// compare says how two snapshots differ in meaning, or nothing.
func compare(got, want *room.Snapshot) string {
	g, err := meaningOf(got)
	if err != nil {
		return "it is not readable: " + err.Error()
	}
	w, err := meaningOf(want)
	if err != nil {
		return "what was saved is not readable: " + err.Error()
	}
	var out []string
	for path, value := range w {
		if has, ok := g[path]; !ok {
			out = append(out, path+" is missing")
		} else if has != value {
			out = append(out, fmt.Sprintf("%s is %s instead of %s", path, shorten(has), shorten(value)))
		}
	}
	for path := range g {
		if _, ok := w[path]; !ok {
			out = append(out, path+" is too many")
		}
	}
	slices.Sort(out)
	const most = 5
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return strings.Join(out, "; ")
}

func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
