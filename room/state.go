package room

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/weftsync/weft/room/protocol"
)

// Limits bounds what one room may hold. The zero value means the defaults.
type Limits struct {
	protocol.Limits
	// MaxDocumentBytes is how large a document may become, as JSON with its
	// timestamps. A patch that could make it larger closes its sender with
	// 1008. Default 256 MiB.
	MaxDocumentBytes int
	// MaxPresenceBytes is the same for the presence of one client. Default 4 MiB.
	MaxPresenceBytes int
	// MaxSessions is how many sessions a room takes. Default 10 000.
	MaxSessions int
}

// WithDefaults returns l with its zero fields replaced.
func (l Limits) WithDefaults() Limits {
	l.Limits = l.Limits.WithDefaults()
	if l.MaxDocumentBytes <= 0 {
		l.MaxDocumentBytes = 256 << 20
	}
	if l.MaxPresenceBytes <= 0 {
		l.MaxPresenceBytes = 4 << 20
	}
	if l.MaxSessions <= 0 {
		l.MaxSessions = 10_000
	}
	return l
}

// State is a room as a pure function of its events: the document, and the
// sessions with their presence. Apply it to the same events and it does the
// same things, wherever and whenever. It starts no goroutine, reads no clock
// and does no I/O. It is not safe for concurrent use.
type State struct {
	limits   Limits
	doc      *Document
	sessions map[string]*session
	clients  map[string]*client
	present  []*client // those with presence, in the order in which they first had any
	effects  []Effect
}

type session struct {
	client *client
	grant  Grant
}

// client is what the sessions of one clientId share.
type client struct {
	id       string
	quoted   []byte // as JSON
	sessions int
	presence *Document // nil until there is any
}

// NewState returns a room that begins with a document, nil meaning an empty one.
func NewState(s *Snapshot, limits Limits) *State {
	doc := newDocument()
	if s != nil {
		doc = s.Document()
	}
	return &State{
		limits:   limits.WithDefaults(),
		doc:      doc,
		sessions: map[string]*session{},
		clients:  map[string]*client{},
	}
}

// Document is the room's document, to be read and not kept.
func (s *State) Document() *Document { return s.doc }

// Sessions is the number of sessions.
func (s *State) Sessions() int { return len(s.sessions) }

// Session returns a session's client and grant.
func (s *State) Session(id string) (client string, grant Grant, ok bool) {
	if x, ok := s.sessions[id]; ok {
		return x.client.id, x.grant, true
	}
	return "", Grant{}, false
}

// Apply applies an event and returns what must be done, in this order, good
// until the next call. An event of a session that the room does not have does
// nothing.
func (s *State) Apply(e Event) []Effect {
	clear(s.effects)
	s.effects = s.effects[:0]
	limits := &s.limits
	if e.Limits != nil {
		limits = e.Limits
	}
	if e.Kind == Join {
		s.join(e, limits)
		return s.effects
	}
	x, ok := s.sessions[e.Session]
	if !ok {
		return nil
	}
	switch e.Kind {
	case Leave:
		s.leave(e.Session, x)
	case Regrant:
		metadata := x.grant.Metadata
		x.grant = e.Grant
		switch {
		case e.Grant.Metadata == nil:
			x.grant.Metadata = metadata
		case len(e.Grant.Metadata) == 0:
			x.grant.Metadata = nil
		}
	case Received:
		switch e.Message.Kind {
		case protocol.Patch:
			s.patch(e.Session, x, e.Message, limits)
		case protocol.Reconnect:
			s.reconnect(e.Session, x, e.Message, limits, e.Now)
		}
	}
	return s.effects
}

func (s *State) send(to string, f protocol.Frame) {
	s.effects = append(s.effects, Effect{To: to, Frame: f})
}

func (s *State) broadcast(except string, f protocol.Frame) {
	s.effects = append(s.effects, Effect{Except: except, Frame: f})
}

