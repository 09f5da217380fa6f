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
	// fewFields is how many fields are read together with what they belong to.
	fewFields = callBytes / partBytes
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
	reply, err := loadScript.Run(ctx, r.client, keys, fewFields).Slice()
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
	if s.pages, err = pagesOf(l.meta); err != nil {
		return err
	}
	var fields []string
	for i, p := range s.pages {
		fields = slices.AppendSeq(fields, partFields(i, p))
	}
	s.fields = len(fields)
	var parser room.PageParser
	var page []byte
	at, parts, size, read := 0, 0, 0, 0
	for rest, n := fields, fewFields; len(rest) > 0; {
		n = min(n, len(rest))
		texts, err := l.texts(ctx, rest[:n])
		if err != nil {
			return err
		}
		for _, text := range texts {
			page = append(page, text...)
			size += len(text)
			if parts++; parts < s.pages[at].parts {
				continue
			}
			if err := parser.Parse(page); err != nil {
				return fmt.Errorf("page %d: %w", at, err)
			}
			page, at, parts = page[:0], at+1, 0
		}
		rest = rest[n:]
		read += n
		n = max(fewFields, min(2*n, callBytes/max(1, size/read))) // if they are as large as those so far
	}
	forgotten, ok := decodeForgotten([]byte(l.meta["forgotten"]))
	if !ok {
		return bad("which timestamps it has forgotten")
	}
	var samePages bool
	c.Snapshot, samePages = parser.Snapshot(s.timestamp, forgotten...)
	if !samePages {
		s.pages = nil
	}
	return nil
}

// pagesOf reads which pages a checkpoint has.
func pagesOf(meta map[string]string) ([]storedPage, error) {
	n, err := strconv.Atoi(meta["pages"])
	if err != nil || n < 0 || n > len(meta)*directoryLen {
		return nil, bad("the number of its pages is not that of its versions")
	}
	pages := make([]storedPage, 0, n)
	for i := 0; len(pages) < n; i++ {
		some, ok := decodeDirectory(meta["d"+strconv.Itoa(i)], min(directoryLen, n-len(pages)))
		if !ok {
			return nil, bad(fmt.Sprintf("the versions of the pages from %d on", len(pages)))
		}
		pages = append(pages, some...)
	}
	return pages, nil
}

// texts returns the texts of fields.
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
