package cluster

import (
	"math"
	"time"

	"github.com/weftsync/weft/store"
)

// Between checkpoints the log is the record. A checkpoint writes whole pages for
// what may be a few bytes of log, so it is taken when the log has grown enough
// for what it would write, or is long, or in the course of time.
const (
	// savePerLog is how many bytes checkpoints may write for each byte of log.
	savePerLog = 4
	// savePerSecond is what they may write beside that, a partition: so that small
	// logs end some time.
	savePerSecond = 1 << 10
	// longLog is the part of a log's bound from which on nothing counts but that it
	// gets shorter: it takes time to replay, and a full one stops the sessions.
	longLog = 4
	// A save of a room writes about so much beside its pages, and so much a session.
	perSave, perSavedSession = 512, 32
	// handOverLog is how much log a successor need not replay.
	handOverLog = 128 << 10
	// longestSaveBackoff bounds how long a failed save waits for the next.
	longestSaveBackoff = 30 * time.Second
)

// saveBudget is how many bytes checkpoints may write, the log being so long, the
// oldest of it so old, and the log's bound.
func saveBudget(log int, age time.Duration, bound int) int {
	if log >= bound/longLog {
		return math.MaxInt
	}
	return savePerLog*log + int(savePerSecond*age.Seconds())
}

// saveBackoff is how long after several failures a save is tried again.
func saveBackoff(interval time.Duration, failures int) time.Duration {
	return min(interval<<min(failures, 16), max(interval, longestSaveBackoff))
}

// saveCost is about how many bytes saving a room would write. It stops counting
// when it is more than enough.
func (r *roomFold) saveCost(enough int) int {
	last, _ := r.stored.(*store.Stored)
	return perSave + perSavedSession*len(r.homes) + last.Unsaved(r.state.Document(), enough)
}

// logBytes is how much of the log has not been trimmed.
func (p *partition) logBytes() (n int) {
	for _, e := range p.log.entries {
		n += e.size
	}
	return n
}

// idle reports whether a room could leave the memory if it were saved.
func (p *partition) idle(name string) bool {
	return len(p.fold.rooms[name].homes) == 0 && time.Since(p.lastUse[name]) > max(p.inc.config.RoomIdleTimeout, lastingAfter)
}
