package room

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weftsync/weft/room/protocol"
)

// happening is an event that can be applied more than once: the message is
// parsed anew each time.
type happening struct {
	Event
	text string
}

var testLimits = Limits{Limits: protocol.Limits{MaxBufferLength: 400}}

// event is h's, with its message. It is false for what never reaches a State.
func (h happening) event(p *protocol.Parser) (Event, bool) {
	if h.Kind != Received {
		return h.Event, true
	}
	m, err := p.Parse([]byte(h.text))
	if err != nil || m.Kind == protocol.Ignored || m.Kind == protocol.AuthRefresh {
		return Event{}, false
	}
	e := h.Event
	e.Message = m
	return e, true
}

// happen makes up what happens next.
func (d *dice) happen() happening {
	session := fmt.Sprint("s", d.roll(5))
	permission := pick(d, ReadWrite, ReadWrite, ReadOnly)
	switch kind := d.roll(24); {
	case kind < 4:
		client := pick(d, "alice", "bob", "c\"\n", "")
		return happening{Event: Event{Kind: Join, Session: session, Client: client, Grant: Grant{Permission: permission}}}
	case kind == 4:
		return happening{Event: Event{Kind: Leave, Session: session}}
	case kind == 5:
		grant := Grant{Permission: permission}
		if d.roll(2) == 0 {
			grant.Metadata = json.RawMessage(`{"n":1}`)
		}
		return happening{Event: Event{Kind: Regrant, Session: session, Grant: grant}}
	case kind == 6: // anything at all
		return happening{Event{Kind: Received, Session: session}, string(d.take(d.roll(pick(d, 2, 16, 256))))}
	case kind == 7: // something almost right
		text := []byte(d.message())
		for range d.roll(3) {
			text[(d.roll(256)*256+d.roll(256))%len(text)] = byte(d.roll(256))
		}
		return happening{Event{Kind: Received, Session: session}, string(text)}
	default:
		return happening{Event{Kind: Received, Session: session}, d.message()}
	}
}

// plain reports whether the model's JSON library sees in a text what JavaScript
// and the engine see: it keeps neither lone surrogates nor faulty UTF-8.
func plain(text string) bool {
	return utf8.ValidString(text) && !surrogate.MatchString(pair.ReplaceAllString(text, ""))
}

var (
	pair      = regexp.MustCompile(`(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}`)
	surrogate = regexp.MustCompile(`(?i)\\ud[89a-f]`)
)

// effectsOf are effects as text, to be compared and decoded after the next Apply.
func effectsOf(effects []Effect) (list []string) {
	for _, e := range effects {
		switch {
		case e.Close != nil:
			list = append(list, fmt.Sprintf("%s|%s|close %d %s", e.To, e.Except, e.Close.Code, e.Close.Reason))
		case e.Diff != nil:
			if f := e.Diff.Frame(); !f.IsZero() {
				list = append(list, fmt.Sprintf("%s|%s|%s", e.To, e.Except, f.Text()))
			}
		default:
			list = append(list, fmt.Sprintf("%s|%s|%s", e.To, e.Except, e.Frame.Text()))
		}
	}
	return list
}

