package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// script is a client's recording in words:
//
//	open n1         a socket on n1
//	sent m1         a frame m1, which makes the key of its mark
//	acked m1 1      …has an ack with timestamp 1
//	heard m2 2      another's frame m2, with timestamp 2
//	diff 3          synced 3          synced m4 4          resync 0
//	closed 1006     closed 0
func script(client string, lines ...string) Recording {
	r := Recording{Client: client, Room: "r", Document: Patch{}}
	for i, line := range lines {
		f := strings.Fields(line)
		e := Event{At: time.Duration(i) * time.Second}
		if len(f) > 2 {
			e.Mark = f[1]
		}
		number := func() (n int64) { _, _ = fmt.Sscan(f[len(f)-1], &n); return n }
		switch f[0] {
		case "open":
			e.Kind, e.Node = Opened, f[1]
		case "sent":
			e.Kind, e.Mark, e.Text = Sent, f[1], textOf(f[1])
		case "acked":
			e.Kind, e.Timestamp = Acked, number()
		case "heard":
			e.Kind, e.Timestamp, e.Text = Broadcast, number(), textOf(f[1])
		case "diff":
			e.Kind, e.Timestamp = Diff, number()
		case "synced":
			e.Kind, e.Timestamp = Synced, number()
		case "resync":
			e.Kind, e.Timestamp = Resync, number()
		case "closed":
			e.Kind, e.Code = Closed, int(number())
		}
		r.Events = append(r.Events, e)
	}
	return r
}

// textOf is a frame that makes a key of its own, and writes one that all write.
func textOf(mark string) json.RawMessage {
	return mustMarshal([]Patch{{
		"u/" + mark: {"_exists": rawJSON("true")},
		"shared/S":  {"_exists": rawJSON("true"), "by": mustMarshal(mark)},
	}})
}

// after is the document after some frames.
func after(marks ...string) Patch {
	p := Patch{}
	for _, m := range marks {
		p.merge(keysOf(textOf(m)))
	}
	return p
}

// good is a run without a violation: b's socket breaks while m3 is under way, and m3 comes to nothing.
func good() Run {
	a := script("a", "open n1", "synced 0", "sent m1", "acked m1 1", "heard m2 2", "heard m4 3", "sent m5", "heard m6 4", "acked m5 5", "synced 5")
	b := script("b", "open n2", "heard m1 1", "diff 1", "synced 1", "sent m2", "acked m2 2", "sent m3", "closed 1006",
		"open n1", "sent m4", "diff 3", "synced m4 3", "sent m6", "acked m6 4", "heard m5 5", "synced 5", "closed 0")
	final := after("m1", "m2", "m4", "m6", "m5")
	a.Document, b.Document = maps.Clone(final), maps.Clone(final)
	return Run{
		Recordings: []Recording{a, b},
		Finals:     []Final{{"n1", "r", 5, final}, {"n2", "r", 5, maps.Clone(final)}},
		MayClose:   []Window{{Node: "n2", From: 0, To: time.Minute}},
	}
}

func TestCheckFindsNothingInAGoodRun(t *testing.T) {
	result := Check(good())
	if len(result.Violations) > 0 {
		t.Errorf("%v", result.Violations)
	}
	if result.Acked != 5 || result.Applied != 5 || result.Unseen != 0 {
		t.Errorf("%+v, want 5 acked and applied, none unseen", result)
	}
}

