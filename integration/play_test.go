package integration

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// side is one server's part in a play: the same clients in the same room.
type side struct {
	srv     *nodes
	room    string
	clients [slots]*wsClient
}

// play drives one sequence on two servers in lockstep.
type play struct {
	room     string
	sides    [2]*side
	identity [slots]string // who is connected, "" for nobody; alike on both sides
	canWrite [slots]bool
	presence map[string]bool // which clients may have presence
	ts       float64         // the room's timestamp, as frames have told
}

func newPlay(room string, a, b *nodes) *play {
	return &play{
		room:     room,
		sides:    [2]*side{{srv: a, room: room}, {srv: b, room: room}},
		presence: map[string]bool{},
	}
}

// restart forgets the sockets, which the servers' end has closed, and goes on with new servers over
// the same data.
func (p *play) restart(a, b *nodes) {
	p.drop()
	p.sides[0].srv, p.sides[1].srv = a, b
	p.identity = [slots]string{}
	p.presence = map[string]bool{}
}

func (p *play) drop() {
	for _, s := range p.sides {
		for slot, c := range s.clients {
			if c != nil {
				c.drop()
			}
			s.clients[slot] = nil
		}
	}
}

// difference is what a play stops at.
type difference struct {
	at   int
	step step
	what string
}

func (d *difference) String() string {
	return fmt.Sprintf("step %d: %v\n%s", d.at, d.step, d.what)
}

// run plays the steps numbered from…to-1 and stops at the first difference.
func (p *play) run(steps []step, from, to int) *difference {
	for i := from; i < to && i < len(steps); i++ {
		if what := p.step(steps[i]); what != "" {
			return &difference{i, steps[i], what}
		}
	}
	return nil
}

// step plays one step on both sides and says how they differ, if they do. Steps that make no sense
// now (an empty slot speaks, a full one joins) are passed over, so that any part of a sequence is one.
func (p *play) step(s step) string {
	present := p.identity[s.Slot] != ""
	if present == (s.Kind == stepJoin) {
		return ""
	}
	ends := s.Kind == stepLeave || s.Kind == stepRefresh && s.Defect != ""
	if ends && p.hasTwinWithPresence(s.Slot) {
		return "" // Weft keeps the presence for the other session, on purpose
	}
	var got [2]*outcome
	for i, side := range p.sides {
		var err error
		if got[i], err = side.act(s, p.fill(s.Frames), p.identity, p.canWrite); err != nil {
			return fmt.Sprintf("%s: %v\nso far: %v", side.srv.name(), err, got[i])
		}
	}
	if what := got[0].compare(got[1], p.sides[0].srv.name(), p.sides[1].srv.name()); what != "" {
		return what
	}
	p.note(s, got[0], ends)
	return ""
}

// note keeps what later steps depend on.
func (p *play) note(s step, got *outcome, ends bool) {
	switch {
	case s.Kind == stepJoin && s.Defect == "":
		p.identity[s.Slot], p.canWrite[s.Slot] = s.Client, s.Write
	case s.Kind == stepRefresh && !ends:
		p.canWrite[s.Slot] = s.Write
	}
	if s.Presence && p.identity[s.Slot] != "" {
		p.presence[p.identity[s.Slot]] = true
	}
	for slot := range slots {
		if p.identity[slot] != "" && got.closed[slot] != nil {
			if !p.shared(slot) {
				delete(p.presence, p.identity[slot])
			}
			p.identity[slot] = ""
		}
	}
	for _, frames := range got.frames {
		for _, f := range frames {
			if ts, ok := f.value["timestamp"].(float64); ok {
				p.ts = max(p.ts, ts)
			}
		}
	}
}

// shared tells whether another slot is connected under the same clientId.
func (p *play) shared(slot int) bool {
	for other := range slots {
		if other != slot && p.identity[other] == p.identity[slot] {
			return true
		}
	}
	return false
}

