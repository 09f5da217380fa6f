package room

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParseSnapshotErrors(t *testing.T) {
	const secret = "secret"
	for text, problem := range map[string]string{
		``:                               "the text ends too early",
		` `:                              "the text ends too early",
		`null`:                           "the snapshot is not an object",
		`[]`:                             "the snapshot is not an object",
		`7`:                              "the snapshot is not an object",
		`"secret"`:                       "the snapshot is not an object",
		`secret`:                         "this is not JSON",
		`{}`:                             "there is no timestamp",
		`{"state":{}}`:                   "there is no timestamp",
		`{"timestamp":0`:                 "the text ends too early",
		`{"timestamp":0]`:                "this is not JSON",
		`{"timestamp":0,}`:               "this is not JSON",
		`{"timestamp":0}x`:               "this is not JSON",
		`{"timestamp":0}{}`:              "text after the snapshot",
		`{"timestamp":null}`:             "a timestamp is not a number",
		`{"timestamp":"1"}`:              "a timestamp is not a number",
		`{"timestamp":[1]}`:              "a timestamp is not a number",
		`{"timestamp":1.5}`:              "a timestamp is not a whole number",
		`{"timestamp":-1}`:               "a timestamp is not a whole number",
		`{"timestamp":1e300}`:            "a timestamp is not a whole number",
		`{"timestamp":1e999}`:            "a timestamp is not a whole number",
		`{"timestamp":9007199254740992}`: "a timestamp is not a whole number",
		`{"timestamp":0,"state":null}`:   "state is not an object",
		`{"timestamp":0,"state":[]}`:     "state is not an object",
		`{"timestamp":0,"state":{"secret":null}}`:                                      "a component is not an object",
		`{"timestamp":0,"state":{"secret":[]}}`:                                        "a component is not an object",
		`{"timestamp":0,"state":{"secret":{"secret":secret}}}`:                         "this is not JSON",
		`{"timestamp":0,"state":{"secret":{"secret":"secr`:                             "the text ends too early",
		`{"timestamp":0,"state":{"secret":{`:                                           "the text ends too early",
		`{"timestamp":0,"timestamps":7}`:                                               "timestamps is not an object",
		`{"timestamp":0,"timestamps":{"secret":7}}`:                                    "a component's timestamps is not an object",
		`{"timestamp":0,"timestamps":{"secret":{"secret":"secret"}}}`:                  "a timestamp is not a number",
		`{"timestamp":0,"timestamps":{"secret":{"secret":0.5}}}`:                       "a timestamp is not a whole number",
		`{"timestamp":0,"x":` + strings.Repeat("[", 20000):                             "this is not JSON",
		`{"timestamp":0,"state":{"secret":{"a":` + strings.Repeat("[", 20000) + `}}`:   "this is not JSON",
		`{"timestamp":0,"state":{"secret":{"a":1}},"timestamps":{"secret":{"a":1}}} ,`: "this is not JSON",
	} {
		s, err := ParseSnapshot([]byte(text))
		if s != nil || !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%.60s: %v, error %v", text, s, err)
			continue
		}
		if !strings.HasSuffix(err.Error(), ": "+problem) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60s: error %q, want …%s", text, err, problem)
		}
	}
}

