package protocol

import (
	"fmt"
	"strings"
	"testing"
)

// A block that is dragged: what a client sends most.
const typical = `{"type":"patch","messageId":"3f0c3f52-7e0c-4c2f-9d8e-0c8a4b6f1d2e","documentPatches":[{"4f8b2c1a-93d7-4e7c-8a5d-2f6b1e9c0d3a/Block":{"position":[1204.5,-318.25],"size":[240,160],"rotateZ":0,"_version":"1"}}]}`

func BenchmarkParsePatch(b *testing.B) {
	p, text := NewParser(Limits{}), []byte(typical)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if m, err := p.Parse(text); err != nil || m.Kind != Patch {
			b.Fatal(err)
		}
	}
}

// Ten points appended to a stroke of 4000.
func BenchmarkParseDelta(b *testing.B) {
	points := strings.TrimSuffix(strings.Repeat("1204.5,", 20), ",")
	p, text := NewParser(Limits{}), fmt.Appendf(nil, `{"type":"patch","messageId":"m","documentPatches":[{"s/Stroke":{"points":{"__buf":1,"len":8000,"runs":[[7980,[%s]]]}}}]}`, points)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := p.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

// A client that seeds a document of 10 000 components.
func BenchmarkParseSeed(b *testing.B) {
	var s strings.Builder
	s.WriteString(`{"type":"patch","messageId":"m","documentPatches":[{`)
	for i := range 10_000 {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, `"%032d/Block":{"_exists":true,"position":[%d.5,2],"size":[240,160],"text":"hello"}`, i, i)
	}
	s.WriteString(`}]}`)
	p, text := NewParser(Limits{}), []byte(s.String())
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := p.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBroadcast(b *testing.B) {
	id, list := []byte(`"client"`), []byte(typical)
	b.ReportAllocs()
	for b.Loop() {
		if f := Broadcast(id, list, nil, 1204); f.Len() == 0 {
			b.Fatal("no frame")
		}
	}
}
