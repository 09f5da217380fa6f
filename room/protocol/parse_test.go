package protocol

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) *Message {
	t.Helper()
	m, err := NewParser(Limits{}).Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return m
}

func TestParsePatch(t *testing.T) {
	m := parse(t, ` {"type":"patch","messageId":"m-1","documentPatches":[{"a/B":{"_exists":true,"x":1.50,"o":{"k":[1]}}},{}],"ephemeralPatches":[{"c/Cursor":{"_exists":false}}],"more":[{}]} `)
	if m.Kind != Patch || string(m.ID) != `"m-1"` {
		t.Fatalf("kind %v, id %s", m.Kind, m.ID)
	}
	if got := string(m.Document.Raw); got != `[{"a/B":{"_exists":true,"x":1.50,"o":{"k":[1]}}},{}]` {
		t.Errorf("raw document %s", got)
	}
	if n := len(m.Document.Patches); n != 2 {
		t.Fatalf("%d patches", n)
	}
	c := m.Document.Patches[0][0]
	if string(c.Key) != `"a/B"` || c.Exists != Creates || len(c.Fields) != 3 {
		t.Errorf("component %s %v %d", c.Key, c.Exists, len(c.Fields))
	}
	if f := c.Fields[1]; string(f.Name) != `"x"` || string(f.Value) != "1.50" {
		t.Errorf("field %s = %s", f.Name, f.Value)
	}
	if f := c.Fields[2]; string(f.Value) != `{"k":[1]}` || f.IsDelta {
		t.Errorf("field %s = %s", f.Name, f.Value)
	}
	if p := m.Presence.Patches[0][0]; p.Exists != Deletes {
		t.Errorf("presence %v", p.Exists)
	}
}

func TestParseReconnect(t *testing.T) {
	m := parse(t, `{"type":"reconnect","lastTimestamp":-1.5,"protocolVersion":2}`)
	if m.Kind != Reconnect || m.LastTimestamp != -1.5 || m.ProtocolVersion != 2 || m.HasPatches() {
		t.Errorf("%+v", m)
	}
	m = parse(t, `{"type":"reconnect"}`)
	if !math.IsNaN(m.LastTimestamp) || !math.IsNaN(m.ProtocolVersion) {
		t.Errorf("absent numbers: %v %v", m.LastTimestamp, m.ProtocolVersion)
	}
	// Another version's message is none of this version's business.
	m = parse(t, `{"type":"reconnect","protocolVersion":3,"documentPatches":{"new":"shape"}}`)
	if m.Kind != Reconnect || m.ProtocolVersion != 3 {
		t.Errorf("%+v", m)
	}
}

func TestParseDelta(t *testing.T) {
	m := parse(t, `{"documentPatches":[{"s/Stroke":{"points":{"runs":[[2,[7,"a",[1]]],[-1,[0]],[1.5,[9]],[4,[]]],"len":5,"__buf":1.0}}}],"type":"patch"}`)
	f := m.Document.Patches[0][0].Fields[0]
	if !f.IsDelta || f.Delta.Len != 5 || len(f.Delta.Runs) != 4 || m.Document.Growth != 5 {
		t.Fatalf("%+v", f)
	}
	if r := f.Delta.Runs[0]; r.Offset != 2 || len(r.Values) != 3 || string(r.Values[2]) != "[1]" {
		t.Errorf("run %+v", r)
	}
	if r := f.Delta.Runs[2]; r.Offset != nowhere {
		t.Errorf("a fractional offset is %d", r.Offset)
	}
	// The same members mean nothing without the mark.
	m = parse(t, `{"type":"patch","documentPatches":[{"k":{"a":{"__buf":2,"len":-1,"runs":5},"b":{"len":"x"},"c":{"__buf":"1"}}}]}`)
	for _, f := range m.Document.Patches[0][0].Fields {
		if f.IsDelta {
			t.Errorf("%s is a delta", f.Name)
		}
	}
}

func TestIgnored(t *testing.T) {
	for _, text := range []string{
		"", "junk", `{"type":"patch"`, `{"type":"patch"}x`, `5`, `"patch"`, `[]`, `[null]`, `true`, `nul`, `null null`,
		`{}`, `{"type":"zzz"}`, `{"type":5}`, `{"type":null}`, `{"type":"zzz","documentPatches":5}`,
		`{"type":"patch","documentPatches":5`, // not JSON, whatever it says before the fault
		`{"type":"patch","type":"zzz"}`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":}}}]}`,
	} {
		if m := parse(t, text); m.Kind != Ignored {
			t.Errorf("%s: kind %v", text, m.Kind)
		}
	}
}

