package docker

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

// Another owner replaces a checkpoint while it is read.
func testStoreLoadDuringSave(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 5000, "1")
	last := x.save("r", s.checkpoint(), nil)
	other := *x
	other.spy = &spy{}
	other.store = store.NewRedis(store.RedisConfig{Client: x.db, Prefix: x.prefix})
	hmgets := 0
	x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
		if what == "hmget" {
			if hmgets++; hmgets == 2 {
				s.fill(0, 5000, "2")
				last = other.save("r", s.checkpoint(), last)
			}
		}
		return call()
	})
	c, _ := x.load("r")
	x.spy.set(nil)
	if hmgets <= 3 {
		x.Errorf("%d calls: nothing was read again", hmgets)
	}
	if want := s.checkpoint(); c.Applied != want.Applied || !reflect.DeepEqual(documentOf(x, c.Snapshot), documentOf(x, want.Snapshot)) {
		x.Errorf("it has %s, want %s", c.Applied, want.Applied)
	}

	// Without an end.
	x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
		if what == "hmget" {
			s.fill(0, 5000, "3")
			last = other.save("r", s.checkpoint(), last)
		}
		return call()
	})
	if _, _, err := x.store.Load(x.ctx, 7, "r"); err == nil || errors.Is(err, room.ErrBadSnapshot) {
		x.Errorf("a checkpoint that keeps changing: %v", err)
	}
}

// What is read is always of one moment.
func testStoreLoadsAndSavesAtOnce(x *storeTest) {
	const saves = 20
	state := func(i int) string { return fmt.Sprintf(`%d,"z":"%s"`, i, strings.Repeat("z", 200)) }
	s := newRoomState(x)
	save := func(last *store.Stored, i int) *store.Stored {
		s.fill(0, 6000, state(i)) // by two patches
		s.receive("writer", fmt.Sprintf(`{"type":"patch","ephemeralPatches":[{"at":{"_exists":true,"n":%d}}]}`, s.Document().Timestamp()))
		return x.save("r", s.checkpoint(), last)
	}
	last := save(nil, 0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
				}
				c, _, err := x.store.Load(x.ctx, 7, "r")
				if err != nil {
					if errors.Is(err, room.ErrBadSnapshot) {
						x.Error(err)
					}
					continue
				}
				text, _ := c.Snapshot.MarshalJSON()
				if want := fmt.Sprintf(`"n":%d}`, c.Snapshot.Timestamp()); !strings.Contains(string(c.Sessions[0].Presence), want) {
					x.Errorf("presence %s with timestamp %d", c.Sessions[0].Presence, c.Snapshot.Timestamp())
				}
				y := text[strings.Index(string(text), `"y":`):]
				y = y[:strings.IndexByte(string(y), ',')]
				if n := strings.Count(string(text), string(y)+","); n != 6000 {
					x.Errorf("%d of 6000 keys have %s", n, y)
				}
			}
		})
	}
	for i := range saves {
		last = save(last, i+1)
	}
	close(done)
	wg.Wait()
	x.want("r", s.checkpoint())
}

// A key that has nothing to be written takes a place in its page all the same,
// but not in Redis.
func testStoreMovedPages(x *storeTest) {
	var state []string
	for i := range 600 {
		state = append(state, fmt.Sprintf(`"k%d":{"_exists":true,"x":1}`, i))
	}
	snapshot, err := room.ParseSnapshot([]byte(`{"timestamp":1,"timestamps":{"nothing":{}},"state":{` + strings.Join(state, ",") + `}}`))
	if err != nil {
		x.Fatal(err)
	}
	x.save("r", &store.Checkpoint{Applied: "1-1", Snapshot: snapshot}, nil)
	c, last := x.load("r")
	s := newRoomState(x)
	s.State = room.RestoreState(c.Snapshot, nil, room.Limits{})
	for i := range 600 { // whichever has moved
		s.patch(fmt.Sprintf(`{"k%d":{"x":2}}`, i))
		last = x.save("r", s.checkpoint(), last)
		if i%50 == 0 || i == 599 {
			x.want("r", s.checkpoint())
		}
		if i < 20 {
			x.want("r", s.checkpoint())
		}
	}
}

