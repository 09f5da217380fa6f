package room

// Backlog is what waits, for one session, behind a large diff that is being
// built for it: it must not go out before the diff. The zero value is empty.
type Backlog[T any] struct {
	building bool
	waiting  []T
	bytes    int
}

// DefaultMaxWaitingBytes is how much may wait behind a diff. A session for which
// there is more closes, comes back and gets another diff.
const DefaultMaxWaitingBytes = 8 << 20

// Begin notes that a diff is being built. What comes from now on is to be kept.
func (b *Backlog[T]) Begin() { b.building = true }

// Building reports whether a diff is being built.
func (b *Backlog[T]) Building() bool { return b.building }

// Keep keeps what takes so many bytes, or reports that this is more than may wait.
func (b *Backlog[T]) Keep(v T, bytes, bound int) bool {
	if b.bytes += bytes; b.bytes > bound {
		return false
	}
	b.waiting = append(b.waiting, v)
	return true
}

// End notes that nothing is being built any more, and returns what waits, in order.
func (b *Backlog[T]) End() []T {
	waiting := b.waiting
	*b = Backlog[T]{}
	return waiting
}
