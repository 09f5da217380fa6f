package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// stream is a sequence of frames with every shape of length field, and what feed must make of it.
func stream() (bytesOnWire []byte, want []string) {
	var b bytes.Buffer
	put := func(f ws.Frame) { ws.MustWriteFrame(&b, f) }
	for _, n := range []int{0, 1, 125, 126, 300, 65535, 65536, maxInspect - 1} {
		put(ws.NewTextFrame(bytes.Repeat([]byte{'t'}, n)))
		want = append(want, fmt.Sprintf("1 %d", n))
	}
	put(ws.NewFrame(ws.OpText, false, []byte("be")))
	put(ws.NewPingFrame([]byte("ping")))
	put(ws.NewFrame(ws.OpContinuation, false, nil))
	put(ws.NewFrame(ws.OpContinuation, true, []byte("low")))
	put(ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "x")))
	want = append(want, "9 4", "1 5", "8 3")
	return b.Bytes(), want
}

func TestFramesInPiecesOfAnySize(t *testing.T) {
	in, want := stream()
	for _, piece := range []int{1, 2, 3, 7, 11, 125, 4096, 65536, len(in)} {
		var f frames
		var got []string
		for b := range slices.Chunk(in, piece) {
			err := f.feed(b, func(op ws.OpCode, p []byte, _ bool) { got = append(got, fmt.Sprintf("%d %d", op, len(p))) })
			if err != nil {
				t.Fatalf("pieces of %d: %v", piece, err)
			}
		}
		// A message of maxInspect bytes or more that came in pieces is cut to that.
		if !slices.Equal(got, want) {
			t.Errorf("pieces of %d:\n got %v\nwant %v", piece, got, want)
		}
	}
}

func TestFramesKeepsOnlyTheBeginningOfALongMessage(t *testing.T) {
	var b bytes.Buffer
	ws.MustWriteFrame(&b, ws.NewTextFrame([]byte("head"+strings.Repeat("x", 10*maxInspect))))
	ws.MustWriteFrame(&b, ws.NewTextFrame([]byte("next")))
	var f frames
	var got []string
	for piece := range slices.Chunk(b.Bytes(), 1000) {
		err := f.feed(piece, func(_ ws.OpCode, p []byte, whole bool) {
			got = append(got, fmt.Sprintf("%s %d %v", p[:4], len(p), whole))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{fmt.Sprintf("head %d false", maxInspect), "next 4 true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if cap(f.message) > 4<<10 {
		t.Errorf("keeps a buffer of %d bytes", cap(f.message))
	}
}

func TestFramesRefusesWhatNoServerMaySend(t *testing.T) {
	for name, in := range map[string][]byte{
		"masked":                 {0x81, 0x80, 1, 2, 3, 4},
		"reserved bit":           {0xc1, 0x00},
		"reserved op":            {0x83, 0x00},
		"continuation of none":   {0x80, 0x00},
		"long control":           {0x89, 126, 0, 126},
		"fragmented control":     {0x09, 0x00},
		"text inside of message": {0x01, 0x00, 0x81, 0x00},
	} {
		var f frames
		if err := f.feed(in, func(ws.OpCode, []byte, bool) {}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestScan(t *testing.T) {
	for in, want := range map[string]kind{
		`{"type":"patch","clientId":"a"}`:                       kindPatch,
		`{"clientId":"a","type":"patch"}`:                       kindPatch,
		`{"type":"ack","messageId":"12","timestamp":3}`:         kindAck,
		`{"type":"synced","timestamp":3}`:                       kindSynced,
		`{"type":"version-mismatch","serverProtocolVersion":3}`: kindMismatch,
		`{"type":"clientCount","count":3}`:                      kindOther,
		`{"type":"patches"}`:                                    kindOther,
		``:                                                      kindOther,
		`{"type":"`:                                             kindOther,
		`{"type":"patch","ephemeralPatches":[{"a/Cursor":{"_exists":false}}]`: kindPatch,
	} {
		if got := kindOf([]byte(in)); got != want {
			t.Errorf("kindOf(%s) = %d, want %d", in, got, want)
		}
	}
	for in, want := range map[string][]int64{
		`{"a":{"sentAt":123}}`:                               {123},
		`{"a":{"sentAt":1,"x":2},"b":{"x":[1],"sentAt":20}}`: {1, 20},
		`{"sentAt":}`:  nil,
		`{"sentAt":`:   nil,
		`{"sentat":3}`: nil,
	} {
		if got := tags(nil, []byte(in)); !slices.Equal(got, want) {
			t.Errorf("tags(%s) = %v, want %v", in, got, want)
		}
	}
	if tag, ok := ackTag([]byte(`{"type":"ack","messageId":"9007199254740991","timestamp":1}`)); !ok || tag != 1<<53-1 {
		t.Errorf("ackTag = %d, %v", tag, ok)
	}
	if _, ok := ackTag([]byte(`{"type":"ack","messageId":"seed-1"}`)); ok {
		t.Error("a seeding patch's ack has a tag")
	}
}

func BenchmarkReceive(b *testing.B) {
	rec := newRecorder()
	rec.from.Store(0)
	rec.to.Store(1 << 62)
	c := &client{rec: rec, counts: true, isSynced: true, cfg: &Config{}}
	c.handle = c.message
	var in bytes.Buffer
	for range 100 {
		ws.MustWriteFrame(&in, ws.NewTextFrame([]byte(`{"type":"patch","clientId":"load-0-c13","documentPatches":[{"5eed0000-0000-4000-8000-000000000042/Block":{"position":[1234.5,987.5],"sentAt":123456789}}],"timestamp":4711}`)))
	}
	s := rec.borrow()
	b.ReportAllocs()
	b.SetBytes(int64(in.Len()))
	for b.Loop() {
		if err := c.process(in.Bytes(), s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/delivery")
}
