package room

import (
	"slices"

	"github.com/weftsync/weft/room/protocol"
)

// EventKind tells events apart.
type EventKind uint8

const (
	// Join adds a session: Session, Client, Grant.
	Join EventKind = iota + 1
	// Leave removes a session: Session.
	Leave
	// Received is a patch or a reconnect that a session sent: Session, Message.
	Received
	// Regrant changes a session's permission and, unless it is nil, its
	// metadata, of which empty text leaves none: Session, Grant.
	Regrant
)

// Event is something that happens to a room. What a room does is a function of
// the events it has applied, in order, and of nothing else.
type Event struct {
	Kind    EventKind
	Session string
	Client  string
	Grant   Grant
	Message *protocol.Message // good only during Apply
	// Now is when the event happened, as a [Clock] has it, by whoever put it in
	// order; 0 if it is not known. The room learns from it how far it may have counted
	// if a client has seen more than the room has. Only a reconnect needs it.
	Now int64
	// Limits is what the event may make of the room; nil means the state's own.
	// Where events are kept and applied again, as in a cluster's log, the limits
	// are kept with them: whoever applies an event must find the same.
	Limits *Limits
}

// Effect is something that an event makes a room do.
type Effect struct {
	// To is the session that gets it; if empty, every session does but Except.
	To, Except string
	// One of these is set.
	Frame protocol.Frame
	Diff  *Diff
	Close *protocol.Close
}

// held is about how many bytes an effect keeps in memory until it is carried out.
func (e *Effect) held() int {
	if e.Diff != nil {
		const perPage = 8
		return len(e.Diff.presence) + perPage*len(e.Diff.snapshot.pages)
	}
	return e.Frame.Len()
}

// Diff is a patch message that is too large to be built on the spot: all that
// was written after a timestamp. Whoever carries out effects builds it where
// it stops nobody, and keeps what follows for the same session behind it.
type Diff struct {
	snapshot *Snapshot
	since    float64
	presence []byte // an object, or nil
}

// Frame builds the message. It is the zero Frame if there is nothing to say.
func (d *Diff) Frame() protocol.Frame {
	s := d.snapshot
	changed := 0
	for range pagesAfter(s.pages, d.since) {
		changed++
	}
	// At most what the changed pages take, if all pages are alike.
	size := s.size / max(1, len(s.pages)) * changed
	return diffFrame(s.pages, s.timestamp, size, d.since, d.presence)
}

var nobody = []byte(`""`) // the clientId of what comes from the server itself

func diffFrame(pages []*page, timestamp int64, size int, since float64, presence []byte) protocol.Frame {
	b := protocol.BeginPatch(nobody, size+len(presence))
	empty := len(b)
	b = append(b, `,"documentPatches":[`...)
	b, some := appendDiff(b, pages, since)
	if some {
		b = append(b, ']')
		b = protocol.AppendTimestamp(b, timestamp)
	} else {
		b = b[:empty]
		if presence == nil {
			return protocol.Frame{}
		}
	}
	b = append(appendPresence(b, presence), '}')
	if cap(b) > 2*len(b)+spareText { // the frame may wait for a slow socket
		b = slices.Clone(b)
	}
	return protocol.Seal(b)
}

// appendPresence appends the member that holds merged presence, if there is any.
func appendPresence(b, presence []byte) []byte {
	if presence == nil {
		return b
	}
	b = append(b, `,"ephemeralPatches":[`...)
	return append(append(b, presence...), ']')
}