// edit changes the one event that a line of the script describes.
func edit(t *testing.T, r *Recording, line string, change func(*Event)) {
	t.Helper()
	want := script("", line).Events[0]
	n := 0
	for i := range r.Events {
		e := &r.Events[i]
		if e.Kind == want.Kind && e.Mark == want.Mark && e.Timestamp == want.Timestamp && e.Node == want.Node && e.Code == want.Code {
			change(e)
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d events are %q", n, line)
	}
}

func remove(t *testing.T, r *Recording, line string) {
	t.Helper()
	edit(t, r, line, func(e *Event) { e.Kind = 0 })
	r.Events = slices.DeleteFunc(r.Events, func(e Event) bool { return e.Kind == 0 })
}

func TestCheckFindsEveryViolation(t *testing.T) {
	cases := []struct {
		name  string
		rule  Rule
		spoil func(t *testing.T, run *Run, a, b *Recording)
	}{
		{"an acked key is not there", RuleAcked, func(t *testing.T, run *Run, a, b *Recording) {
			for i := range run.Finals {
				delete(run.Finals[i].Document, "u/m2")
			}
		}},
		{"a reconnect's key is not there", RuleAcked, func(t *testing.T, run *Run, a, b *Recording) {
			for i := range run.Finals {
				delete(run.Finals[i].Document, "u/m4")
			}
		}},
		{"an acked key is deleted though nobody did", RuleAcked, func(t *testing.T, run *Run, a, b *Recording) {
			for i := range run.Finals {
				run.Finals[i].Document["u/m2"] = map[string]rawJSON{"_exists": rawJSON("false")}
			}
		}},
		{"the room ends before an ack", RuleAcked, func(t *testing.T, run *Run, a, b *Recording) {
			for i := range run.Finals {
				run.Finals[i].Timestamp = 4
			}
		}},
		{"edits without an ack", RuleUnacked, func(t *testing.T, run *Run, a, b *Recording) { a.Unacked = 1 }},
		{"a frame twice", RuleTwice, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, a, "heard m4 3", func(e *Event) { e.Mark, e.Text = "m2", textOf("m2") })
		}},
		{"two frames with one timestamp", RuleShared, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, a, "heard m4 3", func(e *Event) { e.Mark, e.Text = "m3", textOf("m3") })
		}},
		{"another content", RuleContent, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, a, "heard m4 3", func(e *Event) { e.Text = textOf("m3") })
		}},
		{"a frame that nobody sent", RuleContent, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, a, "heard m4 3", func(e *Event) { e.Mark = "m99" })
		}},
		{"a broadcast again", RuleOrder, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, a, "heard m4 3", func(e *Event) { e.Timestamp = 2 })
		}},
		{"a broadcast is missing", RuleGap, func(t *testing.T, run *Run, a, b *Recording) { remove(t, a, "heard m2 2") }},
		{"the last broadcast is missing", RuleGap, func(t *testing.T, run *Run, a, b *Recording) { remove(t, b, "heard m5 5") }},
		{"an ack before the broadcast below it", RuleAckEarly, func(t *testing.T, run *Run, a, b *Recording) { remove(t, a, "heard m6 4") }},
		{"the diff is older than what was known", RuleBack, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, b, "diff 3", func(e *Event) { e.Timestamp = 1 })
		}},
		{"synced below what was known", RuleBack, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, b, "synced m4 3", func(e *Event) { e.Timestamp = 1 })
		}},
		{"a resync", RuleBack, func(t *testing.T, run *Run, a, b *Recording) {
			edit(t, b, "diff 3", func(e *Event) { e.Kind, e.Timestamp = Resync, 1 })
		}},
		{"a timestamp of nobody's", RuleUnknown, func(t *testing.T, run *Run, a, b *Recording) {
			for i := range run.Finals {
				run.Finals[i].Timestamp = 7 // m3 may have one of the two
			}
		}},
		{"nodes differ", RuleDiverged, func(t *testing.T, run *Run, a, b *Recording) {
			run.Finals[1].Document["shared/S"] = map[string]rawJSON{"_exists": rawJSON("true")}
		}},
		{"nodes have different timestamps", RuleDiverged, func(t *testing.T, run *Run, a, b *Recording) { run.Finals[1].Timestamp = 6 }},
		{"a client differs", RuleDiverged, func(t *testing.T, run *Run, a, b *Recording) { delete(b.Document, "u/m1") }},
		{"no node was asked", RuleDiverged, func(t *testing.T, run *Run, a, b *Recording) { run.Finals = nil }},
		{"frames in another order", RuleReplay, func(t *testing.T, run *Run, a, b *Recording) {
			wrong := after("m1", "m2", "m5", "m4", "m6")
			a.Document, b.Document = wrong, wrong
			run.Finals[0].Document, run.Finals[1].Document = wrong, wrong
		}},
		{"a key of nobody's", RuleReplay, func(t *testing.T, run *Run, a, b *Recording) {
			for _, d := range []Patch{a.Document, b.Document, run.Finals[0].Document, run.Finals[1].Document} {
				d["u/m98"] = map[string]rawJSON{"_exists": rawJSON("true")}
			}
		}},
		{"a frame that has no timestamp is in the document", RuleReplay, func(t *testing.T, run *Run, a, b *Recording) {
			for _, d := range []Patch{a.Document, b.Document, run.Finals[0].Document, run.Finals[1].Document} {
				d.merge(Patch{"u/m3": {"_exists": rawJSON("true")}})
			}
		}},
		{"a socket closed", RuleClosed, func(t *testing.T, run *Run, a, b *Recording) { run.MayClose = nil }},
		{"a socket closed on another node", RuleClosed, func(t *testing.T, run *Run, a, b *Recording) { run.MayClose[0].Node = "n1" }},
		{"a socket closed too late", RuleClosed, func(t *testing.T, run *Run, a, b *Recording) { run.MayClose[0].To = 2 * time.Second }},
		{"a broadcast in silence", RuleNotSilent, func(t *testing.T, run *Run, a, b *Recording) {
			run.Silent = []Window{{"n1", 3500 * time.Millisecond, 4500 * time.Millisecond}}
		}},
	}
	tried := map[Rule]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			run := good()
			c.spoil(t, &run, &run.Recordings[0], &run.Recordings[1])
			tried[c.rule] = true
			result := Check(run)
			if result.Of(c.rule) == 0 {
				t.Errorf("%q was not found, but %v", c.rule, result.Violations)
			}
		})
	}
	for _, rule := range []Rule{RuleAcked, RuleUnacked, RuleTwice, RuleShared, RuleContent, RuleOrder, RuleGap, RuleAckEarly,
		RuleBack, RuleUnknown, RuleDiverged, RuleReplay, RuleClosed, RuleNotSilent} {
		if !tried[rule] && !t.Failed() {
			t.Errorf("no case has %q", rule)
		}
	}
}