func TestParseSnapshot(t *testing.T) {
	for text, want := range map[string]string{
		`{"timestamp":0}`:                           `{"timestamp":0,"state":{},"timestamps":{}}`,
		` { "more" : [ 1 ] , "timestamp" : 1e3 } `:  `{"timestamp":1000,"state":{},"timestamps":{}}`,
		`{"timestamp":2.0,"state":{"\u0061":{}}}`:   `{"timestamp":2,"state":{"a":{}},"timestamps":{}}`,
		`{"timestamp":-0}`:                          `{"timestamp":0,"state":{},"timestamps":{}}`,
		`{"timestamp":9007199254740991,"state":{}}`: `{"timestamp":9007199254740991,"state":{},"timestamps":{}}`,
		`{"timestamps":{"b":{"y":2,"x":1},"gone":{"_exists":3}},"state":{"a":{},"b":{"x":1.50,"_exists":true}},"timestamp":3}`:// whatever comes first
		`{"timestamp":3,"state":{"b":{"x":1.50,"_exists":true},"a":{}},"timestamps":{"b":{"y":2,"x":1},"gone":{"_exists":3}}}`,
		`{"timestamp":1,"state":{"a":{"x":1,"y":2,"x":3},"a":{"z":[ 1, 2 ]}}}`:// the last of repeated names
		`{"timestamp":1,"state":{"a":{"z":[ 1, 2 ]}},"timestamps":{}}`,
		`{"timestamp":1,"state":{"a":{"_exists":false},"d":{"_exists":false,"_exists":true}},"timestamps":{"a":{"_exists":1,"x":1}}}`://
		`{"timestamp":1,"state":{"a":{"_exists":false},"d":{"_exists":true}},"timestamps":{"a":{"_exists":1,"x":1}}}`,
	} {
		s, err := ParseSnapshot([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		compare(t, text, decode(t, []byte(snapshotText(t, s))), decode(t, []byte(want)))
		recount(t, s.Document())
	}
	// A component that was said to be gone and then not to be is there.
	s, err := ParseSnapshot([]byte(`{"timestamp":1,"state":{"a":{"_exists":false,"_exists":true,"x":1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	doc := s.Document()
	edit(t, doc, `[{"a":{"x":2}}]`)
	if got := string(doc.at(0).appendState(nil)); got != `{"_exists":true,"x":2}` {
		t.Errorf("after an update: %s", got)
	}
}

// Other servers may have left data in a tombstone; who creates the component anew
// does not get it back, but its timestamps stay.
func TestTombstoneWithData(t *testing.T) {
	s, err := ParseSnapshot([]byte(`{"timestamp":4,"state":{"a":{"_exists":false,"old":1,"kept":2}},"timestamps":{"a":{"_exists":4,"old":3,"kept":4}}}`))
	if err != nil {
		t.Fatal(err)
	}
	doc := s.Document()
	edit(t, doc, `[{"a":{"old":5}}]`)
	edit(t, doc, `[{"a":{"_exists":true,"kept":{"__buf":1,"len":1,"runs":[]}}}]`)
	recount(t, doc)
	want := `{"timestamp":6,"state":{"a":{"_exists":true,"kept":[0]}},"timestamps":{"a":{"_exists":6,"old":3,"kept":6}}}`
	if got := snapshotText(t, doc.Snapshot()); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestParseSnapshotKeepsNothingOfTheText(t *testing.T) {
	text := []byte(`{"timestamp":1,"state":{"key":{"name":"value","list":[1]}},"timestamps":{"key":{"name":1},"only":{"stamp":1}}}`)
	s, err := ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	before := snapshotText(t, s)
	for i := range text {
		text[i] = '#'
	}
	if after := snapshotText(t, s); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

func TestZeroSnapshotIsEmpty(t *testing.T) {
	var s Snapshot
	if got := snapshotText(t, &s); got != `{"timestamp":0,"state":{},"timestamps":{}}` || s.Len() != 0 || s.Size() != 0 {
		t.Errorf("%s, %d keys", got, s.Len())
	}
	doc := s.Document()
	edit(t, doc, `[{"a":{"_exists":true,"l":{"__buf":1,"len":300,"runs":[[200,[1]]]}}}]`)
	recount(t, doc)
}

func TestSnapshotAsJSONMember(t *testing.T) {
	type row struct{ Room *Snapshot }
	const text = `{"Room":{"timestamp":2,"state":{"a":{"_exists":true}},"timestamps":{"a":{"_exists":2}}}}`
	var r row
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(r); err != nil || string(got) != text {
		t.Errorf("%s, %v", got, err)
	}
	kept := r.Room
	if err := kept.UnmarshalJSON([]byte(`{"timestamp":"x"}`)); !errors.Is(err, ErrBadSnapshot) || kept.Timestamp() != 2 {
		t.Errorf("error %v; the snapshot has timestamp %d", err, kept.Timestamp())
	}
}

type failsAfter struct{ n int }

func (w *failsAfter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestWriteToStopsAtTheFirstError(t *testing.T) {
	doc := newDocument()
	for i := range 2000 {
		edit(t, doc, fmt.Sprintf(`[{"k%d":{"_exists":true,"text":"%0100d"}}]`, i, i))
	}
	s := doc.Snapshot()
	var whole bytes.Buffer
	if n, err := s.WriteTo(&whole); err != nil || n != int64(whole.Len()) || whole.String() != snapshotText(t, s) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := s.WriteTo(&failsAfter{100_000}); !errors.Is(err, io.ErrClosedPipe) || n == 0 || n > 100_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestDiffSinceAnyNumber(t *testing.T) {
	doc := newDocument()
	edit(t, doc, `[{"a":{"_exists":true,"x":1}}]`)
	edit(t, doc, `[{"b":{"_exists":true}}]`)
	edit(t, doc, `[{"a":{"x":3},"b":{"_exists":false,"y":1}}]`)
	edit(t, doc, `[{"c":{"no":1}}]`)
	const all = `{"a":{"_exists":true,"x":3},"b":{"_exists":false}}`
	for _, c := range []struct {
		since float64
		want  string
	}{
		{math.Inf(-1), all}, {-1, all}, {0, all}, {0.999, all}, {math.Copysign(0, -1), all}, {-math.MaxFloat64, all},
		{1, `{"a":{"x":3},"b":{"_exists":false}}`}, {2.5, `{"a":{"x":3},"b":{"_exists":false}}`},
		{3, ``}, {4, ``}, {1e300, ``}, {math.Inf(1), ``}, {math.NaN(), ``},
	} {
		s := doc.Snapshot()
		b, some := appendDiff(nil, s.pages, c.since)
		if want := c.want; want == "" {
			if some || string(b) != "{}" {
				t.Errorf("since %v: %s", c.since, b)
			}
		} else if !some || string(b) != want {
			t.Errorf("since %v: %s, want %s", c.since, b, want)
		}
		if doc.hasAfter(c.since) != some {
			t.Errorf("since %v: hasAfter %v", c.since, !some)
		}
		// What the background builds is what is built on the spot.
		f := (&Diff{snapshot: s, since: c.since}).Frame()
		if f.IsZero() == some {
			t.Errorf("since %v: a frame of %d bytes", c.since, f.Len())
		}
	}
	f := (&Diff{snapshot: doc.Snapshot(), since: math.NaN(), presence: []byte(`{"p":{}}`)}).Frame()
	if got := string(f.Text()); got != `{"type":"patch","clientId":"","ephemeralPatches":[{"p":{}}]}` {
		t.Errorf("presence alone: %s", got)
	}
}

// A client that was away for a moment gets a small diff, which must not take
// the memory of a large one while it waits to be sent.
func TestSmallDiffOfALargeDocumentIsSmall(t *testing.T) {
	doc := newDocument()
	for i := range 1000 {
		edit(t, doc, fmt.Sprintf(`[{"k%d":{"_exists":true,"text":"%01000d"}}]`, i, i))
	}
	f := (&Diff{snapshot: doc.Snapshot(), since: 999}).Frame()
	if got, most := cap(f.Text()), 4*f.Len()+4096; got > most {
		t.Errorf("%d bytes for a diff of %d", got, f.Len())
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add([]byte(`{"timestamp":3,"state":{"a":{"_exists":true,"x":[1,2]},"b":{"_exists":false}},"timestamps":{"a":{"x":2},"b":{"_exists":3,"y":3}}}`))
	f.Add([]byte(`{"timestamps":{"a":{"\u0061":1}},"state":{"\u0061":{"a":1,"\u0061":"\ud83d"}},"timestamp":1.0,"more":{}}`))
	f.Add([]byte(`{"timestamp":0,"state":{"a":{"_exists":false,"_exists":true}}}`))
	f.Add([]byte("{\"timestamp\":0,\"state\":{\"\xff\":{\"\xff\":\"\xff\"}}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSnapshot(text)
		if err != nil {
			if !errors.Is(err, ErrBadSnapshot) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatalf("read %q, which is not JSON", text)
		}
		again, err := ParseSnapshot([]byte(snapshotText(t, s)))
		if err != nil {
			t.Fatalf("%v in %s", err, snapshotText(t, s))
		}
		doc, same := s.Document(), again.Document()
		recount(t, doc)
		recount(t, same)
		if a, b := snapshotText(t, s), snapshotText(t, again); len(a) != len(b) {
			t.Fatalf("%s\nis read as\n%s", a, b)
		}
		for _, p := range doc.pages {
			for _, c := range p.components {
				at, known := same.index[c.key]
				if !known {
					if c.kind != absent || c.hasTimestamps() {
						t.Fatalf("%s is lost", c.key)
					}
					continue
				}
				o := same.at(at)
				if o.kind != c.kind || sortedState(o) != sortedState(c) {
					t.Fatalf("%s is %d %s, and %d %s when read again", c.key, c.kind, c.appendState(nil), o.kind, o.appendState(nil))
				}
			}
		}
	})
}

// sortedState is a component's data in an order that does not depend on which of
// values and timestamps was read first.
func sortedState(c *component) string {
	lines := make([]string, 0, len(c.fields))
	for i := range c.fields {
		if f := &c.fields[i]; !f.value.isZero() {
			lines = append(lines, f.name+string(f.value.appendJSON(nil)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