func TestViolations(t *testing.T) {
	long := strings.Repeat("é", 200)
	deep := strings.Repeat("[", 20000) + strings.Repeat("]", 20000)
	for text, want := range map[string]string{
		`null`: "message must be an object, not null",
		`{"type":"patch","documentPatches":null}`:                                                 "documentPatches must be a list",
		`{"type":"patch","ephemeralPatches":{}}`:                                                  "ephemeralPatches must be a list",
		`{"documentPatches":"x","type":"patch"}`:                                                  "documentPatches must be a list",
		`{"type":"patch","documentPatches":[{},null]}`:                                            "documentPatches[1] must be an object",
		`{"type":"patch","documentPatches":[[]]}`:                                                 "documentPatches[0] must be an object",
		`{"type":"patch","documentPatches":[{"a/B":7}]}`:                                          `documentPatches[0]["a/B"] must be an object`,
		`{"type":"patch","ephemeralPatches":[{"":[]}]}`:                                           `ephemeralPatches[0][""] must be an object`,
		`{"type":"patch","messageId":5}`:                                                          "messageId must be a string",
		`{"type":"reconnect","protocolVersion":2,"lastTimestamp":"0"}`:                            "lastTimestamp must be a number",
		`{"type":"reconnect","protocolVersion":"2"}`:                                              "protocolVersion must be a number",
		`{"type":"auth-refresh","token":{}}`:                                                      "token must be a string",
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1000001,"runs":[]}}}]}`:    `documentPatches[0]["k"]["f"].len is over the limit of 1000000`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1e999,"runs":[]}}}]}`:      `documentPatches[0]["k"]["f"].len is over the limit of 1000000`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1.5,"runs":[]}}}]}`:        `documentPatches[0]["k"]["f"].len must be a whole number`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":-1,"runs":[]}}}]}`:         `documentPatches[0]["k"]["f"].len must be a whole number`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":"1","runs":[]}}}]}`:        `documentPatches[0]["k"]["f"].len must be a number`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"runs":[]}}}]}`:                  `documentPatches[0]["k"]["f"].len is missing`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"len":1,"__buf":1}}}]}`:                    `documentPatches[0]["k"]["f"].runs is missing`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1,"runs":{}}}}]}`:          `documentPatches[0]["k"]["f"].runs must be a list`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1,"runs":[[0,[1]],5]}}}]}`: `documentPatches[0]["k"]["f"].runs[1] must be [offset, [values]]`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1,"runs":[["0",[1]]]}}}]}`: `documentPatches[0]["k"]["f"].runs[0] must be [offset, [values]]`,
		`{"type":"patch","documentPatches":[{"k":{"f":{"__buf":1,"len":1,"runs":[[0]]}}}]}`:       `documentPatches[0]["k"]["f"].runs[0] must be [offset, [values]]`,
		`{"type":"patch","documentPatches":[{"k":{"f":` + deep + `}}]}`:                           "message is nested too deeply",
		`{"type":"patch","documentPatches":[{"` + long + `":5}]}`:                                 `documentPatches[0]["` + long[:38] + `…"] must be an object`,
	} {
		_, err := NewParser(Limits{}).Parse([]byte(text))
		var v *Violation
		if !errors.As(err, &v) {
			t.Errorf("%.80s: error %v, want %s", text, err, want)
			continue
		}
		if v.Error() != want {
			t.Errorf("%.80s:\n got %s\nwant %s", text, v, want)
		}
		if c := v.Close(); c.Code != CodePolicy || len(c.Reason) > MaxCloseReason {
			t.Errorf("close %+v", c)
		}
	}
}

func TestLastOfRepeatedNamesWins(t *testing.T) {
	m := parse(t, `{"type":"reconnect","type":"patch","documentPatches":5,"documentPatches":[{"a":{"x":1},"b":{},"\u0061":{"y":2,"y":3}}]}`)
	patch := m.Document.Patches[0]
	if m.Kind != Patch || len(patch) != 2 {
		t.Fatalf("%v, %d keys", m.Kind, len(patch))
	}
	if c := patch[0]; string(c.Key) != `"a"` || len(c.Fields) != 1 || string(c.Fields[0].Value) != "3" {
		t.Errorf("%s %+v", c.Key, c.Fields)
	}
	// Also beyond the number up to which names are compared one by one.
	var b strings.Builder
	b.WriteString(`{"type":"patch","documentPatches":[{"k":{`)
	for range 3 {
		for i := range 3 * fewNames {
			b.WriteString(`"f` + strings.Repeat("x", i) + `":1,`)
		}
	}
	b.WriteString(`"f":2}}]}`)
	fields := parse(t, b.String()).Document.Patches[0][0].Fields
	if len(fields) != 3*fewNames || string(fields[0].Value) != "2" {
		t.Errorf("%d fields, first %s", len(fields), fields[0].Value)
	}
}

func TestParserKeepsNothing(t *testing.T) {
	p := NewParser(Limits{})
	if _, err := p.Parse([]byte(`{"type":"patch","messageId":"m","documentPatches":[{"k":{"f":{"__buf":1,"len":3,"runs":[[0,[1]]]}}}]}`)); err != nil {
		t.Fatal(err)
	}
	m, err := p.Parse([]byte(`{"type":"patch","documentPatches":[{"k":{"f":1}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if f := m.Document.Patches[0][0].Fields[0]; f.IsDelta || m.ID != nil || m.Document.Growth != 0 || len(f.Delta.Runs) != 0 {
		t.Errorf("%+v id %s", f, m.ID)
	}
}