// When all clients of a room are away, a frame may be applied that nobody sees: then only its own keys
// are in doubt.
func TestCheckToleratesWhatNobodyCouldSee(t *testing.T) {
	run := good()
	a, b := &run.Recordings[0], &run.Recordings[1]
	*a = script("a", "open n1", "synced 0", "sent m1", "acked m1 1", "closed 1006", "open n1", "diff 3", "synced 3")
	*b = script("b", "open n2", "diff 1", "synced 1", "sent m2", "closed 1006", "open n2", "sent m4", "diff 3", "synced m4 3")
	run.MayClose = []Window{{To: time.Minute}}
	final := after("m1", "m2", "m4")
	a.Document, b.Document = final, final
	run.Finals = []Final{{"n1", "r", 3, final}}
	if result := Check(run); len(result.Violations) > 0 || result.Unseen != 1 {
		t.Errorf("%d unseen, want 1; %v", result.Unseen, result.Violations)
	}
	final["u/m1"] = map[string]rawJSON{"_exists": rawJSON("true"), "more": rawJSON("1")}
	if result := Check(run); result.Of(RuleReplay) == 0 {
		t.Errorf("a wrong key of another frame was not found, but %v", result.Violations)
	}
}

// A room that may have forgotten what it gave out goes on from the clock.
func TestCheckKnowsARoomThatGoesOnFromTheClock(t *testing.T) {
	goingOnAt := func(timestamp int64) Run {
		run := good()
		for i := range run.Recordings {
			for j := range run.Recordings[i].Events {
				if e := &run.Recordings[i].Events[j]; e.Timestamp == 5 {
					e.Timestamp = timestamp
				}
			}
		}
		for i := range run.Finals {
			run.Finals[i].Timestamp = timestamp
		}
		return run
	}
	result := Check(goingOnAt(leastClock))
	if result.Of(RuleUnknown, RuleReplay, RuleDiverged) > 0 || result.Leaps != 1 || result.Applied != 5 || result.Unseen != 0 {
		t.Errorf("%+v, want 5 applied and one leap", result)
	}
	result = Check(goingOnAt(leastClock - 1))
	if result.Of(RuleUnknown) == 0 || result.Leaps != 0 {
		t.Errorf("%+v, want a room that nobody can have brought so far", result)
	}
}

func TestWaits(t *testing.T) {
	recordings := good().Recordings // one event a second
	if w := WaitsOf(recordings, nil); len(w) != 5 || w.Max() != 2*time.Second || w.Percentile(50) != time.Second {
		t.Errorf("%v, want m5 and m4 two seconds, the others one", w)
	}
	if w := WaitsOf(recordings, []Window{{"n1", 0, time.Minute}}); len(w) != 1 {
		t.Errorf("%v, want m2 only", w)
	}
	// m5 waits from 6 s to 8 s on n1; m4 from 9 s to 11 s.
	if w := LongestWaits(recordings, []Window{{"n2", 7 * time.Second, 8 * time.Second}}); len(w) != 1 || w[0] != 2*time.Second {
		t.Errorf("%v, want m5", w)
	}
	if w := LongestWaits(recordings, []Window{{"n1", 7 * time.Second, 8 * time.Second}}); len(w) != 0 {
		t.Errorf("%v, want none: n1 is the one at fault", w)
	}
	if w := WaitsDuring(recordings, []Window{{"n2", 7 * time.Second, 9 * time.Second}, {"n2", 8 * time.Second, 9 * time.Second}}); len(w) != 2 {
		t.Errorf("%v, want m5 and m4, once each", w)
	}
	if last := LastAck(recordings, 10*time.Second); last != 11*time.Second {
		t.Errorf("%v, want m4's", last)
	}
	if n := Closes(recordings, nil); n != 1 {
		t.Errorf("%d sockets closed, want one", n)
	}
	if n := Closes(recordings, good().MayClose); n != 0 {
		t.Errorf("%d sockets closed that may not", n)
	}
}
