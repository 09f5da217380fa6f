package store

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strconv"

	"github.com/weftsync/weft/room"
)

//go:embed scripts/save.lua
var saveLua string

var saveScript = FencedScript(saveLua)

const (
	// aheadBytes is about how much one call to Redis writes of a document.
	aheadBytes = 1 << 20
	// saveAttempts bounds how often a save begins anew because Redis has
	// another checkpoint than it followed. One more is usually enough.
	saveAttempts = 4
	// redisFormat is the version of the layout.
	redisFormat = "1"
)

// otherCheckpoint: Redis has not the checkpoint that the save was to follow.
type otherCheckpoint struct{ id string }

func (otherCheckpoint) Error() string {
	return "its checkpoint in Redis keeps changing; is the room saved twice at once?"
}

// Save replaces a room's checkpoint. What last has is not written again: it is
// what the last Save of the room returned, or the Load from whose checkpoint the
// room's state was restored, or nil if neither is known. If Redis turns out to
// have something else, everything is written. A room must not be saved twice at
// once.
//
// The error is [ErrFenced] if the partition has another owner. After any other
// error the old checkpoint is whole and in its place or the new one is. Whatever
// the error, Save may be called again, with the same last or with nil.
func (r *Redis) Save(ctx context.Context, f Fence, roomID string, c *Checkpoint, last *Stored) (*Stored, error) {
	var err error
	for range saveAttempts {
		var next *Stored
		next, err = r.save(ctx, f, roomID, c, last)
		if err == nil {
			return next, nil
		}
		var other otherCheckpoint
		if !errors.As(err, &other) {
			break
		}
		last = &Stored{id: other.id}
	}
	return nil, fmt.Errorf("room %q is not saved: %w", roomID, err)
}

// save is one attempt.
func (r *Redis) save(ctx context.Context, f Fence, roomID string, c *Checkpoint, last *Stored) (*Stored, error) {
	snapshot := c.Snapshot
	if snapshot == nil {
		snapshot = new(room.Snapshot)
	}
	if last == nil {
		last = &Stored{}
	}
	w := &writing{redis: r, fence: f, room: roomID, before: last.id}
	next := &Stored{id: strconv.FormatUint(rand.Uint64(), 36), timestamp: snapshot.Timestamp()}
	w.id = next.id

	kind := "changes"
	changed := changedPages(snapshot, last)
	if changed == nil {
		kind = "whole"
		last = &Stored{}
	}
	meta := []any{
		"format", redisFormat, "id", next.id, "timestamp", next.timestamp, "applied", c.Applied,
	}
	var gonePages []any
	next.pages = []string{}
	for i, p := range snapshot.Pages(-1) {
		if i < len(last.pages) && !changed[i] {
			next.pages = append(next.pages, last.pages[i])
			continue
		}
		if i < len(last.pages) {
			gonePages = append(gonePages, pageField(i, last.pages[i]))
		}
		next.pages = append(next.pages, next.id)
		meta = append(meta, "p"+strconv.Itoa(i), next.id)
		if err := w.page(ctx, pageField(i, next.id), p); err != nil {
			return nil, err
		}
	}
	meta = append(meta, "pages", len(next.pages))

	sessions, err := next.encodeSessions(c, last)
	if err != nil {
		return nil, err
	}
	order := encodeOrder(c.Sessions)
	next.order = hashOf(order)
	if next.order != last.order {
		meta = append(meta, "order", order)
	}
	var goneSessions []any
	for id := range last.sessions {
		if _, ok := next.sessions[id]; !ok {
			goneSessions = append(goneSessions, id)
		}
	}
	return next, w.call(ctx, kind, len(next.pages), len(c.Sessions), w.pages, meta, sessions, goneSessions, gonePages)
}

// changedPages says which of the pages that last has must be written again; nil
// if all must and last does not tell.
func changedPages(s *room.Snapshot, last *Stored) map[int]bool {
	if last.pages == nil || s.Timestamp() < last.timestamp {
		return nil
	}
	pages := 0
	for range s.Pages(-1) {
		pages++
	}
	if pages < len(last.pages) {
		return nil
	}
	changed := map[int]bool{}
	for i := range s.Pages(last.timestamp) {
		changed[i] = true
	}
	return changed
}

// encodeSessions notes the sessions in s and returns, as fields and values,
// those that last has not.
func (s *Stored) encodeSessions(c *Checkpoint, last *Stored) ([]any, error) {
	var list []any
	s.sessions = make(map[string]uint64, len(c.Sessions))
	for i := range c.Sessions {
		x := &c.Sessions[i]
		if _, twice := s.sessions[x.ID]; twice {
			return nil, fmt.Errorf("the checkpoint has session %q twice", x.ID)
		}
		text := encodeSession(x, c.Homes[x.ID])
		s.sessions[x.ID] = hashOf(text)
		if had, ok := last.sessions[x.ID]; !ok || had != s.sessions[x.ID] {
			list = append(list, x.ID, text)
		}
	}
	return list, nil
}

// writing is what the calls of one attempt to save have in common.
type writing struct {
	redis      *Redis
	fence      Fence
	room       string
	before, id string

	pages []any // fields and values that wait for the next call
	size  int
}

// page adds a page, for which others may be written ahead.
func (w *writing) page(ctx context.Context, field string, p room.Page) error {
	text := p.AppendJSON(nil)
	if len(w.pages) > 0 && w.size+len(text) > aheadBytes {
		if err := w.call(ctx, "ahead", 0, 0, w.pages); err != nil {
			return err
		}
		w.pages, w.size = nil, 0
	}
	w.pages = append(w.pages, field, text)
	w.size += len(text)
	return nil
}

// call runs the script; see there.
func (w *writing) call(ctx context.Context, kind string, pages, sessions int, lists ...[]any) error {
	r, n := w.redis, w.fence.Partition
	keys := []string{
		OwnKey(r.prefix, n), r.key(n, "r:"+w.room), r.key(n, "d:"+w.room), r.key(n, "s:"+w.room), r.key(n, "live"),
	}
	args := []any{w.fence.Epoch, w.fence.Owner, w.before, w.id, w.room, kind, pages, sessions}
	for _, list := range lists {
		args = append(append(args, len(list)), list...)
	}
	reply, err := saveScript.Run(ctx, r.client, keys, args...).Result()
	if IsFenced(err) {
		return ErrFenced
	}
	if err != nil {
		return err
	}
	if has, ok := reply.(string); ok {
		return otherCheckpoint{has}
	}
	return nil
}

func pageField(page int, version string) string { return strconv.Itoa(page) + "@" + version }

var hashSeed = maphash.MakeSeed()

func hashOf(text []byte) uint64 { return maphash.Bytes(hashSeed, text) }
