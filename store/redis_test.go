package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/weftsync/weft/room"
)

// What needs a Redis is tested beside one: integration/docker.

func TestOwnKey(t *testing.T) {
	if got := OwnKey("weft:", 17); got != "weft:{p17}:own" {
		t.Error(got)
	}
	if got := NewRedis(RedisConfig{}).key(3, "live"); got != "weft:{p3}:live" {
		t.Error(got)
	}
}

func TestIsFenced(t *testing.T) {
	for err, want := range map[error]bool{
		nil:                               false,
		errors.New("not FENCED"):          false,
		ErrFenced:                         true,
		fmt.Errorf("room: %w", ErrFenced): true,
	} {
		if IsFenced(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

var codedSessions = []room.SessionState{
	{},
	{Client: "a", Grant: room.Grant{Permission: room.ReadWrite, Metadata: json.RawMessage(`{"n":1}`)}, Presence: json.RawMessage(`{"k":{"x":1}}`)},
	{Client: "\xff\x00é\n", Grant: room.Grant{Permission: room.ReadOnly, Metadata: json.RawMessage{}}, Presence: json.RawMessage("{\"\xff<\u2028\":{}}")},
}

func TestSessionCodec(t *testing.T) {
	for _, x := range codedSessions {
		text := encodeSession(&x, "edge.1")
		got, home, ok := decodeSession(x.ID, text)
		if !ok || home != "edge.1" || !reflect.DeepEqual(got, x) {
			t.Errorf("got %+v at %q, %v\nwant %+v", got, home, ok, x)
		}
		for n := range text {
			if _, _, ok := decodeSession(x.ID, text[:n]); ok {
				t.Errorf("%q is taken for a session", text[:n])
			}
		}
		if _, _, ok := decodeSession(x.ID, append(text, 0)); ok {
			t.Error("text after a session is passed over")
		}
	}
	bad := room.SessionState{Presence: json.RawMessage(`{"a":`)}
	if _, _, ok := decodeSession("", encodeSession(&bad, "")); ok {
		t.Error("presence that is no JSON is taken")
	}
}

func FuzzDecodeSession(f *testing.F) {
	for _, x := range codedSessions {
		f.Add(encodeSession(&x, "edge.1"))
	}
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		decodeOrder(text)
		x, home, ok := decodeSession("s", text)
		if !ok {
			return
		}
		again, home2, ok := decodeSession("s", encodeSession(&x, home))
		if !ok || home2 != home || !reflect.DeepEqual(again, x) {
			t.Errorf("got %+v at %q, %v\nwant %+v at %q", again, home2, ok, x, home)
		}
	})
}

func TestOrderCodec(t *testing.T) {
	for _, ids := range [][]string{nil, {""}, {"b", "a", "\xff,\n"}} {
		var sessions []room.SessionState
		for _, id := range ids {
			sessions = append(sessions, room.SessionState{ID: id})
		}
		got, ok := decodeOrder(encodeOrder(sessions))
		if !ok || !reflect.DeepEqual(got, ids) {
			t.Errorf("got %q, %v, want %q", got, ok, ids)
		}
	}
	if _, ok := decodeOrder([]byte("\x05abc")); ok {
		t.Error("a part of an order is taken for one")
	}
}

func TestDirectoryCodec(t *testing.T) {
	long := make([]storedPage, directoryLen)
	for i := range long {
		long[i] = storedPage{"one", 1}
	}
	all := [][]storedPage{nil, {{"", 1}}, {{"a", 1}, {"a", 1}, {"b", 1}, {"b", maxParts}, {"a", 1}}, long}
	for _, pages := range all {
		text := string(encodeDirectory(pages))
		got, ok := decodeDirectory(text, len(pages))
		if !ok || !slices.Equal(got, pages) {
			t.Errorf("got %v, %v, want %v", got, ok, pages)
		}
		if _, ok := decodeDirectory(text, len(pages)+1); ok {
			t.Errorf("%q is taken for one page more", text)
		}
		for n := range len(text) {
			if _, ok := decodeDirectory(text[:n], len(pages)); ok {
				t.Errorf("%q is taken for %d pages", text[:n], len(pages))
			}
		}
	}
	if n := len(encodeDirectory(long)); n > 10 {
		t.Errorf("%d bytes for what one save has written", n)
	}
	for _, text := range []string{"\x00\x01\x01v", "\x01\x00\x01v", "\x01\xff\xff\xff\xff\x0f\x01v", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x01v"} {
		if pages, ok := decodeDirectory(text, directoryLen); ok {
			t.Errorf("%q is taken for %v", text, pages)
		}
	}
}

func TestForgottenCodec(t *testing.T) {
	for _, list := range [][]room.Forgotten{nil, {{After: 0, Before: 1}}, {{After: 3, Before: 1 << 40}, {After: 1<<40 + 7, Before: maxTimestamp}}} {
		text := encodeForgotten(list)
		got, ok := decodeForgotten(text)
		if !ok || !reflect.DeepEqual(got, list) {
			t.Errorf("got %v, %v, want %v", got, ok, list)
		}
		if _, ok := decodeForgotten(append(text, 0xff)); ok {
			t.Error("half a range is taken for one")
		}
	}
	if _, ok := decodeForgotten([]byte{2, 1}); ok {
		t.Error("a range that ends before it begins is taken")
	}
}
