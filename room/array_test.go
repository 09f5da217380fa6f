package room

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/weftsync/weft/room/protocol"
)

// plainApply is what a delta does to a plain list.
func plainApply(old []string, d *protocol.Delta, filler string) []string {
	out := make([]string, d.Len)
	for i := copy(out, old); i < d.Len; i++ {
		out[i] = filler
	}
	for _, r := range d.Runs {
		for j, v := range r.Values {
			if at := r.Offset + int64(j); at >= 0 && at < int64(d.Len) {
				out[at] = string(v)
			}
		}
	}
	return out
}

func arrayText(a *array) string { return string(a.appendJSON(nil)) }

func checkArray(t *testing.T, what string, a *array, want []string) {
	t.Helper()
	text := "[" + strings.Join(want, ",") + "]"
	if got := arrayText(a); got != text {
		t.Fatalf("%s:\n got %.400s\nwant %.400s", what, got, text)
	}
	if a.n != len(want) || (value{arr: a}).len() != len(text) {
		t.Fatalf("%s: n %d size %d of %d elements and %d bytes", what, a.n, a.size, len(want), len(text))
	}
	if chunks := (len(want) + chunkLen - 1) / chunkLen; len(a.chunks) != chunks {
		t.Fatalf("%s: %d chunks", what, len(a.chunks))
	}
}

func TestArrayAgainstAPlainList(t *testing.T) {
	lengths := []int{0, 1, 2, 64, 127, 128, 129, 130, 255, 256, 257, 300, 384, 385, 600}
	for seed := range uint64(40) {
		d := seeded(seed, 4000)
		epoch := uint64(1)
		a, want := &array{epoch: epoch}, []string(nil)
		type kept struct {
			a    *array
			text string
		}
		var old []kept
		for i := 0; !d.over(); i++ {
			if d.roll(3) == 0 {
				old = append(old, kept{a, arrayText(a)})
				epoch++
			}
			delta := &protocol.Delta{Len: pick(d, lengths...)}
			if d.roll(3) == 0 {
				delta.Len = max(0, a.n+d.roll(5)-2)
			}
			for range d.roll(5) {
				r := protocol.Run{Offset: int64(pick(d, -1<<52, -200, -3, -1, 0, 1, 100, 126, 127, 128, 129, 255, 256, a.n-1, a.n, delta.Len-1, delta.Len, 1<<52))}
				for range d.roll(pick(d, 3, 10, 256)) {
					r.Values = append(r.Values, []byte(pick(d, `1`, `-2.5`, `"a,b"`, `[0,[1]]`, `null`, `123456789012`)))
				}
				delta.Runs = append(delta.Runs, r)
			}
			filler, text := zeros, "0"
			if d.roll(6) == 0 {
				filler, text = nulls, "null"
			}
			a, want = a.apply(delta, filler, epoch), plainApply(want, delta, text)
			checkArray(t, fmt.Sprintf("seed %d step %d %+v", seed, i, delta), a, want)
		}
		for i, k := range old {
			if got := arrayText(k.a); got != k.text {
				t.Fatalf("seed %d: the array that snapshot %d holds changed from\n%.300s\nto\n%.300s", seed, i, k.text, got)
			}
		}
	}
	for element, c := range map[string]*chunk{"0": zeros, "null": nulls} {
		if want := strings.Repeat(element+",", chunkLen); string(c.text)+"," != want || len(c.ends) != chunkLen {
			t.Errorf("the shared chunk of %s is now %s", element, c.text)
		}
	}
}

// What becomes of a value that is no list was read off the published server.
func TestDeltaOnOtherValues(t *testing.T) {
	for old, want := range map[string]string{
		``:                     `[0,5,0,0]`,
		`null`:                 `[0,5,0,0]`,
		`false`:                `[0,5,0,0]`,
		`0`:                    `[0,5,0,0]`,
		`-0.0e5`:               `[0,5,0,0]`,
		`1e-999`:               `[0,5,0,0]`,
		`""`:                   `[0,5,0,0]`,
		`true`:                 `[null,5,null,null]`,
		`7`:                    `[null,5,null,null]`,
		`1e999`:                `[null,5,null,null]`,
		`{}`:                   `[null,5,null,null]`,
		`{"0":1,"a":[1,2]}`:    `[null,5,null,null]`,
		`[]`:                   `[0,5,0,0]`,
		`[ 1.0 , [2], "3" ]`:   `[1.0,5,"3",0]`,
		`[1,2,3,4,5,6]`:        `[1,5,3,4]`,
		`"ab"`:                 `["a",5,0,0]`,
		`"é\u0041\"\n"`:        `["é",5,"\"","\u000a"]`,
		`"a\ud83d\ude00x😀"`:    `["a",5,"\ude00","x"]`,
		`"\ud83dx\ude00long…"`: `["\ud83d",5,"\ude00","l"]`,
		`"\\\/"`:               `["\\",5,0,0]`,
	} {
		delta := &protocol.Delta{Len: 4, Runs: []protocol.Run{{Offset: 1, Values: [][]byte{[]byte("5")}}}}
		v := value{raw: old}.applyDelta(delta, 1)
		if got := string(v.appendJSON(nil)); got != want || v.len() != len(want) {
			t.Errorf("%s becomes %s, want %s (len %d)", old, got, want, v.len())
		}
		// And once more, on what is a list now.
		v = v.applyDelta(&protocol.Delta{Len: 6}, 2)
		if got := string(v.appendJSON(nil)); got != want[:len(want)-1]+",0,0]" {
			t.Errorf("%s becomes %s", old, got)
		}
	}
}

// A short delta on a long value must not cost what the value is long.
func TestDeltaOnALongValueCostsItsOwnLength(t *testing.T) {
	delta := &protocol.Delta{Len: 2}
	for name, raw := range map[string]string{
		"text": `"` + strings.Repeat("x", 100_000) + `"`,
		"list": "[0" + strings.Repeat(",0", 100_000) + "]",
	} {
		if n := testing.AllocsPerRun(3, func() { value{raw: raw}.applyDelta(delta, 1) }); n > 100 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestReplaceGivesBackMemory(t *testing.T) {
	a := (&array{epoch: 1}).apply(&protocol.Delta{Len: 1, Runs: []protocol.Run{{Values: [][]byte{append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 1<<20)...), '"')}}}}, zeros, 1)
	a = a.apply(&protocol.Delta{Len: 1, Runs: []protocol.Run{{Values: [][]byte{[]byte("1")}}}}, zeros, 1)
	if c := cap(a.chunks[0].text); c > 64<<10 {
		t.Errorf("one digit takes %d bytes", c)
	}
}
