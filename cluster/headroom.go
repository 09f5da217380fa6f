package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// headroom knows how much memory Redis has left. A Redis that is full refuses what
// needs memory, and a cluster that could not write its leases and checkpoints any more
// would not get out of that: what fills Redis are logs, which end by checkpoints and
// trims. So two things hold:
//
//   - Appends stop while a reserve is left, and whatever the reserve, when Redis refuses
//     one. Sockets then wait, as behind a log that is full, and the owners checkpoint and
//     trim at once.
//   - Whatever else is written can be written by a script that begins with a write
//     that needs no memory, after which Redis takes the rest; see scripts/mark.lua.
type headroom struct {
	inc  *incarnation
	soon chan struct{}

	mu      sync.Mutex
	servers map[string]*server // by address, in a Redis Cluster; else there is one, ""
}

// server is one Redis.
type server struct {
	full atomic.Bool
	left atomic.Int64 // bytes that may be appended before it is looked again

	mu        sync.Mutex
	used, max int64     // bytes, as of the last look; 0: not known
	told      time.Time // when it was last logged that it is full
	said      bool      // that it is full now
}

const (
	lookInterval     = time.Second
	lookWhenFull     = 250 * time.Millisecond
	shortestInterval = 20 * time.Millisecond
	// reservePart of what Redis may have is left for what is not an append, but not
	// more than maxReserve.
	reservePart = 8
	maxReserve  = 256 << 20
)

func newHeadroom(i *incarnation) *headroom {
	return &headroom{inc: i, soon: make(chan struct{}, 1), servers: map[string]*server{}}
}

// of is the Redis that has a partition.
func (h *headroom) of(ctx context.Context, n int) *server {
	address := ""
	if c, ok := h.inc.writing.(*redis.ClusterClient); ok {
		if master, err := c.MasterForKey(ctx, h.inc.keys.log(n)); err == nil {
			address = master.Options().Addr
		}
	}
	return h.server(address)
}

func (h *headroom) server(address string) *server {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.servers[address]
	if s == nil {
		s = &server{}
		s.left.Store(math.MaxInt64)
		h.servers[address] = s
	}
	return s
}

// spend tells of an append. Looks come the sooner the more is appended.
func (h *headroom) spend(s *server, bytes int) {
	if s.left.Add(-int64(bytes)) < 0 {
		h.hurry()
	}
}

// refused tells that Redis has refused an append since it is full.
func (h *headroom) refused(s *server) {
	s.left.Store(0)
	h.turn(s, true)
	h.hurry()
}

// hurry lets the next look not wait for its time.
func (h *headroom) hurry() {
	select {
	case h.soon <- struct{}{}:
	default:
	}
}

// run looks how much memory is left until the context ends.
func (h *headroom) run(ctx context.Context) {
	for {
		h.lookAll(ctx)
		interval := lookInterval
		if len(h.full()) > 0 {
			h.inc.ownership.wakeAll() // to make room
			interval = lookWhenFull
		}
		if !sleep(ctx, shortestInterval, nil) || !sleep(ctx, interval, h.soon) {
			return
		}
	}
}

// sleep reports false if the context ends before.
func sleep(ctx context.Context, d time.Duration, sooner <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-sooner:
	}
	return true
}

func (h *headroom) lookAll(ctx context.Context) {
	switch c := h.inc.control.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex
		var masters []string
		err := c.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			address := master.Options().Addr
			mu.Lock()
			masters = append(masters, address)
			mu.Unlock()
			h.ask(ctx, master, h.server(address))
			return nil
		})
		if err != nil {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for address := range h.servers {
			if !slices.Contains(masters, address) {
				delete(h.servers, address)
			}
		}
	case *redis.Client:
		h.ask(ctx, c, h.server(""))
	}
}

// ask asks one Redis. One that is away says nothing. Of one that does not let this user ask,
// only what it refuses tells: it is tried again at every look.
func (h *headroom) ask(ctx context.Context, c *redis.Client, s *server) {
	text, err := c.Info(ctx, "memory").Result()
	if reply := redis.Error(nil); err != nil && !errors.As(err, &reply) {
		return
	}
	used, limit := memoryOf(text)
	s.mu.Lock()
	s.used, s.max = used, limit
	s.mu.Unlock()
	left := int64(math.MaxInt64)
	if limit > 0 {
		left = limit - min(limit/reservePart, maxReserve) - used
	}
	s.left.Store(max(0, left) / int64(4*h.nodes())) // what others append, and what comes of it, takes memory, too
	h.turn(s, left <= 0)
}

// nodes is how many nodes append.
func (h *headroom) nodes() int {
	if h.inc.gossip == nil {
		return 1
	}
	return max(1, len(h.inc.gossip.members()))
}

// memoryOf reads what INFO says: the bytes that count against maxmemory, and that, 0 if there
// is none.
func memoryOf(info string) (used, limit int64) {
	values := parseInfo(info)
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(values[name], 10, 64)
		return n
	}
	return number("used_memory") - number("mem_not_counted_for_evict"), number("maxmemory")
}

// turn notes whether a Redis is full.
func (h *headroom) turn(s *server, full bool) {
	if s.full.Swap(full) == full {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case full && time.Since(s.told) > tellAgain:
		s.told, s.said = time.Now(), true
		h.inc.log.Warn("Redis is full; sockets stay open, and nothing is acknowledged until it has space: " + s.advice())
	case !full && s.said:
		s.said = false
		h.inc.log.Info("Redis has space again")
	}
}

// advice says what to do; s.mu is held.
func (s *server) advice() string {
	const mend = "raise its maxmemory, or remove what else it keeps"
	if s.max <= 0 {
		return mend
	}
	return fmt.Sprintf("it uses %d MiB of %d: ", s.used>>20, s.max>>20) + mend
}

// full says which Redis is full, a sentence each, and what to do.
func (h *headroom) full() (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for address, s := range h.servers {
		if !s.full.Load() {
			continue
		}
		where := "Redis"
		if address != "" {
			where = "Redis at " + address
		}
		s.mu.Lock()
		list = append(list, where+" is full, so nothing is acknowledged: "+s.advice())
		s.mu.Unlock()
	}
	slices.Sort(list)
	return list
}

// isFull reports whether Redis has refused a command since it is full, in a script or not.
func isFull(err error) bool {
	return err != nil && strings.Contains(err.Error(), "OOM command not allowed")
}
