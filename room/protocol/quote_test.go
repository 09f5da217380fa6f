package protocol

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`""`:                   `""`,
		`"a/B"`:                `"a/B"`,
		`"\u0061\/B"`:          `"a/B"`,
		`"\u00e9é"`:            `"éé"`,
		`"\ud83d\ude00"`:       `"😀"`,
		`"\uD83D\uDE00"`:       `"😀"`,
		`"\ud83d"`:             `"\ud83d"`,
		`"\uD83Dx"`:            `"\ud83dx"`,
		`"\ude00\ud83d"`:       `"\ude00\ud83d"`,
		`"\ud83d\u0041"`:       `"\ud83dA"`,
		`"\n\t\b\f\r\\\""`:     `"\u000a\u0009\u0008\u000c\u000d\\\""`,
		`"\u000A\u0022"`:       `"\u000a\""`,
		`"\ud83d\ud83d\ude00"`: `"\ud83d😀"`,
	} {
		if got := string(Canonical([]byte(in))); got != want {
			t.Errorf("Canonical(%s) = %s, want %s", in, got, want)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add(`a\u0041\ud83d\ude00`)
	f.Add("\\\"\n\x00é")
	f.Fuzz(func(t *testing.T, s string) {
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Skip()
		}
		c := Canonical(quoted)
		if again := Canonical(c); !bytes.Equal(again, c) {
			t.Errorf("not stable: %s, %s", c, again)
		}
		var want, got string
		if err := json.Unmarshal(c, &got); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		if json.Unmarshal(quoted, &want); got != want {
			t.Errorf("%s means %q, want %q", c, got, want)
		}
		if q := AppendQuoted(nil, want); !bytes.Equal(q, c) {
			t.Errorf("AppendQuoted %s, Canonical %s", q, c)
		}
	})
}
