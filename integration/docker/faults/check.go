package faults

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weftsync/weft/room"
)

// Rule is something that must hold whatever breaks.
type Rule string

const (
	RuleAcked     Rule = "acked but missing"
	RuleUnacked   Rule = "never acked"
	RuleTwice     Rule = "applied twice"
	RuleShared    Rule = "two frames at one timestamp"
	RuleContent   Rule = "broadcast is not what was sent"
	RuleOrder     Rule = "out of order"
	RuleGap       Rule = "gap"
	RuleAckEarly  Rule = "ack before what is lower"
	RuleBack      Rule = "room went back"
	RuleUnknown   Rule = "timestamp that nobody's frame has"
	RuleDiverged  Rule = "client or node has another document"
	RuleReplay    Rule = "document is not the frames in order"
	RuleClosed    Rule = "socket closed"
	RuleNotSilent Rule = "heard in silence"
)

// Violation is a rule that did not hold.
type Violation struct {
	Rule Rule
	Room string
	Text string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Room, v.Rule, v.Text) }

// Result is what Check found.
type Result struct {
	Violations []Violation
	Acked      int // frames with an ack
	Applied    int // timestamps in all rooms
	// Leaps is how often a room that may have forgotten timestamps went on from the clock.
	Leaps int
	// Unseen is how many timestamps nobody saw as a broadcast or an ack, since every client of the
	// room was away; of those only the number can be checked.
	Unseen int
}

// Of is the number of violations of some rules; of all, if none is given.
func (r Result) Of(rules ...Rule) int {
	n := 0
	for _, v := range r.Violations {
		if len(rules) == 0 || slices.Contains(rules, v.Rule) {
			n++
		}
	}
	return n
}

// Check holds what the clients recorded against the rules, room by room. It is a pure function.
func Check(run Run) Result {
	rooms := map[string]*roomCheck{}
	of := func(name string) *roomCheck {
		if rooms[name] == nil {
			rooms[name] = &roomCheck{run: &run, name: name, sent: map[string]*frame{}, at: map[int64]*frame{}}
		}
		return rooms[name]
	}
	for i := range run.Recordings {
		r := &run.Recordings[i]
		of(r.Room).recordings = append(of(r.Room).recordings, r)
	}
	for _, f := range run.Finals {
		of(f.Room).finals = append(of(f.Room).finals, f)
	}
	var result Result
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		rooms[name].check(&result)
	}
	return result
}

// frame is one sending.
type frame struct {
	mark      string
	text      []byte
	timestamp int64 // 0 while nobody has seen it
	acked     bool
}

type roomCheck struct {
	run        *Run
	name       string
	recordings []*Recording
	finals     []Final
	sent       map[string]*frame
	at         map[int64]*frame
	violations []Violation
}

func (c *roomCheck) violated(rule Rule, format string, args ...any) {
	c.violations = append(c.violations, Violation{rule, c.name, fmt.Sprintf(format, args...)})
}

func (c *roomCheck) check(result *Result) {
	for _, r := range c.recordings {
		for _, e := range r.Events {
			if e.Kind == Sent {
				c.sent[e.Mark] = &frame{mark: e.Mark, text: e.Text}
			}
		}
		if r.Unacked > 0 {
			c.violated(RuleUnacked, "%d edits of %s", r.Unacked, r.Client)
		}
	}
	for _, r := range c.recordings {
		c.walk(r)
	}
	c.equal()
	if len(c.finals) > 0 {
		c.complete(result)
	}
	for _, f := range c.sent {
		if f.acked {
			result.Acked++
		}
	}
	result.Violations = append(result.Violations, c.violations...)
}

// walk follows one client from socket to socket.
func (c *roomCheck) walk(r *Recording) {
	var (
		node  string
		seen  int64 // the last timestamp on this socket; -1 before there was any
		known int64 // the last timestamp that the client had, complete
	)
	for _, e := range r.Events {
		if (e.Kind == Acked || e.Kind == Broadcast) && anyHolds(c.run.Silent, node, e.At) {
			c.violated(RuleNotSilent, "%s on %s at %v: %v of timestamp %d", r.Client, node, e.At.Round(time.Millisecond), e.Kind, e.Timestamp)
		}
		switch e.Kind {
		case Opened:
			node, seen = e.Node, -1
		case Broadcast, Acked:
			c.next(r, e, seen)
			seen = e.Timestamp
			known = max(known, seen)
			c.place(e, r.Client)
		case Diff:
			if e.Timestamp < known {
				c.violated(RuleBack, "%s knew %d and was told %d", r.Client, known, e.Timestamp)
			}
		case Synced:
			want := seen
			if e.Mark != "" {
				want++
				c.place(e, r.Client)
			}
			switch {
			case seen >= 0 && e.Timestamp > want:
				c.violated(RuleGap, "%s: synced at %d after %d", r.Client, e.Timestamp, seen)
			case seen >= 0 && e.Timestamp < want:
				c.violated(RuleOrder, "%s: synced at %d after %d", r.Client, e.Timestamp, seen)
			case e.Timestamp < known:
				c.violated(RuleBack, "%s knew %d and was told %d", r.Client, known, e.Timestamp)
			}
			seen = e.Timestamp
			known = max(known, seen)
		case Resync:
			c.violated(RuleBack, "%s knew %d and was asked to send what is after %d", r.Client, known, e.Timestamp)
		case Closed:
			if e.Code != 0 && !anyHolds(c.run.MayClose, node, e.At) {
				c.violated(RuleClosed, "%s on %s at %v: %d %q", r.Client, node, e.At.Round(time.Millisecond), e.Code, e.Reason)
			}
		}
	}
}

