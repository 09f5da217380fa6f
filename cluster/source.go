package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

// partitionSource is where the fold reads.
type partitionSource struct{ p *partition }

// again does something until Redis answers, or the partition is over.
func (s partitionSource) again(what string, do func(context.Context) error) error {
	for {
		err := do(s.p.ctx)
		if err == nil || errors.Is(err, errUnreadable) || s.p.ctx.Err() != nil {
			return err
		}
		s.p.inc.trouble.note(what, err)
		select {
		case <-s.p.ctx.Done():
			return s.p.ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

var errUnreadable = errors.New("unreadable checkpoint")

func (s partitionSource) live() (rooms []string) {
	_ = s.again("rooms cannot be listed", func(ctx context.Context) (err error) {
		rooms, err = s.p.inc.store.Live(ctx, s.p.number)
		return err
	})
	slices.Sort(rooms)
	return rooms
}

// read reads the next entries of the log, and whether there may be more.
func (s partitionSource) read(allowed *allowance, after ID, upto string) (entries []logEntry, more bool, err error) {
	var list []redis.XMessage
	err = s.again("the log cannot be read", func(ctx context.Context) (err error) {
		count := allowed.entries()
		list, err = s.p.inc.reading.XRangeN(ctx, s.p.inc.keys.log(s.p.number), "("+after.String(), upto, int64(count)).Result()
		if err != nil {
			allowed.failed()
		}
		more = len(list) == count
		return err
	})
	allowed.took([]redis.XStream{{Messages: list}})
	return logEntries(list), more, err
}

func (s partitionSource) history(base, upto ID, yield func(ID, *batch)) {
	var allowed allowance
	for after, more := base, true; more && upto.After(after); {
		var entries []logEntry
		var err error
		if entries, more, err = s.read(&allowed, after, upto.String()); err != nil {
			return
		}
		for _, e := range entries {
			after = e.id
			if b, err := parseBatch(e.data); err == nil {
				yield(e.id, &b)
			}
		}
	}
}

func (s partitionSource) broke(at place, room, session string, tries int) {
	p := s.p
	p.inc.stats.panics.Add(1)
	p.inc.log.Error("a message broke the room's engine; its room is computed anew", "room", room, "session", session, "tries", tries)
	s.noteTries(at, tries)
}

func (s partitionSource) held(at place) { s.noteTries(at, 0) }

func (s partitionSource) noteTries(at place, tries int) {
	_ = s.again("a broken message cannot be noted", func(ctx context.Context) error {
		err := s.p.fencedRun(ctx, brokeScript, []string{s.p.inc.keys.tries(s.p.number)}, at.String(), tries)
		if store.IsFenced(err) || store.IsForgotten(err) {
			return fmt.Errorf("%w: %w", errUnreadable, err) // no use to try again
		}
		return err
	})
}

// load reads a room's checkpoint. Trouble with Redis is waited out; what
// remains is that the checkpoint is unreadable.
func (s partitionSource) load(name string) (*roomCheckpoint, error) {
	p := s.p
	var c *store.Checkpoint
	var stored *store.Stored
	err := s.again("a room cannot be loaded", func(ctx context.Context) (err error) {
		c, stored, err = p.inc.store.Load(ctx, p.number, name)
		if errors.Is(err, room.ErrBadSnapshot) {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		return err
	})
	if err != nil {
		if p.ctx.Err() == nil {
			p.inc.stats.loadFailures.Add(1)
			p.inc.log.Error("the room cannot be loaded; it stays closed and what is stored stays as it is", "room", name, "error", err)
		}
		return nil, err
	}
	p.inc.stats.loads.Add(1)
	if c == nil {
		return nil, nil
	}
	applied, err := ParseID(c.Applied)
	if err != nil {
		return nil, err
	}
	return &roomCheckpoint{applied: applied, snapshot: c.Snapshot, sessions: c.Sessions, homes: c.Homes, stored: stored}, nil
}
