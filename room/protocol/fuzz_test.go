package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse holds the parser against encoding/json: it takes the same texts for
// JSON, takes apart what they say and quotes of them what it says it does.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"type":"patch","messageId":"m","documentPatches":[{"a/B":{"_exists":true,"x":[1,{"y":null}]}}],"ephemeralPatches":[{}]}`,
		`{"type":"patch","documentPatches":[{"a":{"x":{"__buf":1,"len":3,"runs":[[0,[1,2]],[-1,[3]],[1.5,[4]]]}}},{"\u0061":{"_exists":false}}]}`,
		`{"type":"reconnect","lastTimestamp":-1e999,"protocolVersion":2,"documentPatches":[{"a":{"a":1,"a":2},"a":{}}]}`,
		`{"type":"auth-refresh","token":"\ud83d\ude00"}`,
		`null`, `{"max depth":x}`, ` [ ] `, `{"type":"patch","type":5}`, "{\"type\":\"\xff\"}",
		`{"type":"patch","documentPatches":5,"documentPatches":[null,{"":7}]}`,
	} {
		f.Add([]byte(text))
	}
	used := NewParser(Limits{MaxBufferLength: 1000}) // what an earlier message left must not show
	f.Fuzz(func(t *testing.T, text []byte) {
		kept := bytes.Clone(text)
		m, err := NewParser(Limits{MaxBufferLength: 1000}).Parse(text)
		again, errAgain := used.Parse(bytes.Clone(text))
		if !bytes.Equal(text, kept) {
			t.Fatal("the text was changed")
		}
		var v *Violation
		if err != nil {
			if m != nil || !errors.As(err, &v) || errAgain == nil || errAgain.Error() != err.Error() {
				t.Fatalf("%v; error %v, then %v", m, err, errAgain)
			}
			if c := v.Close(); c.Code != CodePolicy || len(c.Reason) > MaxCloseReason || utf8.Valid(text) && !utf8.ValidString(c.Reason) {
				t.Fatalf("close %d %q", c.Code, c.Reason)
			}
			if !json.Valid(text) && v.Problem != "is nested too deeply" {
				t.Fatalf("%v in what is not JSON", err)
			}
			return
		}
		if errAgain != nil || again.Kind != m.Kind {
			t.Fatalf("kind %d, then %d %v", m.Kind, again.Kind, errAgain)
		}
		if m.Kind == Ignored {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("kind %d of what is not JSON", m.Kind)
		}
		if !same(m, again) {
			t.Fatalf("a used parser reads\n%+v\nand a new one\n%+v", again, m)
		}
		if m.ID != nil && (m.ID[0] != '"' || !json.Valid(m.ID)) {
			t.Fatalf("id %s", m.ID)
		}
		if m.Kind == Reconnect && m.ProtocolVersion != Version {
			return // its lists are not judged
		}
		for _, l := range []List{m.Document, m.Presence} {
			if m.Kind == AuthRefresh || l.Raw == nil {
				continue
			}
			checkList(t, l)
		}
	})
}

func same(a, b *Message) bool {
	number := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
	list := func(a, b List) bool {
		return bytes.Equal(a.Raw, b.Raw) && a.Growth == b.Growth && len(a.Patches) == len(b.Patches)
	}
	return bytes.Equal(a.ID, b.ID) && (a.ID == nil) == (b.ID == nil) && a.Token == b.Token &&
		number(a.LastTimestamp, b.LastTimestamp) && number(a.ProtocolVersion, b.ProtocolVersion) &&
		list(a.Document, b.Document) && list(a.Presence, b.Presence)
}

func checkList(t *testing.T, l List) {
	var patches []map[string]map[string]json.RawMessage
	if err := json.Unmarshal(l.Raw, &patches); err != nil {
		t.Fatalf("%s: %v", l.Raw, err)
	}
	if len(patches) != len(l.Patches) {
		t.Fatalf("%d patches of %s", len(l.Patches), l.Raw)
	}
	exact := utf8.Valid(l.Raw) && !strings.Contains(strings.ToLower(string(l.Raw)), `\ud`) // encoding/json keeps lone surrogates no more than bad UTF-8
	for i, patch := range l.Patches {
		if exact && len(patch) != len(patches[i]) {
			t.Fatalf("%d keys in patch %d of %s", len(patch), i, l.Raw)
		}
		for _, c := range patch {
			var key string
			if err := json.Unmarshal(c.Key, &key); err != nil {
				t.Fatalf("key %q", c.Key)
			}
			want, ok := patches[i][key]
			if exact && (!ok || len(want) != len(c.Fields)) {
				// encoding/json merges an object that comes twice; the parser takes the last.
				if ok && len(want) > len(c.Fields) {
					continue
				}
				t.Fatalf("component %s with %d fields of %s", c.Key, len(c.Fields), l.Raw)
			}
			exists := Updates
			for _, f := range c.Fields {
				checkField(t, f)
				if string(f.Name) == existsName {
					switch string(f.Value) {
					case "true":
						exists = Creates
					case "false":
						exists = Deletes
					}
				}
			}
			if exists != c.Exists {
				t.Fatalf("%s exists %d: %s", c.Key, c.Exists, l.Raw)
			}
		}
	}
}

func checkField(t *testing.T, f Field) {
	if !json.Valid(f.Name) || !json.Valid(f.Value) {
		t.Fatalf("%s: %s", f.Name, f.Value)
	}
	var delta struct {
		Buf  any               `json:"__buf"`
		Len  any               `json:"len"`
		Runs []json.RawMessage `json:"runs"`
	}
	var members map[string]json.RawMessage
	isDelta := false
	if json.Unmarshal(f.Value, &members) == nil {
		var n any
		_ = json.Unmarshal(members["__buf"], &n) // absent, or beyond float64: not 1
		isDelta = reflect.DeepEqual(n, 1.0)
	}
	if isDelta != f.IsDelta {
		t.Fatalf("%s is a delta: %v", f.Value, f.IsDelta)
	}
	if !isDelta {
		return
	}
	delta.Len, delta.Runs = nil, nil
	if json.Unmarshal(members["len"], &delta.Len) != nil || json.Unmarshal(members["runs"], &delta.Runs) != nil {
		t.Fatalf("delta %s", f.Value)
	}
	if float64(f.Delta.Len) != delta.Len || f.Delta.Len < 0 || f.Delta.Len > 1000 || len(f.Delta.Runs) != len(delta.Runs) {
		t.Fatalf("%s is read as %+v", f.Value, f.Delta)
	}
	for i, r := range f.Delta.Runs {
		var parts []json.RawMessage
		var values []json.RawMessage
		if json.Unmarshal(delta.Runs[i], &parts) != nil || len(parts) < 2 || json.Unmarshal(parts[1], &values) != nil || len(values) != len(r.Values) {
			t.Fatalf("run %s is read as %+v", delta.Runs[i], r)
		}
		for k := range values {
			if !bytes.Equal(values[k], r.Values[k]) {
				t.Fatalf("value %s is read as %s", values[k], r.Values[k])
			}
		}
	}
}
