package room

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// model is a room as the protocol describes it, in the plainest way: everything
// decoded, nothing shared, nothing clever.
type model struct {
	timestamp int64
	state     map[string]map[string]any
	stamps    map[string]map[string]int64
	sessions  map[string]*modelSession
	presence  map[string]map[string]map[string]any // by client
	order     []string                             // clients with presence
	out       []said
}

type modelSession struct {
	client     string
	permission Permission
}

// said is one effect with its message decoded.
type said struct {
	To, Except string
	Message    any
}

type object = map[string]any

func newModel() *model {
	return &model{
		state: map[string]map[string]any{}, stamps: map[string]map[string]int64{},
		sessions: map[string]*modelSession{}, presence: map[string]map[string]map[string]any{},
	}
}

func decode(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return v
}

func num(n int64) json.Number {
	text, _ := json.Marshal(n)
	return json.Number(text)
}

func (m *model) say(to, except string, message object) {
	m.out = append(m.out, said{to, except, any(message)})
}

func (m *model) join(id, client string, p Permission) {
	if m.sessions[id] != nil {
		return
	}
	m.sessions[id] = &modelSession{client, p}
	if others := m.others(client); len(others) > 0 {
		m.say(id, "", object{"type": "patch", "clientId": "", "ephemeralPatches": []any{others}})
	}
	m.count()
}

func (m *model) count() {
	m.say("", "", object{"type": "clientCount", "count": num(int64(len(m.sessions)))})
}

func (m *model) others(but string) object {
	merged := object{}
	for _, client := range m.order {
		if client == but {
			continue
		}
		for key, data := range m.presence[client] {
			merged[key] = any(data)
		}
	}
	return merged
}

func (m *model) leave(id string) {
	s := m.sessions[id]
	if s == nil {
		return
	}
	delete(m.sessions, id)
	last := true
	for _, other := range m.sessions {
		last = last && other.client != s.client
	}
	if last {
		gone := object{}
		for key := range m.presence[s.client] {
			gone[key] = object{"_exists": false}
		}
		delete(m.presence, s.client)
		m.order = slices.DeleteFunc(m.order, func(c string) bool { return c == s.client })
		if len(gone) > 0 {
			m.say("", "", object{"type": "patch", "clientId": s.client, "ephemeralPatches": []any{gone}})
		}
	}
	m.count()
}

func (m *model) regrant(id string, p Permission) {
	if s := m.sessions[id]; s != nil {
		s.permission = p
	}
}

func list(message object, member string) []any {
	l, _ := message[member].([]any)
	return l
}

func float(v any) float64 {
	n, ok := v.(json.Number)
	if !ok {
		return math.NaN()
	}
	f, _ := n.Float64()
	return f
}

func (m *model) receive(id string, message object) {
	s := m.sessions[id]
	if s == nil {
		return
	}
	writes := s.permission == ReadWrite
	changes := len(list(message, "documentPatches"))+len(list(message, "ephemeralPatches")) > 0
	switch message["type"] {
	case "patch":
		if !changes {
			return
		}
		if writes {
			m.change(id, s, message)
		}
		ack := object{"type": "ack", "timestamp": num(m.timestamp)}
		if messageID, ok := message["messageId"]; ok {
			ack["messageId"] = messageID
		}
		m.say(id, "", ack)
	case "reconnect":
		if float(message["protocolVersion"]) != 2 {
			m.say(id, "", object{"type": "version-mismatch", "serverProtocolVersion": num(2)})
			return
		}
		since, last := m.timestamp, float(message["lastTimestamp"])
		if writes {
			if changes {
				m.change(id, s, message)
			}
			if last > float64(since) {
				m.say(id, "", object{"type": "resync", "since": num(since)})
			}
		}
		answer := object{"type": "patch", "clientId": ""}
		if diff := m.diff(last); len(diff) > 0 {
			answer["documentPatches"] = []any{diff}
			answer["timestamp"] = num(m.timestamp)
		}
		if others := m.others(s.client); len(others) > 0 {
			answer["ephemeralPatches"] = []any{others}
		}
		if len(answer) > 2 {
			m.say(id, "", answer)
		}
		m.say(id, "", object{"type": "synced", "timestamp": num(m.timestamp)})
	}
}

