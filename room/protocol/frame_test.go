package protocol

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFrameHeader(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 255, 256, 65535, 65536, 65537, 1 << 20} {
		text := bytes.Repeat([]byte("x"), n)
		f := NewFrame(text)
		if !bytes.Equal(f.Text(), text) || f.Len() != n || f.IsZero() {
			t.Fatalf("%d bytes: a text of %d", n, f.Len())
		}
		wire := f.Wire()
		if wire[0] != 0x81 {
			t.Errorf("%d bytes: first byte %x", n, wire[0])
		}
		length, header := int(wire[1]), 2
		switch length {
		case 126:
			length, header = int(binary.BigEndian.Uint16(wire[2:])), 4
			if length < 126 {
				t.Errorf("%d bytes in the longer form", n)
			}
		case 127:
			length, header = int(binary.BigEndian.Uint64(wire[2:])), 10
			if length < 65536 {
				t.Errorf("%d bytes in the longest form", n)
			}
		}
		if length != n || len(wire) != header+n {
			t.Errorf("%d bytes: length %d, header %d, frame %d", n, length, header, len(wire))
		}
		text2 := append([]byte(nil), text...)
		for i := range text {
			text[i] = '#'
		}
		if !bytes.Equal(f.Text(), text2) {
			t.Error("the frame is no copy")
		}
	}
	var zero Frame
	if !zero.IsZero() || zero.Len() != 0 {
		t.Error("the zero frame is a message")
	}
}

func TestServerMessages(t *testing.T) {
	for want, f := range map[string]Frame{
		`{"type":"ack","messageId":"a\u0041","timestamp":7}`:                           Ack([]byte(`"a\u0041"`), 7),
		`{"type":"ack","timestamp":0}`:                                                 Ack(nil, 0),
		`{"type":"synced","timestamp":9007199254740991}`:                               Synced(1<<53 - 1),
		`{"type":"resync","since":3}`:                                                  Resync(3),
		`{"type":"clientCount","count":2}`:                                             ClientCount(2),
		`{"type":"version-mismatch","serverProtocolVersion":2}`:                        VersionMismatch(),
		`{"type":"patch","clientId":"\"é\u000a","documentPatches":[{}],"timestamp":4}`: Broadcast(AppendQuoted(nil, "\"é\n"), []byte(`[{}]`), nil, 4),
		`{"type":"patch","clientId":"c","documentPatches":[{"a":{}}],"timestamp":4,"ephemeralPatches":[{"p":{"_exists":0}}]}`: Broadcast([]byte(`"c"`), []byte(`[{"a":{}}]`), []byte(`[{"p":{"_exists":0}}]`), 4),
		`{"type":"patch","clientId":"c","ephemeralPatches":[{}]}`:                                                             Broadcast([]byte(`"c"`), nil, []byte(`[{}]`), 4),
	} {
		if got := string(f.Text()); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestCutReason(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", 123), strings.Repeat("x", 124), strings.Repeat("é", 200), strings.Repeat("x", 122) + "😀", "x" + strings.Repeat("😀", 100)} {
		got := CutReason(s)
		if len(got) > MaxCloseReason || !utf8.ValidString(got) || !strings.HasPrefix(s, got) || len(s) <= MaxCloseReason && got != s || len(s)-len(got) > 0 && len(got) < MaxCloseReason-3 {
			t.Errorf("%q is cut to %q (%d bytes)", s, got, len(got))
		}
	}
}

// Text that is not JSON is passed over, whatever words it has in it.
func TestWordsOfAnErrorInTheText(t *testing.T) {
	for _, text := range []string{`{"max depth":x}`, `{"type":"patch","documentPatches":[{"exceeded max depth":{`} {
		if m := parse(t, text); m.Kind != Ignored {
			t.Errorf("%s: kind %d", text, m.Kind)
		}
	}
}

func TestLimitsDefaults(t *testing.T) {
	if l := (Limits{}).WithDefaults(); l.MaxMessageBytes != 32<<20 || l.MaxBufferLength != 1_000_000 {
		t.Errorf("%+v", l)
	}
	if l := (Limits{1, 2}).WithDefaults(); l != (Limits{1, 2}) {
		t.Errorf("%+v", l)
	}
}
