package room

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// Forgotten is a range of timestamps, from After to Before, without the two
// themselves, that a room may have given out and does not know any more, as after
// a crash. The room as it is now has given out none of them: the change after
// After gets Before. So a client that says one of them has seen what the room has
// lost, and agrees with the room only up to After.
type Forgotten struct{ After, Before int64 }

// maxForgotten is how many ranges a room remembers, the latest. A client that was
// away for longer is taken for one that has lost nothing.
const maxForgotten = 64

// Clock is a moment as [Event] has it: in units of 10 µs since 1970. A room that
// may have forgotten something goes on from there, for that is more than it can have
// counted: it would have had to apply 100 000 messages in every second since 1970,
// or since it last went on from a Clock.
func Clock(t time.Time) int64 { return t.UnixMicro() / 10 }

// forget notes that all timestamps between the present one and now may have been
// given out before.
func (d *Document) forget(now int64) { d.forgotten = forgetting(d.forgotten, d.timestamp, now) }

// Forget returns the snapshot of a room that may have given out timestamps after it,
// but none as late as now, a [Clock].
func (s *Snapshot) Forget(now int64) *Snapshot {
	t := *s
	t.forgotten = forgetting(s.forgotten, s.timestamp, now)
	return &t
}

// forgetting is the list with the range after a timestamp, in which a room is, added.
func forgetting(list []Forgotten, timestamp, now int64) []Forgotten {
	if now <= timestamp+1 || now > maxTimestamp/2 {
		return list
	}
	list = slices.Clone(list) // a snapshot may have it
	switch n := len(list); {
	case n > 0 && list[n-1].After == timestamp:
		list[n-1].Before = max(list[n-1].Before, now)
	case n < maxForgotten:
		list = append(list, Forgotten{timestamp, now})
	default:
		list = append(list[1:], Forgotten{timestamp, now})
	}
	return list
}

// passes reports whether the next change passes over timestamps.
func (d *Document) passes() bool {
	n := len(d.forgotten)
	return n > 0 && d.forgotten[n-1].After == d.timestamp
}

// count moves the timestamp to that of the next change.
func (d *Document) count() {
	if d.passes() {
		d.timestamp = d.forgotten[len(d.forgotten)-1].Before
	} else {
		d.timestamp++
	}
}

// mayHaveGiven reports whether a timestamp ahead of a document's may be one that the
// document has given out and forgotten: what a counter can have come to by now.
func mayHaveGiven(timestamp float64, now int64) bool {
	return timestamp == math.Trunc(timestamp) && timestamp < float64(now)
}

// agrees returns up to where a client that says a timestamp has seen what the
// document has: that timestamp, unless it is one of those forgotten.
func (d *Document) agrees(timestamp float64) (since float64, forgot bool) {
	for _, f := range d.forgotten {
		if timestamp > float64(f.After) && timestamp < float64(f.Before) {
			return float64(f.After), true
		}
	}
	return timestamp, false
}

// Forgotten returns the timestamps that may have been given out before and are
// forgotten, in order. It must not be changed.
func (s *Snapshot) Forgotten() []Forgotten { return s.forgotten }

// appendForgotten appends the member that lists them, if there are any. The
// published server passes over it.
func (s *Snapshot) appendForgotten(b []byte) []byte {
	if len(s.forgotten) == 0 {
		return b
	}
	b = append(b, `,"forgotten":[`...)
	for i, f := range s.forgotten {
		b = append(comma(b, i == 0), '[')
		b = strconv.AppendInt(b, f.After, 10)
		b = strconv.AppendInt(append(b, ','), f.Before, 10)
		b = append(b, ']')
	}
	return append(b, ']')
}