func (m *model) diff(since float64) object {
	diff := object{}
	for key, stamps := range m.stamps {
		data, ok := m.state[key]
		if !ok {
			continue
		}
		part, newer := object{}, false
		for name, t := range stamps {
			if float64(t) > since {
				newer = true
				if v, ok := data[name]; ok {
					part[name] = v
				}
			}
		}
		if newer {
			diff[key] = part
		}
	}
	return diff
}

func (m *model) change(id string, s *modelSession, message object) {
	broadcast := object{"type": "patch", "clientId": s.client}
	if patches := list(message, "documentPatches"); len(patches) > 0 {
		m.timestamp++
		for _, p := range patches {
			m.apply(m.state, p.(object), func(key string, data object) {
				if m.stamps[key] == nil || data["_exists"] == false {
					m.stamps[key] = map[string]int64{}
				}
				for name := range data {
					m.stamps[key][name] = m.timestamp
				}
			})
		}
		broadcast["documentPatches"], broadcast["timestamp"] = patches, num(m.timestamp)
	}
	if patches := list(message, "ephemeralPatches"); len(patches) > 0 {
		if m.presence[s.client] == nil {
			m.presence[s.client] = map[string]map[string]any{}
			m.order = append(m.order, s.client)
		}
		for _, p := range patches {
			m.apply(m.presence[s.client], p.(object), func(string, object) {})
		}
		broadcast["ephemeralPatches"] = patches
	}
	m.say("", id, broadcast)
}

func (m *model) apply(state map[string]map[string]any, patch object, changed func(string, object)) {
	for key, v := range patch {
		data := v.(object)
		old, there := state[key]
		there = there && old["_exists"] != false
		switch {
		case data["_exists"] == false:
			state[key] = object{"_exists": false}
		case there:
			state[key] = merged(old, data)
		case data["_exists"] == true:
			state[key] = merged(nil, data)
		default:
			continue
		}
		changed(key, data)
	}
}

func merged(old, data object) object {
	out := maps.Clone(old)
	if out == nil {
		out = object{}
	}
	for name, v := range data {
		if delta, ok := v.(object); ok && float(delta["__buf"]) == 1 {
			v = modelDelta(old[name], delta)
		}
		out[name] = v
	}
	return out
}

// modelDelta is what the published server makes of a delta. To it the length of
// text is a number of UTF-16 units, a number has none, and then all is holes.
func modelDelta(old any, delta object) []any {
	n := int(float(delta["len"]))
	out := make([]any, n)
	zero := json.Number("0")
	fill := func(from int) {
		for i := from; i < n; i++ {
			out[i] = zero
		}
	}
	switch old := old.(type) {
	case []any:
		fill(copy(out, old))
	case string:
		units := utf16.Encode([]rune(old))
		for i := range min(n, len(units)) {
			out[i] = string(rune(units[i])) // a lone surrogate decodes to U+FFFD, as it does here
		}
		fill(min(n, len(units)))
	case nil:
		fill(0)
	case bool:
		if !old {
			fill(0)
		}
	case json.Number:
		if float(old) == 0 {
			fill(0)
		}
	}
	for _, run := range delta["runs"].([]any) {
		offset, values := float(run.([]any)[0]), run.([]any)[1].([]any)
		for j, v := range values {
			if i := offset + float64(j); i >= 0 && i < float64(n) && i == math.Trunc(i) {
				out[int(i)] = v
			}
		}
	}
	return out
}

// snapshot is the model's document as a snapshot's JSON decodes.
func (m *model) snapshot() object {
	state, stamps := object{}, object{}
	for key, data := range m.state {
		state[key] = any(data)
	}
	for key, of := range m.stamps {
		fields := object{}
		for name, t := range of {
			fields[name] = num(t)
		}
		stamps[key] = any(fields)
	}
	return object{"timestamp": num(m.timestamp), "state": state, "timestamps": stamps}
}

// compare reports where two decoded JSON values differ.
func compare(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}
