package faults

import (
	"encoding/json"
	"fmt"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

type rawJSON = json.RawMessage

// replay applies the frames in the order of their timestamps to an empty room, and compares what comes
// out with the room as it is. Where nobody saw which frame a timestamp has, only the keys of the frames
// that come into question are left out of the comparison.
func (c *roomCheck) replay(final Final, pending []*frame) {
	state := room.NewState(nil, room.Limits{})
	state.Apply(room.Event{
		Kind: room.Join, Session: "s", Client: "c",
		Grant: room.Grant{Permission: room.ReadWrite},
	})
	parser := protocol.NewParser(protocol.Limits{})
	for _, t := range c.timestamps(final.Timestamp) {
		message, err := parser.Parse(fmt.Appendf(nil, `{"type":"patch","messageId":"m","documentPatches":%s}`, c.at[t].text))
		if err != nil {
			c.violated(RuleReplay, "timestamp %d: %v", t, err)
			return
		}
		state.Apply(room.Event{Kind: room.Received, Session: "s", Message: message})
	}
	var snapshot struct {
		State Patch `json:"state"`
	}
	b, err := json.Marshal(state.Document().Snapshot())
	if err == nil {
		err = json.Unmarshal(b, &snapshot)
	}
	if err != nil {
		c.violated(RuleReplay, "the replayed room cannot be read: %v", err)
		return
	}
	uncertain := map[string]bool{}
	for _, f := range pending {
		for key := range keysOf(f.text) {
			uncertain[key] = true
		}
	}
	if d := differences(snapshot.State, final.Document, uncertain); d != "" {
		c.violated(RuleReplay, "replayed or in the room: %s", d)
	}
}

// keysOf is what a list of patches says of each key; of one that is no such list, nothing.
func keysOf(text []byte) Patch {
	var patches []Patch
	if json.Unmarshal(text, &patches) != nil {
		return nil
	}
	all := Patch{}
	for _, p := range patches {
		all.merge(p)
	}
	return all
}

// merge applies a change to a document, as the protocol says.
func (p Patch) merge(change Patch) {
	for key, fields := range change {
		old := p[key]
		if string(fields["_exists"]) == "false" {
			p[key] = map[string]rawJSON{"_exists": rawJSON("false")}
			continue
		}
		if old == nil || string(old["_exists"]) == "false" {
			old = map[string]rawJSON{}
			p[key] = old
		}
		for name, value := range fields {
			old[name] = value
		}
	}
}

func asJSON(fields map[string]rawJSON) string {
	if fields == nil {
		return "absent"
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
