package cluster

import (
	"slices"

	"github.com/weftsync/weft/room"
)

// sender is an edge's way into one partition's log. It makes of a log that may
// lose an entry, take one twice, or not say which it did, one that every item
// goes through once and in order:
//
//   - one append is under way at a time; what comes meanwhile waits and goes
//     with the next, as one batch;
//   - batches are numbered, and kept until the owner has confirmed them;
//   - an append whose outcome is not known is made again, for the owner passes
//     over a number that it has had;
//   - an owner that misses a number says which, and the sender goes back to it.
//
// It is a pure state machine: it does no I/O and knows no time.
type sender struct {
	edge    string
	limits  room.Limits
	waiting []item
	batches []*batch // made, not confirmed, in order
	next    int      // the one to append next, as an index of batches
	number  uint64   // of the last batch that was made
	done    uint64   // of the last batch that is confirmed
	doneAt  ID       // the last place in the log at which it was
	under   bool     // an append is under way
	size    int      // bytes of waiting and batches
}

// newSender returns the sender of an edge that vouches for what it takes with its
// limits; see [batch].
func newSender(edge string, limits room.Limits) *sender {
	return &sender{edge: edge, limits: room.Limits{
		MaxDocumentBytes: limits.MaxDocumentBytes, MaxPresenceBytes: limits.MaxPresenceBytes, MaxSessions: limits.MaxSessions,
	}}
}

// add queues an item.
func (s *sender) add(it item) {
	s.waiting = append(s.waiting, it)
	s.size += it.size()
}

// take returns the batch to append now, or nil: there is none, or one is being
// appended. The caller must tell the outcome.
func (s *sender) take() *batch {
	if s.under {
		return nil
	}
	if s.next == len(s.batches) {
		if len(s.waiting) == 0 {
			return nil
		}
		s.number++
		items := s.cut()
		s.batches = append(s.batches, &batch{edge: s.edge, number: s.number, limits: s.limits, items: items})
	}
	s.under = true
	return s.batches[s.next]
}

// maxBatch is how many bytes are gathered into one batch, unless a single item
// has more.
const maxBatch = 256 << 10

// cut takes the items of the next batch from those that wait.
func (s *sender) cut() []item {
	n, size := 0, 0
	for n < len(s.waiting) && (n == 0 || size+s.waiting[n].size() <= maxBatch) {
		size += s.waiting[n].size()
		n++
	}
	items := s.waiting[:n:n]
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	return items
}

// appended tells that the log has taken a batch.
func (s *sender) appended(b *batch) {
	s.under = false
	if s.next < len(s.batches) && s.batches[s.next] == b {
		s.next++
	}
}

// unknown tells that nobody knows whether the log has taken the batch.
func (s *sender) unknown() { s.under = false }

// confirmed tells that the owner, at a place in the log, had applied all batches
// up to a number, and returns those that need not be kept any longer. A replay
// may tell less than is known already.
func (s *sender) confirmed(number uint64, at ID) []*batch {
	if number < s.done {
		return nil
	}
	s.done = number
	if at.After(s.doneAt) {
		s.doneAt = at
	}
	n := 0
	for n < len(s.batches) && s.batches[n].number <= number {
		for i := range s.batches[n].items {
			s.size -= s.batches[n].items[i].size()
		}
		n++
	}
	done := slices.Clone(s.batches[:n])
	s.batches = slices.Delete(s.batches, 0, n)
	s.next = max(0, s.next-n)
	return done
}

// expected tells which number the owner, at a place in the log, wanted next. It
// reports false if the sender does not have it any more: owner and log have
// lost together what was confirmed, and only the clients can heal that.
func (s *sender) expected(number uint64, at ID) bool {
	if number <= s.done {
		// A replay of how it once was, unless the place is a later one.
		return !at.After(s.doneAt)
	}
	for i, b := range s.batches {
		if b.number == number {
			s.next = i
		}
	}
	return true
}

// doubt tells that no confirmation has come for too long. The last batch is appended
// again, an empty one if need be: to that the owner says what it has, and only what
// the log has lost is appended again. An owner that is merely slow gets little more to do.
func (s *sender) doubt() {
	last := len(s.batches) - 1
	if last >= 0 && len(s.batches[last].items) == 0 {
		s.next = min(s.next, last)
		return
	}
	s.number++
	s.batches = append(s.batches, &batch{edge: s.edge, number: s.number, limits: s.limits})
}

// pending reports whether there is something to append, or being appended.
func (s *sender) pending() bool {
	return s.under || s.next < len(s.batches) || len(s.waiting) > 0
}

// idle reports whether there is nothing to append and nothing to be confirmed.
func (s *sender) idle() bool { return len(s.waiting) == 0 && len(s.batches) == 0 }
