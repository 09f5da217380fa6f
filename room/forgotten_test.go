package room

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// now is a moment long after what a room in a test has counted.
const now = 1_000_000

// forgetful is a room that has come to timestamp 3, and has forgotten 4 and 5.
func forgetful(t testing.TB) *State {
	s := NewState(parseSnapshot(t, `{"timestamp":3,"state":{"k/C":{"_exists":true,"x":1,"y":3}},"timestamps":{"k/C":{"_exists":1,"x":1,"y":3}}}`), Limits{})
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		s.Apply(Event{Kind: Join, Session: id, Client: id, Grant: Grant{Permission: ReadWrite}})
	}
	s.Apply(Event{Kind: Join, Session: "reader", Client: "reader", Grant: Grant{Permission: ReadOnly}})
	return s
}

func parseSnapshot(t testing.TB, text string) *Snapshot {
	t.Helper()
	s, err := ParseSnapshot([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// says is what a session gets for a message.
func says(t *testing.T, s *State, session, text string) string {
	t.Helper()
	return saysAt(t, s, session, text, now)
}

func saysAt(t *testing.T, s *State, session, text string, at int64) string {
	t.Helper()
	var told []string
	for _, e := range effectsOf(s.Apply(Event{Kind: Received, Session: session, Message: parsed(t, text), Now: at})) {
		if own, ok := strings.CutPrefix(e, session+"||"); ok {
			told = append(told, own)
		}
	}
	return strings.Join(told, "\n")
}

func reconnectAt(last any) string {
	return fmt.Sprintf(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":%v}`, last)
}

// A room that knows less than a client gives out no timestamp again, and whoever
// comes later from what was forgotten is asked for it, and is told all that has
// come since.
func TestForgottenTimestampsAreNotGivenOutAgain(t *testing.T) {
	s := forgetful(t)
	check := func(s *State, session, text, want string) {
		t.Helper()
		if got := says(t, s, session, text); got != want {
			t.Errorf("%s says %s and gets\n%s\nwant\n%s", session, text, got, want)
		}
	}
	check(s, "c", reconnectAt(3), `{"type":"synced","timestamp":3}`)
	check(s, "a", reconnectAt(5), `{"type":"resync","since":3}`+"\n"+`{"type":"synced","timestamp":3}`)
	check(s, "a", reconnectAt(1_500_000), `{"type":"resync","since":3}`+"\n"+`{"type":"synced","timestamp":3}`)
	check(s, "b", reconnectAt(4), `{"type":"resync","since":3}`+"\n"+`{"type":"synced","timestamp":3}`)
	check(s, "c", reconnectAt(3), `{"type":"synced","timestamp":3}`)
	check(s, "a", `{"type":"patch","messageId":"healed","documentPatches":[{"k/C":{"x":5}}]}`, `{"type":"ack","messageId":"healed","timestamp":1000000}`)
	check(s, "a", `{"type":"patch","messageId":"new","documentPatches":[{"k/C":{"y":6}}]}`, `{"type":"ack","messageId":"new","timestamp":1000001}`)
	for name, s := range map[string]*State{
		"later":            s,
		"after it is kept": RestoreState(parseSnapshot(t, snapshotText(t, s.doc.Snapshot())), s.Checkpoint(), Limits{}),
	} {
		t.Run(name, func(t *testing.T) {
			all := `{"type":"patch","clientId":"","documentPatches":[{"k/C":{"x":5,"y":6}}],"timestamp":1000001}`
			synced := "\n" + `{"type":"synced","timestamp":1000001}`
			check(s, "b", reconnectAt(5), `{"type":"resync","since":3}`+"\n"+all+synced)
			check(s, "d", reconnectAt(4), `{"type":"resync","since":3}`+"\n"+all+synced)
			check(s, "reader", reconnectAt(5), all+synced)
			check(s, "c", reconnectAt(3), all+synced)
			check(s, "e", reconnectAt(1000000), `{"type":"patch","clientId":"","documentPatches":[{"k/C":{"y":6}}],"timestamp":1000001}`+synced)
			check(s, "e", reconnectAt(1000001), synced[1:])
		})
	}
}

// The patches of the one who tells the room come after what was forgotten.
func TestPatchesOfAReconnectAfterWhatWasForgotten(t *testing.T) {
	s := forgetful(t)
	got := says(t, s, "a", `{"type":"reconnect","protocolVersion":2,"lastTimestamp":5,"documentPatches":[{"k/C":{"x":7}}]}`)
	want := `{"type":"resync","since":3}` + "\n" +
		`{"type":"patch","clientId":"","documentPatches":[{"k/C":{"x":7}}],"timestamp":1000000}` + "\n" + `{"type":"synced","timestamp":1000000}`
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// What no room can have given out moves no counter, and gets what it always got.
func TestTimestampsThatNoRoomHasGivenOut(t *testing.T) {
	for _, c := range []struct {
		last any
		now  int64
	}{{3.5, now}, {now, now}, {"1e300", now}, {"9007199254740993", now}, {5, 0}, {5, 5}, {5, 4}, {5, maxTimestamp}} {
		s := forgetful(t)
		got := saysAt(t, s, "a", reconnectAt(c.last), c.now)
		if want := `{"type":"resync","since":3}` + "\n" + `{"type":"synced","timestamp":3}`; got != want {
			t.Errorf("%v at %d gets\n%s\nwant\n%s", c.last, c.now, got, want)
		}
		if len(s.doc.forgotten) != 0 {
			t.Errorf("%v at %d: %v", c.last, c.now, s.doc.forgotten)
		}
	}
}

func TestForgottenIsBounded(t *testing.T) {
	s := forgetful(t)
	for i := range int64(3 * maxForgotten) {
		s.doc.forget(now*(i+1) - 5)
		s.doc.forget(now * (i + 1)) // nothing has come between: it is the same
		s.doc.forget(7)
		says(t, s, "a", `{"type":"patch","documentPatches":[{}]}`)
	}
	list := s.doc.forgotten
	if len(list) != maxForgotten || list[0].Before-list[0].After != now || list[maxForgotten-1].Before != 3*maxForgotten*now {
		t.Errorf("%d: %v", len(list), list)
	}
	older := s.doc.Snapshot()
	text := snapshotText(t, older)
	s.doc.forget(5 * maxForgotten * now)
	s.doc.forget(6 * maxForgotten * now)
	if snapshotText(t, older) != text {
		t.Error("a snapshot has changed")
	}
}

// The published server reads a snapshot in which something is forgotten like any
// other, by its three members.
func TestForgottenInASnapshot(t *testing.T) {
	s := forgetful(t)
	before := snapshotText(t, s.doc.Snapshot())
	says(t, s, "a", reconnectAt(5))
	want := before[:len(before)-1] + `,"forgotten":[[3,1000000]]}`
	text := snapshotText(t, s.doc.Snapshot())
	if text != want {
		t.Errorf("\n got %s\nwant %s", text, want)
	}
	if again := snapshotText(t, parseSnapshot(t, text)); again != text {
		t.Errorf("it is read as %s", again)
	}
	if !json.Valid([]byte(text)) {
		t.Error("it is no JSON")
	}
	for _, bad := range []string{`7`, `[7]`, `[[1]]`, `[[1,2,3]]`, `[[2,2]]`, `[["a",2]]`, `[[1,2]`} {
		if _, err := ParseSnapshot([]byte(`{"timestamp":3,"forgotten":` + bad + `}`)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A manager's rooms know the time.
func TestRoomGoesOnAfterWhatItHasForgotten(t *testing.T) {
	var patches []DocumentPatch
	config := Config{OnDocumentPatch: func(_ *Room, p DocumentPatch) { patches = append(patches, p) }}
	managed(t, config, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		as.take()
		receive(a, reconnectAt(5))
		at := Clock(time.Now())
		wantSent(t, as, `{"type":"resync","since":0}`, `{"type":"synced","timestamp":0}`)
		receive(a, put)
		r, _ := m.Existing("r")
		if s := r.Snapshot(); s.Timestamp() != at || len(s.Forgotten()) != 1 || len(patches) != 1 || patches[0].Timestamp != at {
			t.Errorf("%d %v %+v", s.Timestamp(), s.Forgotten(), patches)
		}
	})
}