func (s *State) close(session string, c protocol.Close) {
	s.effects = append(s.effects, Effect{To: session, Close: &c})
}

func (s *State) join(e Event, limits *Limits) {
	if _, ok := s.sessions[e.Session]; ok {
		return
	}
	if len(s.sessions) >= limits.MaxSessions {
		s.close(e.Session, protocol.CloseRoomFull)
		return
	}
	c := s.enter(e.Session, e.Client, e.Grant)
	if presence := s.othersPresence(c); presence != nil {
		b := appendPresence(protocol.BeginPatch(nobody, len(presence)), presence)
		s.send(e.Session, protocol.Seal(append(b, '}')))
	}
	s.broadcast("", protocol.ClientCount(len(s.sessions)))
}

// enter adds a session to its client, which may be new.
func (s *State) enter(id, clientID string, grant Grant) *client {
	c := s.clients[clientID]
	if c == nil {
		c = &client{id: clientID, quoted: protocol.AppendQuoted(nil, clientID)}
		s.clients[clientID] = c
	}
	c.sessions++
	s.sessions[id] = &session{client: c, grant: grant}
	return c
}

// leave removes a session. Presence belongs to the client and goes with the
// last of its sessions: a client that came back before its old socket was seen
// to close keeps its cursor.
func (s *State) leave(id string, x *session) {
	delete(s.sessions, id)
	c := x.client
	c.sessions--
	if c.sessions == 0 {
		delete(s.clients, c.id)
		if c.presence != nil {
			s.present = slices.DeleteFunc(s.present, func(other *client) bool { return other == c })
			if c.presence.Len() > 0 {
				s.broadcast("", goodbye(c))
			}
		}
	}
	s.broadcast("", protocol.ClientCount(len(s.sessions)))
}

// goodbye deletes all that a client had announced.
func goodbye(c *client) protocol.Frame {
	b := protocol.BeginPatch(c.quoted, c.presence.Size())
	b = append(b, `,"ephemeralPatches":[{`...)
	first := true
	for _, p := range c.presence.pages {
		for _, component := range p.components {
			b, first = comma(b, first), false
			b = append(append(b, component.key...), `:{"_exists":false}`...)
		}
	}
	return protocol.Seal(append(b, "}]}"...))
}

func (s *State) patch(id string, x *session, m *protocol.Message, limits *Limits) {
	if !m.HasPatches() {
		return
	}
	if x.grant.Permission == ReadWrite && !s.change(id, x, m, limits) {
		return
	}
	s.send(id, protocol.Ack(m.ID, s.doc.timestamp))
}

func (s *State) reconnect(id string, x *session, m *protocol.Message, limits *Limits, now int64) {
	if m.ProtocolVersion != protocol.Version {
		s.send(id, protocol.VersionMismatch())
		return
	}
	since := s.doc.timestamp
	ahead := m.LastTimestamp > float64(since)
	if ahead && mayHaveGiven(m.LastTimestamp, now) {
		s.doc.forget(now) // lest others be given the same timestamps for something else
	}
	agreed, forgot := s.doc.agrees(m.LastTimestamp)
	if x.grant.Permission == ReadWrite {
		if m.HasPatches() && !s.change(id, x, m, limits) {
			return
		}
		switch {
		case forgot:
			s.send(id, protocol.Resync(int64(agreed)))
		case ahead:
			s.send(id, protocol.Resync(since))
		}
	}
	s.catchUp(id, x, agreed)
	s.send(id, protocol.Synced(s.doc.timestamp))
}

// smallDocument is up to which size a diff is built on the spot. Beyond it,
// building one would keep the others of the room waiting.
const smallDocument = 256 << 10

