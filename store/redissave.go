package store

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
)

//go:embed scripts/save.lua
var saveLua string

//go:embed scripts/fields.lua
var fieldsLua string

var (
	saveScript   = FencedScript(saveLua)
	fieldsScript = redis.NewScript(fieldsLua)
)

const (
	// callBytes is about how much one call to Redis reads or writes of a document.
	callBytes = 256 << 10
	// partBytes bounds what one field has of a page.
	partBytes = 16 << 10
	// goneAtOnce is how many fields one call removes.
	goneAtOnce = 1000
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
// The error is [ErrFenced] if the partition has another owner, and [ErrForgotten] if
// Redis does not have what its owner wrote before. After any other
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
	w := &writing{redis: r, fence: f, room: roomID, before: last.id, had: last.fields}
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
	var gone []any // fields
	next.pages = []storedPage{}
	for i, p := range snapshot.Pages(-1) {
		if i < len(last.pages) && !changed[i] {
			next.pages = append(next.pages, last.pages[i])
			next.fields += last.pages[i].parts
			continue
		}
		if i < len(last.pages) {
			for field := range partFields(i, last.pages[i]) {
				gone = append(gone, field)
			}
		}
		parts, err := w.page(ctx, i, p)
		if err != nil {
			return nil, err
		}
		next.pages = append(next.pages, storedPage{next.id, parts})
		next.fields += parts
	}
	for i, pages := range directories(next.pages) {
		from := min(i*directoryLen, len(last.pages))
		had := last.pages[from:min(from+directoryLen, len(last.pages))]
		if !slices.Equal(pages, had) {
			meta = append(meta, "d"+strconv.Itoa(i), encodeDirectory(pages))
		}
	}
	meta = append(meta, "pages", len(next.pages))
	if forgotten := snapshot.Forgotten(); len(forgotten) > 0 { // once there is something, there always is
		meta = append(meta, "forgotten", encodeForgotten(forgotten))
	}

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
	goneNow := gone[:min(goneAtOnce, len(gone))]
	kept, err := w.call(ctx, kind, len(c.Sessions), w.parts, meta, sessions, goneSessions, goneNow)
	if err != nil {
		return nil, err
	}
	// It is saved. What cannot be removed now is removed after the next save.
	w.written = next.fields
	w.remove(ctx, gone[len(goneNow):])
	if kept-len(gone)+len(goneNow) > next.fields {
		w.sweep(ctx)
	}
	return next, nil
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

	had     int   // fields that are in Redis already, as far as one knows
	written int   // fields
	parts   []any // fields and values that wait for the next call
	size    int
	swept   bool
}

// page adds a page, for which others may be written ahead, and returns in how many
// parts.
func (w *writing) page(ctx context.Context, page int, p room.Page) (parts int, err error) {
	for text := range slices.Chunk(p.AppendJSON(nil), partBytes) {
		if len(w.parts) > 0 && w.size+len(text) > callBytes {
			if err := w.ahead(ctx); err != nil {
				return 0, err
			}
		}
		w.parts = append(w.parts, partField(page, w.id, parts), text)
		w.size += len(text)
		parts++
	}
	return parts, nil
}

// ahead writes what waits. If Redis then has more than it should, saves have failed
// before this one, and what they wrote must go first, or saves that go on failing
// would fill Redis.
func (w *writing) ahead(ctx context.Context) error {
	kept, err := w.call(ctx, "ahead", 0, w.parts)
	if err != nil {
		return err
	}
	w.written += len(w.parts) / 2
	w.parts, w.size = nil, 0
	if kept > w.had+w.written && !w.swept {
		w.sweep(ctx)
	}
	return nil
}

// call runs the script, see there, and returns how many fields the pages have then.
func (w *writing) call(ctx context.Context, kind string, sessions int, lists ...[]any) (kept int, err error) {
	r, n := w.redis, w.fence.Partition
	keys := []string{
		r.key(n, "r:"+w.room), r.key(n, "d:"+w.room), r.key(n, "s:"+w.room), r.key(n, "live"),
	}
	args := []any{w.before, w.id, w.room, kind, sessions}
	for _, list := range lists {
		args = append(append(args, len(list)), list...)
	}
	reply, err := w.fence.Run(ctx, r.client, r.prefix, saveScript, keys, args...).Result()
	if IsFenced(err) {
		return 0, ErrFenced
	}
	if IsForgotten(err) {
		return 0, ErrForgotten
	}
	if err != nil {
		return 0, err
	}
	switch reply := reply.(type) {
	case string:
		return 0, otherCheckpoint{reply}
	case int64:
		return int(reply), nil
	}
	return 0, errors.New("the script replied with something else")
}

// remove removes fields of pages, as far as that succeeds.
func (w *writing) remove(ctx context.Context, fields []any) {
	for some := range slices.Chunk(fields, goneAtOnce) {
		if _, err := w.call(ctx, "remove", 0, some); err != nil {
			return
		}
	}
}

// sweep removes the fields of pages that are neither of the checkpoint that Redis
// has nor of this save, as far as that succeeds.
func (w *writing) sweep(ctx context.Context) {
	w.swept = true
	r, n := w.redis, w.fence.Partition
	meta, err := r.client.HGetAll(ctx, r.key(n, "r:"+w.room)).Result()
	if err != nil || meta["id"] != w.before && meta["id"] != w.id {
		return
	}
	live := map[string]bool{}
	if len(meta) > 0 {
		pages, err := pagesOf(meta)
		if err != nil {
			return
		}
		for i, p := range pages {
			for field := range partFields(i, p) {
				live[field] = true
			}
		}
	}
	for cursor := "0"; ; {
		reply, err := fieldsScript.Run(ctx, r.client, []string{r.key(n, "d:"+w.room)}, cursor).StringSlice()
		if err != nil || len(reply) == 0 {
			return
		}
		var dead []any
		for _, field := range reply[1:] {
			if !live[field] && !strings.Contains(field+".", "@"+w.id+".") {
				dead = append(dead, field)
			}
		}
		w.remove(ctx, dead)
		if cursor = reply[0]; cursor == "0" {
			return
		}
	}
}

// partField names a part of a page.
func partField(page int, version string, part int) string {
	field := strconv.Itoa(page) + "@" + version
	if part > 0 {
		field += "." + strconv.Itoa(part)
	}
	return field
}

// partFields are the names of all parts of a page.
func partFields(page int, p storedPage) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range p.parts {
			if !yield(partField(page, p.version, part)) {
				return
			}
		}
	}
}

// directories are the pages, as many together as one field tells of.
func directories(pages []storedPage) iter.Seq2[int, []storedPage] {
	return func(yield func(int, []storedPage) bool) {
		i := 0
		for some := range slices.Chunk(pages, directoryLen) {
			if !yield(i, some) {
				return
			}
			i++
		}
	}
}

var hashSeed = maphash.MakeSeed()

func hashOf(text []byte) uint64 { return maphash.Bytes(hashSeed, text) }