func testStoreBadData(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 5000, "1")
	s.receive("writer", `{"type":"patch","ephemeralPatches":[{"secret":{"_exists":true}}]}`)
	good := s.checkpoint()
	const id = "bad\nroom"
	meta, pages, sessions := x.key("r:"+id), x.key("d:"+id), x.key("s:"+id)
	page := func() string { return "3@" + x.db.HGet(x.ctx, meta, "id").Val() }
	for name, spoil := range map[string]func() error{
		"later format":         func() error { return x.db.HSet(x.ctx, meta, "format", "2").Err() },
		"no format":            func() error { return x.db.HDel(x.ctx, meta, "format").Err() },
		"no id":                func() error { return x.db.HDel(x.ctx, meta, "id").Err() },
		"no place in the log":  func() error { return x.db.HDel(x.ctx, meta, "applied").Err() },
		"no timestamp":         func() error { return x.db.HDel(x.ctx, meta, "timestamp").Err() },
		"a negative timestamp": func() error { return x.db.HSet(x.ctx, meta, "timestamp", -1).Err() },
		"a large timestamp":    func() error { return x.db.HSet(x.ctx, meta, "timestamp", uint64(1<<60)).Err() },
		"a timestamp of text":  func() error { return x.db.HSet(x.ctx, meta, "timestamp", "now").Err() },
		"no number of pages":   func() error { return x.db.HDel(x.ctx, meta, "pages").Err() },
		"too many pages":       func() error { return x.db.HSet(x.ctx, meta, "pages", 1<<40).Err() },
		"negative pages":       func() error { return x.db.HSet(x.ctx, meta, "pages", -1).Err() },
		"versions are missing": func() error { return x.db.HDel(x.ctx, meta, "d3").Err() },
		"too many versions":    func() error { return x.db.HSet(x.ctx, meta, "d3", "\x41\x01\x01v").Err() },
		"too few versions":     func() error { return x.db.HSet(x.ctx, meta, "d3", "\x3f\x01\x01v").Err() },
		"a page of no parts":   func() error { return x.db.HSet(x.ctx, meta, "d3", "\x40\x00\x01v").Err() },
		"a part is missing":    func() error { return x.db.HSet(x.ctx, meta, "d3", "\x40\x02\x01v").Err() },
		"a page is missing":    func() error { return x.db.HDel(x.ctx, pages, page()).Err() },
		"no page":              func() error { return x.db.Del(x.ctx, pages).Err() },
		"a page is no JSON":    func() error { return x.db.HSet(x.ctx, pages, page(), `{"state":{"secret`).Err() },
		"a page is empty":      func() error { return x.db.HSet(x.ctx, pages, page(), ``).Err() },
		"a page is a list":     func() error { return x.db.HSet(x.ctx, pages, page(), `["secret"]`).Err() },
		"no order":             func() error { return x.db.HDel(x.ctx, meta, "order").Err() },
		"an order that is cut": func() error { return x.db.HSet(x.ctx, meta, "order", "\x09x").Err() },
		"an order of others":   func() error { return x.db.HSet(x.ctx, meta, "order", "\x01x").Err() },
		"no sessions":          func() error { return x.db.Del(x.ctx, sessions).Err() },
		"a session too many":   func() error { return x.db.HSet(x.ctx, sessions, "x", "").Err() },
		"a session that is no": func() error { return x.db.HSet(x.ctx, sessions, "writer", "\xff\xffsecret").Err() },
		"a text for a hash":    func() error { return x.db.Set(x.ctx, meta, "secret", 0).Err() },
		"a text for the pages": func() error { return x.db.Set(x.ctx, pages, "secret", 0).Err() },
		"a text for sessions":  func() error { return x.db.Set(x.ctx, sessions, "secret", 0).Err() },
	} {
		x.db.Del(x.ctx, meta, pages, sessions)
		last := x.save(id, good, nil)
		if err := spoil(); err != nil {
			x.Fatalf("%s: %v", name, err)
		}
		before := x.db.HGetAll(x.ctx, pages).Val()
		c, stored, err := x.store.Load(x.ctx, 7, id)
		if !errors.Is(err, room.ErrBadSnapshot) || c != nil || stored != nil {
			x.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), `"bad\nroom"`) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			x.Errorf("%s: the error does not name the room, or tells too much: %v", name, err)
		}
		if after := x.db.HGetAll(x.ctx, pages).Val(); !maps.Equal(before, after) {
			x.Errorf("%s: loading has changed something", name)
		}
		if strings.HasPrefix(name, "a text for") {
			continue
		}
		// Who has the room in memory goes on.
		if _, err := x.store.Save(x.ctx, x.fence, id, good, last); err != nil {
			x.Errorf("%s: %v", name, err)
		}
	}
}
