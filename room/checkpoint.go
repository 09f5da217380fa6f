package room

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/weftsync/weft/room/protocol"
)

// SessionState is a session as a checkpoint keeps it.
type SessionState struct {
	ID, Client string
	Grant      Grant
	// Presence is the client's merged presence, an object; it comes with one
	// of the client's sessions and is nil with the others.
	Presence json.RawMessage
}

// Checkpoint is the sessions with their presence: with a snapshot of the
// document, all that a state consists of. Clients with presence come first, in
// the order that decides whose counts where two announced the same key.
func (s *State) Checkpoint() []SessionState {
	byClient := map[*client][]string{}
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		c := s.sessions[id].client
		byClient[c] = append(byClient[c], id)
	}
	list := make([]SessionState, 0, len(s.sessions))
	add := func(c *client, presence []byte) {
		for _, id := range byClient[c] {
			list = append(list, SessionState{ID: id, Client: c.id, Grant: s.sessions[id].grant, Presence: presence})
			presence = nil
		}
		delete(byClient, c)
	}
	for _, c := range s.present {
		b := []byte{'{'}
		for _, p := range c.presence.pages {
			b, _ = appendStates(b, p, len(b) == 1)
		}
		add(c, append(b, '}'))
	}
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		add(s.sessions[id].client, nil)
	}
	return list
}

// RestoreState is the state that had the snapshot, nil meaning an empty one,
// and the checkpoint.
func RestoreState(snapshot *Snapshot, sessions []SessionState, limits Limits) *State {
	s := NewState(snapshot, limits)
	parser := protocol.NewParser(s.limits.Limits)
	for _, x := range sessions {
		c := s.enter(x.ID, x.Client, x.Grant)
		if x.Presence != nil {
			c.presence = restorePresence(parser, x.Presence)
			s.present = append(s.present, c)
		}
	}
	return s
}

// restorePresence reads merged presence the way it came in: as a patch. What
// is there exists, also without saying so.
func restorePresence(parser *protocol.Parser, presence []byte) *Document {
	d := newPresence()
	text := append([]byte(`{"type":"patch","ephemeralPatches":[`), presence...)
	m, err := parser.Parse(append(text, "]}"...))
	if err != nil {
		return d // it was written by Checkpoint, so this is not reached
	}
	for _, p := range m.Presence.Patches {
		for i := range p {
			if p[i].Exists == protocol.Updates {
				p[i].Exists = protocol.Creates
			}
		}
		d.apply(p, 0)
	}
	return d
}