func (p *play) hasTwinWithPresence(slot int) bool {
	return p.presence[p.identity[slot]] && p.shared(slot)
}

var placeholder = regexp.MustCompile(`@ts([+-][0-9.]+)@`)

// fill writes the room's timestamp where the frames ask for it.
func (p *play) fill(frames []string) []string {
	out := make([]string, len(frames))
	for i, text := range frames {
		out[i] = placeholder.ReplaceAllStringFunc(text, func(m string) string {
			n, err := strconv.ParseFloat(placeholder.FindStringSubmatch(m)[1], 64)
			if err != nil {
				panic(err) // the expression admits numbers only
			}
			return strconv.FormatFloat(p.ts+n, 'g', -1, 64)
		})
	}
	return out
}

// outcome is what every client got from one step.
type outcome struct {
	frames [slots][]frame
	closed [slots]*closeInfo
}

func (o *outcome) String() string {
	if o == nil {
		return "nothing"
	}
	var b strings.Builder
	for slot := range slots {
		if len(o.frames[slot]) > 0 || o.closed[slot] != nil {
			fmt.Fprintf(&b, "\n  slot %d: %s", slot, strings.Join(texts(o.frames[slot]), "\n          "))
			if o.closed[slot] != nil {
				fmt.Fprintf(&b, " %v", o.closed[slot])
			}
		}
	}
	return b.String()
}

func (o *outcome) compare(other *outcome, name, otherName string) string {
	for slot := range slots {
		a, b := o.frames[slot], other.frames[slot]
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || !sameJS(a[i].value, b[i].value) {
				return fmt.Sprintf("slot %d, frame %d:\n%s:\n  %s\n%s:\n  %s", slot, i,
					name, strings.Join(texts(a), "\n  "), otherName, strings.Join(texts(b), "\n  "))
			}
		}
		if ca, cb := o.closed[slot], other.closed[slot]; (ca == nil) != (cb == nil) || ca != nil && *ca != *cb {
			return fmt.Sprintf("slot %d:\n%s: %v\n%s: %v", slot, name, ca, otherName, cb)
		}
	}
	return ""
}

// act plays a step on this side and collects what everybody got from it.
func (s *side) act(st step, frames []string, identity [slots]string, canWrite [slots]bool) (*outcome, error) {
	got := &outcome{}
	gone := false // somebody who was counted has left
	c := s.clients[st.Slot]
	switch st.Kind {
	case stepJoin:
		var err error
		if c, err = dial(s.joinURL(st)); err != nil {
			if got.closed[st.Slot], err = refusedAs(st, err); err != nil {
				return got, err
			}
			return got, s.collect(st, got, identity)
		}
		s.clients[st.Slot] = c
		s.write(c, frames, st.Split)
	case stepLeave:
		switch {
		case st.Cut:
			c.drop()
		case st.Broken:
			c.send("\"\xff\"")
		default:
			c.leave()
		}
		gone = true
	case stepSend:
		s.write(c, frames, st.Split)
	case stepRefresh:
		tok := token(s.room, st.Write, time.Hour)
		if st.Defect != "" {
			tok = forge(tok)
			gone = true
		}
		c.send(fmt.Sprintf(`{"type":"auth-refresh","token":%q}`, tok))
		if st.Defect == "" && st.Write != canWrite[st.Slot] {
			if err := awaitPermission(c, st.Write); err != nil {
				return got, err
			}
		}
	}
	if gone {
		// Leaving has no answer. It is done when the watcher has heard of it.
		if st.Slot == watcher {
			return got, errors.New("the watcher must not leave")
		}
		w := s.clients[watcher]
		ok, err := w.await(func(frames []frame) bool { return countKind(frames, "clientCount") > 0 })
		if !ok {
			return got, fmt.Errorf("the watcher heard of no leave: %v", err)
		}
		if _, err := c.await(func([]frame) bool { return false }); err != nil {
			return got, errors.New("the socket of the one who left is still open")
		}
	}
	return got, s.collect(st, got, identity)
}