// catchUp tells a session all that was written after a timestamp, and the
// presence of the others.
func (s *State) catchUp(id string, x *session, since float64) {
	presence := s.othersPresence(x.client)
	if presence == nil && !s.doc.hasAfter(since) {
		return
	}
	if s.doc.size > smallDocument {
		diff := &Diff{snapshot: s.doc.Snapshot(), since: since, presence: presence}
		s.effects = append(s.effects, Effect{To: id, Diff: diff})
		return
	}
	if f := diffFrame(s.doc.pages, s.doc.timestamp, 0, since, presence); !f.IsZero() {
		s.send(id, f)
	}
}

// change applies and broadcasts what a message changes. It reports false, and
// closes the session, if that might be more than the room may hold.
func (s *State) change(id string, x *session, m *protocol.Message, limits *Limits) bool {
	c := x.client
	if why := limits.refuse(m, s.doc, c.presence); why != nil {
		s.close(id, *why)
		return false
	}
	if len(m.Document.Patches) > 0 {
		s.doc.count()
		for _, p := range m.Document.Patches {
			s.doc.apply(p, s.doc.timestamp)
		}
	}
	if len(m.Presence.Patches) > 0 {
		if c.presence == nil {
			c.presence = newPresence()
			s.present = append(s.present, c)
		}
		for _, p := range m.Presence.Patches {
			c.presence.apply(p, 0)
		}
	}
	s.broadcast(id, protocol.Broadcast(c.quoted, m.Document.RawOrNil(), m.Presence.RawOrNil(), s.doc.timestamp))
	return true
}

// Refuse says why a message from a session that may write would close it, whatever
// the room holds; nil if that depends on the room, or if it would not. So it can be
// asked where the room is not at hand.
func (l *Limits) Refuse(m *protocol.Message) *protocol.Close {
	if m.Kind == protocol.Reconnect && m.ProtocolVersion != protocol.Version {
		return nil // it changes nothing
	}
	return l.refuse(m, nil, nil)
}

// refuse says why a message might make the document or its sender's presence
// larger than they may be, or nil.
func (l *Limits) refuse(m *protocol.Message, doc, presence *Document) *protocol.Close {
	var why protocol.Close
	switch {
	case over(doc, &m.Document, l.MaxDocumentBytes):
		why = protocol.PolicyViolation(fmt.Sprintf("document is full: it may have %d bytes", l.MaxDocumentBytes))
	case over(presence, &m.Presence, l.MaxPresenceBytes):
		why = protocol.PolicyViolation(fmt.Sprintf("presence is full: it may have %d bytes", l.MaxPresenceBytes))
	default:
		return nil
	}
	return &why
}

// over reports whether a list might make a document larger than most. It
// errs on the side of yes, by as much as the patch itself.
func over(d *Document, l *protocol.List, most int) bool {
	if len(l.Patches) == 0 {
		return false
	}
	const bytesPerElement = 5 // "null," is the longest that fills an array
	size := 0
	if d != nil {
		size = d.size
	}
	return size+4*len(l.Raw)+bytesPerElement*l.Growth > most
}

// othersPresence is the merged presence of all other clients as an object, or
// nil. Where two clients announced the same key, the later client's counts.
func (s *State) othersPresence(but *client) []byte {
	var b []byte
	var seen map[string]bool
	for _, c := range slices.Backward(s.present) {
		if c == but {
			continue
		}
		for _, p := range c.presence.pages {
			for _, component := range p.components {
				if seen[component.key] {
					continue
				}
				if seen == nil {
					seen = make(map[string]bool)
					b = append(make([]byte, 0, 256), '{')
				} else {
					b = append(b, ',')
				}
				seen[component.key] = true
				b = append(append(b, component.key...), ':')
				b = component.appendState(b)
			}
		}
	}
	if b == nil {
		return nil
	}
	return append(b, '}')
}

// SessionInfo is what can be said of a session.
type SessionInfo struct {
	ID         string          `json:"sessionId"`
	Client     string          `json:"clientId"`
	Permission Permission      `json:"permissions"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
}