// next checks that a socket sees one timestamp after the other.
func (c *roomCheck) next(r *Recording, e Event, seen int64) {
	switch {
	case seen < 0 || e.Timestamp == seen+1:
	case e.Timestamp <= seen:
		c.violated(RuleOrder, "%s: %v of %d after %d", r.Client, e.Kind, e.Timestamp, seen)
	case e.Kind == Acked:
		c.violated(RuleAckEarly, "%s: ack of %d after %d", r.Client, e.Timestamp, seen)
	default:
		c.violated(RuleGap, "%s: broadcast of %d after %d", r.Client, e.Timestamp, seen)
	}
}

// place notes which frame has a timestamp.
func (c *roomCheck) place(e Event, client string) {
	f := c.sent[e.Mark]
	if f == nil {
		c.violated(RuleContent, "%s: timestamp %d has the mark %q, which nobody sent", client, e.Timestamp, e.Mark)
		return
	}
	if e.Kind == Broadcast && !bytes.Equal(e.Text, f.text) {
		c.violated(RuleContent, "%s: timestamp %d, mark %s: got %s, sent was %s", client, e.Timestamp, e.Mark, e.Text, f.text)
	}
	if e.Kind != Broadcast {
		f.acked = true
	}
	if other := c.at[e.Timestamp]; other != nil && other != f {
		c.violated(RuleShared, "%d is the timestamp of %s and, says %s, of %s", e.Timestamp, other.mark, client, f.mark)
	}
	c.at[e.Timestamp] = f
	if f.timestamp != 0 && f.timestamp != e.Timestamp {
		c.violated(RuleTwice, "%s has timestamp %d and, says %s, %d", f.mark, f.timestamp, client, e.Timestamp)
	}
	f.timestamp = e.Timestamp
}

// equal checks that all nodes and all clients ended with the same.
func (c *roomCheck) equal() {
	if len(c.finals) == 0 {
		c.violated(RuleDiverged, "no node was asked")
		return
	}
	first := c.finals[0]
	for _, f := range c.finals[1:] {
		if f.Timestamp != first.Timestamp {
			c.violated(RuleDiverged, "%s has timestamp %d, %s %d", first.Node, first.Timestamp, f.Node, f.Timestamp)
		}
		if d := differences(first.Document, f.Document, nil); d != "" {
			c.violated(RuleDiverged, "%s and %s: %s", first.Node, f.Node, d)
		}
	}
	for _, r := range c.recordings {
		if d := differences(first.Document, r.Document, nil); d != "" {
			c.violated(RuleDiverged, "%s and client %s: %s", first.Node, r.Client, d)
		}
	}
}

// complete checks that the document is made of all that was acked, and of nothing but what was sent.
func (c *roomCheck) complete(result *Result) {
	final := c.finals[0]
	deleted := map[string]bool{}
	for _, f := range c.sent {
		for key, fields := range keysOf(f.text) {
			if string(fields["_exists"]) == "false" {
				deleted[key] = true
			}
		}
	}
	var pending []*frame
	for _, mark := range slices.Sorted(maps.Keys(c.sent)) {
		f := c.sent[mark]
		if f.timestamp == 0 {
			pending = append(pending, f)
		}
		if !f.acked {
			continue
		}
		for key := range keysOf(f.text) {
			fields, ok := final.Document[key]
			if !ok || string(fields["_exists"]) == "false" && !deleted[key] {
				c.violated(RuleAcked, "%s of %s, acked at %d", key, mark, f.timestamp)
			}
		}
	}
	for timestamp, f := range c.at {
		if timestamp > final.Timestamp {
			c.violated(RuleAcked, "%s has timestamp %d, the room ends at %d", f.mark, timestamp, final.Timestamp)
		}
	}
	unseen, leaps := c.unseen(final.Timestamp)
	result.Applied += unseen + len(c.timestamps(final.Timestamp))
	result.Unseen += unseen
	result.Leaps += leaps
	if unseen > len(pending) {
		c.violated(RuleUnknown, "%d frames had no answer, but nobody saw %d timestamps", len(pending), unseen)
	}
	if unseen == 0 && leaps == 0 {
		pending = nil // and so is all of them in the document that ever will be
	}
	c.replay(final, pending)
}

// unseen counts the timestamps up to the room's that nobody saw, and how often the room went on from the
// clock: what it passes over is not its own. Nobody may have seen the first after that either.
func (c *roomCheck) unseen(last int64) (unseen, leaps int) {
	before := int64(0)
	for _, t := range append(c.timestamps(last), last+1) {
		passed := t - before - 1
		before = t
		if passed > int64(len(c.sent)) && t >= leastClock {
			leaps++
		} else {
			unseen += int(passed)
		}
	}
	return unseen, leaps
}

// leastClock is a room.Clock long before any run, and more than any room counts to.
var leastClock = room.Clock(time.Unix(1e9, 0))

// timestamps are those up to the last that somebody saw, in order.
func (c *roomCheck) timestamps(last int64) []int64 {
	seen := slices.Sorted(maps.Keys(c.at))
	n, _ := slices.BinarySearch(seen, last+1)
	return seen[:n]
}

// differences says in which keys two documents differ, but for some, "" if in none.
func differences(a, b Patch, but map[string]bool) string {
	keys := map[string]bool{}
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	var said []string
	n := 0
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if but[key] || maps.EqualFunc(a[key], b[key], func(x, y rawJSON) bool { return bytes.Equal(x, y) }) {
			continue
		}
		if n++; n <= 3 {
			said = append(said, fmt.Sprintf("%s is %s or %s", key, asJSON(a[key]), asJSON(b[key])))
		}
	}
	if n > 3 {
		said = append(said, fmt.Sprintf("and %d more", n-3))
	}
	return strings.Join(said, ", ")
}