// refusedAs tells how the published server would have closed a socket that was
// not upgraded. That one upgrades first and then closes with 1008: a difference
// on purpose, but for the words.
func refusedAs(st step, err error) (*closeInfo, error) {
	want := map[string]int{"room": http.StatusBadRequest, "client": http.StatusBadRequest, "token": http.StatusUnauthorized, "forged": http.StatusUnauthorized}
	var no *notUpgraded
	if !errors.As(err, &no) || want[st.Defect] != no.status {
		return nil, errors.New("the upgrade failed")
	}
	if st.Defect == "forged" {
		no.words = "" // everyone has their own words for it
	}
	return &closeInfo{1008, no.words}, nil
}

// collect passes barriers, the actor first, and takes everybody's frames.
func (s *side) collect(st step, got *outcome, identity [slots]string) error {
	order := []int{st.Slot}
	for slot := range slots {
		if slot != st.Slot && identity[slot] != "" {
			order = append(order, slot)
		}
	}
	for _, slot := range order {
		due := 0
		if slot == st.Slot {
			due = st.Mismatches
		}
		if s.clients[slot] == nil {
			continue // not upgraded
		}
		frames, closed, err := s.clients[slot].settle(due)
		got.frames[slot], got.closed[slot] = frames, closed
		if err != nil {
			return fmt.Errorf("slot %d passed no barrier: %w", slot, err)
		}
		if closed == nil {
			continue
		}
		s.clients[slot] = nil
		if slot != st.Slot {
			continue
		}
		switch {
		case st.Broken || st.Kind == stepJoin && st.Defect == "forged":
			got.closed[slot] = &closeInfo{code: closed.code} // everyone has their own words for it
		case st.Kind == stepLeave || st.Kind == stepRefresh:
			// One who leaves hears the echo of his own goodbye, or nothing; and with which code a refused
			// refresh closes the socket is not part of the protocol.
			got.frames[slot], got.closed[slot] = nil, &closeInfo{}
		}
	}
	return nil
}

func (s *side) joinURL(st step) string {
	room, client, tok := s.room, st.Client, token(s.room, st.Write, time.Hour)
	switch st.Defect {
	case "room":
		room = ""
	case "client":
		client = ""
	case "token":
		tok = ""
	case "forged":
		tok = forge(tok)
	}
	srv := s.srv.all[st.Slot%len(s.srv.all)]
	return strings.Replace(srv.url(room, client, tok), srv.addr+"/", srv.addr+st.Path, 1)
}

// forge breaks a token's signature.
func forge(tok string) string {
	last := byte('A')
	if tok[len(tok)-4] == 'A' {
		last = 'B'
	}
	return tok[:len(tok)-4] + string(last) + tok[len(tok)-3:]
}

func (s *side) write(c *wsClient, frames []string, split bool) {
	for _, text := range frames {
		if !split || len(text) < 3 {
			c.send(text)
			continue
		}
		// In the middle of a character, if there is one to be in the middle of.
		cut := len(text) / 2
		for i := 1; i < len(text); i++ {
			if !utf8.RuneStart(text[i]) {
				cut = i
				break
			}
		}
		c.sendPieces([]string{text[:cut/2], text[cut/2 : cut], text[cut:]})
	}
}

// awaitPermission asks, without changing anything, until the session's permission has changed: only
// a session that may write is asked for what the room has lost. The answers are thrown away.
func awaitPermission(c *wsClient, write bool) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		c.send(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":1e16}`)
		ok, err := c.await(func(frames []frame) bool { return countKind(frames, "synced") > 0 })
		frames, closed := c.take()
		if !ok {
			return fmt.Errorf("after a refresh: %v, %v", closed, err)
		}
		if (countKind(frames, "resync") > 0) == write {
			return nil
		}
	}
	return fmt.Errorf("a refreshed session's permission to write never became %v", write)
}
