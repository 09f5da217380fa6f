package room

import (
	"reflect"
	"testing"

	"github.com/weftsync/weft/room/protocol"
)

// A state that is restored from its checkpoint and snapshot goes on like the one
// that was not.
func TestRestoreState(t *testing.T) {
	message := func(s *State, session, text string) []string {
		m, err := protocol.NewParser(protocol.Limits{}).Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return told(s.Apply(Event{Kind: Received, Session: session, Message: m}))
	}
	s := NewState(nil, Limits{})
	for session, client := range map[string]string{"1": "a", "2": "a", "3": "b", "4": "c"} {
		s.Apply(Event{Kind: Join, Session: session, Client: client, Grant: Grant{Permission: ReadWrite, Metadata: []byte(`{"n":` + session + `}`)}})
	}
	message(s, "3", `{"type":"patch","ephemeralPatches":[{"shared":{"_exists":true,"by":"b"},"gone":{"_exists":true}},{"gone":{"_exists":false}}]}`)
	message(s, "1", `{"type":"patch","documentPatches":[{"k":{"_exists":true,"p":{"__buf":1,"len":3,"runs":[[1,[5]]]}}}],"ephemeralPatches":[{"shared":{"_exists":true,"by":"a"}}]}`)

	restored := RestoreState(s.Document().Snapshot(), s.Checkpoint(), Limits{})
	if !reflect.DeepEqual(restored.Checkpoint(), s.Checkpoint()) {
		t.Errorf("\n got %+v\nwant %+v", restored.Checkpoint(), s.Checkpoint())
	}
	for _, step := range []func(*State) []string{
		func(s *State) []string {
			return message(s, "4", `{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
		},
		func(s *State) []string {
			return message(s, "4", `{"type":"patch","messageId":"m","ephemeralPatches":[{"shared":{"x":1}}],"documentPatches":[{"k":{"p":{"__buf":1,"len":4,"runs":[]}}}]}`)
		},
		func(s *State) []string { return told(s.Apply(Event{Kind: Leave, Session: "2"})) },
		func(s *State) []string { return told(s.Apply(Event{Kind: Leave, Session: "1"})) },
		func(s *State) []string {
			return message(s, "4", `{"type":"reconnect","lastTimestamp":1,"protocolVersion":2}`)
		},
	} {
		if want, got := step(s), step(restored); !reflect.DeepEqual(got, want) {
			t.Errorf("\n got %q\nwant %q", got, want)
		}
	}
}

func told(effects []Effect) (list []string) {
	for _, e := range effects {
		list = append(list, e.To+"/"+e.Except+" "+string(e.Frame.Text()))
	}
	return list
}

// What is restored has the size that it had: a limit means the same before and
// after.
func TestRestoredSizes(t *testing.T) {
	parser := protocol.NewParser(testLimits.Limits)
	for seed := range uint64(60) {
		d := seeded(seed, 4000)
		s := NewState(nil, testLimits)
		for i := 0; !d.over(); i++ {
			h := d.happen()
			e, ok := h.event(parser)
			if !ok {
				continue
			}
			s.Apply(e)
			if i%8 > 0 {
				continue
			}
			snapshot, err := ParseSnapshot([]byte(snapshotText(t, s.doc.Snapshot())))
			if err != nil {
				t.Fatal(err)
			}
			restored := RestoreState(snapshot, s.Checkpoint(), testLimits)
			if got, want := restored.doc.size, s.doc.size; got != want {
				t.Fatalf("seed %d, event %d: a document of %d bytes is restored with %d: %s", seed, i, want, got, snapshotText(t, snapshot))
			}
			for id, c := range s.clients {
				if c.presence == nil {
					continue
				}
				if got, want := restored.clients[id].presence.size, c.presence.size; got != want {
					t.Fatalf("seed %d, event %d: presence of %d bytes is restored with %d", seed, i, want, got)
				}
			}
		}
	}
}
