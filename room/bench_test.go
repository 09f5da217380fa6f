package room

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weftsync/weft/room/protocol"
)

const dragged = `{"type":"patch","messageId":"3f0c3f52-7e0c-4c2f-9d8e-0c8a4b6f1d2e","documentPatches":[{"4f8b2c1a-93d7-4e7c-8a5d-2f6b1e9c0d3a/Block":{"position":[1204.5,-318.25],"size":[240,160],"rotateZ":0,"_version":"1"}}]}`

func roomOf(b *testing.B, s *Snapshot, sessions int) *State {
	b.Helper()
	state := NewState(s, Limits{})
	for i := range sessions {
		state.Apply(Event{Kind: Join, Session: strconv.Itoa(i), Client: strconv.Itoa(i), Grant: Grant{Permission: ReadWrite}})
	}
	return state
}

// One patch, parsed and applied, in a room of 50.
func BenchmarkApplyPatch(b *testing.B) {
	state, p := roomOf(b, nil, 50), protocol.NewParser(protocol.Limits{})
	create := strings.Replace(dragged, `"position"`, `"_exists":true,"position"`, 1)
	state.Apply(Event{Kind: Received, Session: "0", Message: parsed(b, create)})
	text := []byte(dragged)
	b.ReportAllocs()
	for b.Loop() {
		m, err := p.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		if got := state.Apply(Event{Kind: Received, Session: "0", Message: m}); len(got) != 2 {
			b.Fatal(got)
		}
	}
}

type nowhere struct{}

func (nowhere) Send(protocol.Frame)  {}
func (nowhere) Close(protocol.Close) {}

// The same through a live room, to 49 sockets that cost nothing.
func BenchmarkReceivePatch(b *testing.B) {
	m := NewManager(Config{})
	defer m.CloseAll(b.Context(), protocol.CloseNormal)
	var sessions []Session
	for range 50 {
		s, err := m.Connect(b.Context(), "r", ConnectOptions{Socket: nowhere{}, Client: "c", Grant: Grant{Permission: ReadWrite}})
		if err != nil {
			b.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	text := []byte(dragged)
	b.ReportAllocs()
	for b.Loop() {
		sessions[0].Receive(text)
	}
}

// Ten points appended to strokes of different lengths: cut again after each so
// that the length stays. A snapshot before each would be the worst case, and is
// measured too: it costs one copy of a pointer for every 128 points.
func BenchmarkAppendToStroke(b *testing.B) {
	for _, points := range []int{40, 4000} {
		for _, snapshot := range []bool{false, true} {
			name := strconv.Itoa(points)
			if snapshot {
				name += "-after-snapshot"
			}
			b.Run(name, func(b *testing.B) {
				n := 2 * points // coordinates
				doc := newDocument()
				all := strings.TrimSuffix(strings.Repeat("1204.5,", n), ",")
				edit(b, doc, `[{"s/Stroke":{"_exists":true,"points":[`+all+`]}}]`)
				ten := strings.TrimSuffix(strings.Repeat("1204.5,", 20), ",")
				grow := parsed(b, fmt.Sprintf(`{"type":"patch","documentPatches":[{"s/Stroke":{"points":{"__buf":1,"len":%d,"runs":[[%d,[%s]]]}}}]}`, n+20, n, ten)).Document.Patches[0]
				cut := parsed(b, fmt.Sprintf(`{"type":"patch","documentPatches":[{"s/Stroke":{"points":{"__buf":1,"len":%d,"runs":[]}}}]}`, n)).Document.Patches[0]
				doc.apply(grow, 2) // now it is taken apart
				b.ReportAllocs()
				for b.Loop() {
					if snapshot {
						doc.Snapshot()
					}
					doc.apply(grow, 3)
					doc.apply(cut, 4)
				}
			})
		}
	}
}

// hundred is a document of 100 000 components; the benchmarks share it.
var hundred = sync.OnceValue(func() *Snapshot {
	var state, stamps strings.Builder
	for i := range 100_000 {
		if i > 0 {
			state.WriteByte(',')
			stamps.WriteByte(',')
		}
		key := fmt.Sprintf("%08x-93d7-4e7c-8a5d-2f6b1e9c0d3a/Block", i)
		fmt.Fprintf(&state, `%q:{"_exists":true,"_version":"1","position":[%d.5,-318.25],"size":[240,160],"rotateZ":0,"text":"a block with a line of text"}`, key, i)
		fmt.Fprintf(&stamps, `%q:{"_exists":%[2]d,"_version":%[2]d,"position":%[2]d,"size":%[2]d,"rotateZ":%[2]d,"text":%[2]d}`, key, i+1)
	}
	s, err := ParseSnapshot([]byte(`{"timestamp":100000,"state":{` + state.String() + `},"timestamps":{` + stamps.String() + `}}`))
	if err != nil {
		panic(err)
	}
	return s
})

func BenchmarkJoinDiff(b *testing.B) {
	for name, since := range map[string]float64{"all": 0, "last-ten": 99_990} {
		b.Run(name, func(b *testing.B) {
			d := &Diff{snapshot: hundred(), since: since}
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(int64(d.Frame().Len()))
			}
		})
	}
}

// What a save costs the room: the snapshot, and the edits after it that have to
// copy what it shares.
func BenchmarkSnapshot(b *testing.B) {
	doc := hundred().Document()
	patch := parsed(b, `{"type":"patch","documentPatches":[{"00001000-93d7-4e7c-8a5d-2f6b1e9c0d3a/Block":{"position":[1,2]}}]}`).Document.Patches[0]
	b.Run("take", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			doc.Snapshot()
		}
	})
	b.Run("take-and-edit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			doc.Snapshot()
			doc.apply(patch, 200_000)
		}
	})
	b.Run("edit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			doc.apply(patch, 200_000)
		}
	})
	b.Run("write", func(b *testing.B) {
		s := doc.Snapshot()
		b.ReportAllocs()
		for b.Loop() {
			n, err := s.WriteTo(io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
		}
	})
	b.Run("parse", func(b *testing.B) {
		text, err := doc.Snapshot().MarshalJSON()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseSnapshot(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		s := doc.Snapshot()
		b.ReportAllocs()
		for b.Loop() {
			s.Document()
		}
	})
}
