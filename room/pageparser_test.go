package room

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// parsePages puts together what a snapshot's pages are written as.
func parsePages(t *testing.T, timestamp int64, texts []string) (*Snapshot, bool) {
	t.Helper()
	var p PageParser
	for _, text := range texts {
		b := []byte(text)
		if err := p.Parse(b); err != nil {
			t.Fatalf("%v in %.200s", err, text)
		}
		clear(b)
	}
	return p.Snapshot(timestamp)
}

func pageTexts(s *Snapshot) (texts []string) {
	for _, p := range s.Pages(-1) {
		texts = append(texts, string(p.AppendJSON(nil)))
	}
	return texts
}

func TestPageParser(t *testing.T) {
	for _, keys := range []int{0, 1, pageLen - 1, pageLen, pageLen + 1, 3 * pageLen} {
		var state, stamps []string
		for i := range keys {
			switch i % 3 { // a component, a tombstone, and a key that only timestamps know
			case 0:
				state = append(state, fmt.Sprintf(`"k%d":{"_exists":true,"x":%d}`, i, i))
				stamps = append(stamps, fmt.Sprintf(`"k%d":{"_exists":%d,"x":%d}`, i, i, i))
			case 1:
				state = append(state, fmt.Sprintf(`"k%d":{"_exists":false}`, i))
			case 2:
				stamps = append(stamps, fmt.Sprintf(`"k%d":{"x":%d}`, i, i))
			}
		}
		text := fmt.Sprintf(`{"timestamp":%d,"state":{%s},"timestamps":{%s}}`, keys, strings.Join(state, ","), strings.Join(stamps, ","))
		s, err := ParseSnapshot([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, same := parsePages(t, s.Timestamp(), pageTexts(s))
		if !same {
			t.Errorf("%d keys: the pages are said to have moved", keys)
		}
		if want := snapshotText(t, s); snapshotText(t, got) != want {
			t.Errorf("%d keys:\n got %.300s\nwant %.300s", keys, snapshotText(t, got), want)
		}
		if got.Len() != s.Len() || got.Size() != s.Size() {
			t.Errorf("%d keys: got %d of %d bytes, want %d of %d", keys, got.Len(), got.Size(), s.Len(), s.Size())
		}
	}
}

// A key without anything to write leaves its page with one key less, and the
// keys of the next would move up.
func TestPageParserTellsThatPagesHaveMoved(t *testing.T) {
	var state []string
	for i := range pageLen + 10 {
		state = append(state, fmt.Sprintf(`"k%d":{"_exists":true}`, i))
	}
	s, err := ParseSnapshot([]byte(`{"timestamp":1,"timestamps":{"nothing":{}},"state":{` + strings.Join(state, ",") + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, same := parsePages(t, 1, pageTexts(s))
	if same {
		t.Error("the pages are said to be the same")
	}
	if snapshotText(t, got) != snapshotText(t, s) {
		t.Error("the document is another")
	}
	if _, same := parsePages(t, 1, []string{`{}`}); same {
		t.Error("a page without keys is said to be there")
	}
	if _, same := parsePages(t, 1, pageTexts(got)); !same {
		t.Error("written anew, the pages are said to have moved")
	}
}

func TestPageParserErrors(t *testing.T) {
	for _, text := range []string{``, `[]`, `{`, `{}{}`, `{"state":1}`, `{"state":{"a":1}}`, `{"timestamps":{"a":{"x":"1"}}}`} {
		var p PageParser
		if err := p.Parse([]byte(text)); !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