func snapshotText(t testing.TB, s *Snapshot) string {
	t.Helper()
	text, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// play plays what the dice say on a State and on the model, and then, from the
// log, on further States. The model drops out at the first text that it cannot
// judge, unless those are to be left out. It returns how many events the model
// has seen.
func play(t testing.TB, d *dice, begin *Snapshot, plainOnly bool) (compared int) {
	parser := protocol.NewParser(testLimits.Limits)
	state, m := NewState(begin, testLimits), newModel()
	if begin != nil {
		m.timestamp = begin.timestamp
		for key, data := range decode(t, []byte(snapshotText(t, begin))).(object)["state"].(object) {
			m.state[key] = data.(object)
		}
		for key, of := range decode(t, []byte(snapshotText(t, begin))).(object)["timestamps"].(object) {
			m.stamps[key] = map[string]int64{}
			for name, n := range of.(object) {
				m.stamps[key][name] = int64(float(n))
			}
		}
	}
	checkpointAt := d.roll(100)
	var checkpoint *Snapshot
	var checkpointText string
	var logged int // events that the checkpoint has; sessions are no part of it
	var log []happening
	var effects [][]string
	for i := 0; !d.over(); i++ {
		if i == checkpointAt {
			checkpoint, logged = state.doc.Snapshot(), len(log)
			checkpointText = snapshotText(t, checkpoint)
		}
		h := d.happen()
		e, ok := h.event(parser)
		if !ok || plainOnly && !plain(h.text) {
			continue
		}
		got := effectsOf(state.Apply(e))
		log, effects = append(log, h), append(effects, got)
		if m != nil && !plain(h.text) {
			m = nil
		}
		if m == nil {
			continue
		}
		m.out = nil
		compared++
		switch e.Kind {
		case Join:
			m.join(e.Session, e.Client, e.Grant.Permission)
		case Leave:
			m.leave(e.Session)
		case Regrant:
			m.regrant(e.Session, e.Grant.Permission)
		case Received:
			m.receive(e.Session, decode(t, []byte(h.text)).(object))
		}
		compareEffects(t, fmt.Sprintf("event %d %d %s %s", i, e.Kind, e.Session, h.text), got, m.out)
		if i%16 == 0 {
			compare(t, "snapshot after "+h.text, decode(t, []byte(snapshotText(t, state.doc.Snapshot()))), any(m.snapshot()))
		}
	}
	final := snapshotText(t, state.doc.Snapshot())
	if m != nil {
		compare(t, "the last snapshot", decode(t, []byte(final)), any(m.snapshot()))
	}
	recount(t, state.doc)

	replay := NewState(begin, testLimits)
	for i, h := range log {
		e, _ := h.event(parser)
		if got := effectsOf(replay.Apply(e)); strings.Join(got, "\n") != strings.Join(effects[i], "\n") {
			t.Fatalf("replay of event %d %s:\n got %q\nlive %q", i, h.text, got, effects[i])
		}
	}
	if got := snapshotText(t, replay.doc.Snapshot()); got != final {
		t.Fatalf("replay ends in\n%s\nlive in\n%s", got, final)
	}
	if checkpoint == nil {
		return compared
	}
	if got := snapshotText(t, checkpoint); got != checkpointText {
		t.Fatalf("a snapshot changed from\n%s\nto\n%s", checkpointText, got)
	}
	restored, err := ParseSnapshot([]byte(checkpointText))
	if err != nil {
		t.Fatalf("%v: %s", err, checkpointText)
	}
	for name, from := range map[string]*Snapshot{"the snapshot's text": restored, "the snapshot": checkpoint} {
		after := NewState(from, testLimits)
		for i, h := range log {
			if e, _ := h.event(parser); i >= logged || e.Kind != Received {
				after.Apply(e)
			}
		}
		compare(t, "the log after "+name, decode(t, []byte(snapshotText(t, after.doc.Snapshot()))), decode(t, []byte(final)))
	}
	if got := snapshotText(t, checkpoint); got != checkpointText {
		t.Fatalf("a snapshot changed when a document was made of it")
	}
	return compared
}

func compareEffects(t testing.TB, what string, got []string, want []said) {
	t.Helper()
	var list []said
	for _, text := range got {
		parts := strings.SplitN(text, "|", 3)
		list = append(list, said{parts[0], parts[1], decode(t, []byte(parts[2]))})
	}
	compare(t, what, list, want)
}

func TestStateDoesWhatTheProtocolSays(t *testing.T) {
	compared := 0
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { compared += play(t, seeded(seed, 15_000), nil, seed%4 > 0) })
	}
	if compared < 4000 {
		t.Errorf("the model was asked only %d times", compared)
	}
}

// The same beyond the size at which diffs are no longer built on the spot, and
// with a document that comes from a file.
func TestStateOnALargeDocument(t *testing.T) {
	text := fmt.Sprintf(`{"timestamp":7,"state":{"a/B":{"_exists":true,"x":%q},"c/D":{"_exists":false},"old":{"_exists":true,"f1":1}},"timestamps":{"a/B":{"_exists":2,"x":7},"c/D":{"_exists":3,"x":3}}}`,
		strings.Repeat("x", smallDocument))
	begin, err := ParseSnapshot([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, seeded(seed, 500), begin, true) })
	}
	if got := snapshotText(t, begin); got != text {
		t.Errorf("the document it began with changed")
	}
}

func FuzzApply(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seeded(seed, 400).b)
	}
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00\x00\x06\x50{\"type\":\"patch\",\"documentPatches\":[{\"a\":{\"_exists\":true}}]}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			t.Skip()
		}
		play(t, &dice{b}, nil, false)
	})
}
