package store

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
)

//go:embed scripts/load.lua
var loadLua string

var loadScript = redis.NewScript(loadLua)

const (
	// fewPages is how many pages one call reads.
	fewPages = 16
	// loadAttempts bounds how often a load begins anew because the checkpoint
	// was replaced meanwhile.
	loadAttempts = 10
	// maxTimestamp is the last whole number that JavaScript counts without a gap.
	maxTimestamp = 1<<53 - 1
)

var errReplaced = errors.New("its checkpoint in Redis keeps changing while it is read")

// Load reads a room's checkpoint, and what Save needs to write only what has
// changed since. All three results are nil if there is none. What cannot be
// understood is an error that wraps [room.ErrBadSnapshot], and stays as it is; trouble
// with Redis is an error that does not.
//
// Load may be called by anybody and tells nobody. What it returns may be old as
// soon as another node owns the partition; so claim it first.
func (r *Redis) Load(ctx context.Context, partition int, roomID string) (*Checkpoint, *Stored, error) {
	err := errReplaced
	missing := ""
	for range loadAttempts {
		var l *loading
		l, err = r.read(ctx, partition, roomID)
		if err != nil || l == nil {
			break
		}
		var c *Checkpoint
		var s *Stored
		c, s, err = l.checkpoint(ctx)
		if err == nil {
			return c, s, nil
		}
		if !errors.Is(err, errReplaced) {
			break
		}
		// A checkpoint's pages are removed when the next replaces it.
		id := l.meta["id"]
		if id == missing {
			err = bad("a page of the document is missing")
			break
		}
		missing = id
	}
	switch {
	case err == nil:
		return nil, nil, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		err = bad("a key has another type")
	}
	return nil, nil, fmt.Errorf("room %q cannot be loaded: %w", roomID, err)
}

func bad(reason string) error { return fmt.Errorf("%w: %s", room.ErrBadSnapshot, reason) }

// loading is what Redis had of a room at one moment.
type loading struct {
	client         redis.UniversalClient
	key            string // of the pages
	meta, sessions map[string]string
	few            map[string]string // all pages, if they are few
}

// read returns nil if there is no such room.
func (r *Redis) read(ctx context.Context, partition int, roomID string) (*loading, error) {
	l := &loading{client: r.client, key: r.key(partition, "d:"+roomID)}
	keys := []string{r.key(partition, "r:"+roomID), l.key, r.key(partition, "s:"+roomID)}
	reply, err := loadScript.Run(ctx, r.client, keys, fewPages).Slice()
	if err != nil {
		return nil, err
	}
	if len(reply) != 3 {
		return nil, fmt.Errorf("the script replied with %d parts", len(reply))
	}
	for i, m := range []*map[string]string{&l.meta, &l.sessions, &l.few} {
		list, _ := reply[i].([]any)
		*m = make(map[string]string, len(list)/2)
		for pair := range slices.Chunk(list, 2) {
			name, ok1 := pair[0].(string)
			value, ok2 := pair[len(pair)-1].(string)
			if !ok1 || !ok2 {
				return nil, errors.New("the script replied with something else than texts")
			}
			(*m)[name] = value
		}
	}
	if len(l.meta) == 0 {
		return nil, nil
	}
	return l, nil
}

// checkpoint reads the pages that are left to be read. The error is errReplaced
// if one is not there.
func (l *loading) checkpoint(ctx context.Context) (*Checkpoint, *Stored, error) {
	if f := l.meta["format"]; f != redisFormat {
		return nil, nil, bad(fmt.Sprintf("its format is %q, and this version of Weft reads %q", f, redisFormat))
	}
	applied, ok := l.meta["applied"]
	c := &Checkpoint{Applied: applied}
	s := &Stored{id: l.meta["id"]}
	if s.id == "" || !ok {
		return nil, nil, bad("it does not say which moment it is of")
	}
	if err := l.readSessions(c, s); err != nil {
		return nil, nil, err
	}
	if err := l.readPages(ctx, c, s); err != nil {
		return nil, nil, err
	}
	return c, s, nil
}

func (l *loading) readSessions(c *Checkpoint, s *Stored) error {
	order := []byte(l.meta["order"])
	ids, ok := decodeOrder(order)
	if !ok || len(ids) != len(l.sessions) {
		return bad("the order of the sessions is not that of the sessions")
	}
	s.order = hashOf(order)
	s.sessions = make(map[string]uint64, len(ids))
	c.Homes = make(map[string]string, len(ids))
	c.Sessions = make([]room.SessionState, 0, len(ids))
	for _, id := range ids {
		text := []byte(l.sessions[id])
		x, home, ok := decodeSession(id, text)
		if !ok {
			return bad(fmt.Sprintf("session %q", id))
		}
		c.Sessions = append(c.Sessions, x)
		if home != "" {
			c.Homes[id] = home
		}
		s.sessions[id] = hashOf(text)
	}
	return nil
}

func (l *loading) readPages(ctx context.Context, c *Checkpoint, s *Stored) error {
	var err error
	s.timestamp, err = strconv.ParseInt(l.meta["timestamp"], 10, 64)
	if err != nil || s.timestamp < 0 || s.timestamp > maxTimestamp {
		return bad("its timestamp is not a whole number")
	}
	n, err := strconv.Atoi(l.meta["pages"])
	if err != nil || n < 0 || n > len(l.meta) {
		return bad("the number of its pages is not that of its versions")
	}
	fields := make([]string, 0, n)
	s.pages = make([]string, 0, n)
	for i := range n {
		version, ok := l.meta["p"+strconv.Itoa(i)]
		if !ok {
			return bad(fmt.Sprintf("page %d has no version", i))
		}
		s.pages = append(s.pages, version)
		fields = append(fields, pageField(i, version))
	}
	var parser room.PageParser
	at := 0
	for some := range slices.Chunk(fields, fewPages) {
		pages, err := l.texts(ctx, some)
		if err != nil {
			return err
		}
		for _, text := range pages {
			if err := parser.Parse([]byte(text)); err != nil {
				return fmt.Errorf("page %d: %w", at, err)
			}
			at++
		}
	}
	var samePages bool
	c.Snapshot, samePages = parser.Snapshot(s.timestamp)
	if !samePages {
		s.pages = nil
	}
	return nil
}

// texts returns the pages' texts.
func (l *loading) texts(ctx context.Context, fields []string) ([]string, error) {
	from := l.few
	if len(from) == 0 {
		values, err := l.client.HMGet(ctx, l.key, fields...).Result()
		if err != nil {
			return nil, err
		}
		from = make(map[string]string, len(fields))
		for i, v := range values {
			if text, ok := v.(string); ok {
				from[fields[i]] = text
			}
		}
	}
	texts := make([]string, len(fields))
	for i, field := range fields {
		text, ok := from[field]
		if !ok {
			return nil, errReplaced
		}
		texts[i] = text
	}
	return texts, nil
}
