package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

var errCut = errors.New("the connection is cut")

// A process that ends before the last call of a save leaves the old checkpoint,
// and pages that the next save removes.
func testStoreCrashBeforeCompletion(x *storeTest) {
	text := `"` + strings.Repeat("long ", 20) + `"`
	for name, nextOwner := range map[string]bool{"same owner": false, "next owner": true} {
		s := newRoomState(x)
		s.fill(0, 20_000, text)
		old := s.checkpoint()
		last := x.save(name, old, nil)

		s.fill(10, 18_000, text+`,"z":1`)
		n := 0
		x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
			if what == "ahead" && n < 2 {
				n++
				return call()
			}
			return errCut
		})
		if _, err := x.store.Save(x.ctx, x.fence, name, s.checkpoint(), last); !errors.Is(err, errCut) {
			x.Fatal(err)
		}
		x.spy.set(nil)
		x.wantCheckpoint(name, old)
		if kept := x.fieldsKept(name); n < 2 || kept <= 1250 {
			x.Fatalf("%d calls went ahead and Redis has %d pages: that is no crash in the middle", n, kept)
		}
		if nextOwner {
			x.claim(x.fence.Epoch+1, "n.2")
			var c *store.Checkpoint
			c, last = x.load(name)
			s.State = room.RestoreState(c.Snapshot, c.Sessions, room.Limits{})
		}
		// A single page changes, so the rest is not written under the same name.
		s.patch(`{"key3/Shape":{"x":-1}}`)
		x.save(name, s.checkpoint(), last)
		x.want(name, s.checkpoint())
	}

	// The first save of a room: there is none until it is complete.
	s := newRoomState(x)
	s.fill(0, 20_000, text)
	x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
		if what == "ahead" {
			return call()
		}
		return errCut
	})
	if _, err := x.store.Save(x.ctx, x.fence, "first", s.checkpoint(), nil); !errors.Is(err, errCut) {
		x.Fatal(err)
	}
	x.spy.set(nil)
	if c, _, err := x.store.Load(x.ctx, x.fence.Partition, "first"); c != nil || err != nil || x.fieldsKept("first") == 0 {
		x.Errorf("a room that was never completed: %v, %v", c, err)
	}
	x.save("first", s.checkpoint(), nil)
	x.want("first", s.checkpoint())
}

// Saves that fail again and again do not fill Redis.
func testStoreFailingSaves(x *storeTest) {
	for name, first := range map[string]bool{"first": true, "next": false} {
		s := newRoomState(x)
		s.fill(0, 20_000, `"`+strings.Repeat("long ", 20)+`"`)
		var last *store.Stored
		if !first {
			last = x.save(name, s.checkpoint(), nil)
		}
		for range 5 {
			s.fill(0, 20_000, `"`+strings.Repeat("more ", 20)+`"`)
			x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
				if what == "whole" || what == "changes" {
					return errCut
				}
				return call()
			})
			if _, err := x.store.Save(x.ctx, x.fence, name, s.checkpoint(), last); !errors.Is(err, errCut) {
				x.Fatal(err)
			}
			x.spy.set(nil)
			if kept := x.fieldsKept(name); kept > 3*1250 {
				x.Errorf("%s: after saves that have failed Redis has %d fields", name, kept)
			}
		}
		x.save(name, s.checkpoint(), last)
		x.want(name, s.checkpoint())
	}
}

// A save that took place although its reply was lost.
func testStoreUnknownOutcome(x *storeTest) {
	s := newRoomState(x)
	for name, fill := range map[string]int{"small": 10, "large": 10_000} {
		s.fill(0, fill, `"`+strings.Repeat("long ", 20)+`"`)
		first := x.save(name, s.checkpoint(), nil)
		for _, last := range []*store.Stored{first, nil} {
			s.fill(5, fill+5, `"other"`)
			x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
				if err := call(); err != nil {
					return err
				}
				if what != "changes" && what != "whole" {
					return nil
				}
				if _, done := cmd.(*redis.Cmd).Val().(int64); done {
					return errCut
				}
				return nil
			})
			if _, err := x.store.Save(x.ctx, x.fence, name, s.checkpoint(), last); !errors.Is(err, errCut) {
				x.Fatal(err)
			}
			x.spy.set(nil)
			x.wantCheckpoint(name, s.checkpoint()) // with pages that the next save removes
			s.patch(`{"key3/Shape":{"x":-1}}`)
			s.join("new"+strconv.Itoa(s.applied), "client", nil)
			x.save(name, s.checkpoint(), last)
			x.want(name, s.checkpoint())
		}
	}

	// A client that sends everything twice.
	x.spy.set(func(_ string, _ redis.Cmder, call func() error) error { call(); return call() })
	last := x.save("twice", s.checkpoint(), nil)
	x.want("twice", s.checkpoint())
	s.patch(`{"key3/Shape":{"x":-2}}`)
	calls, _, _ := x.spy.sent(func() { x.save("twice", s.checkpoint(), last) })
	if calls != 1 {
		x.Errorf("%d calls to save a key", calls)
	}
	x.spy.set(nil)
	x.want("twice", s.checkpoint())
}

// Calls of saves that were given up reach Redis after those that followed.
func testStoreLateCalls(x *storeTest) {
	s := newRoomState(x)
	text := `"` + strings.Repeat("long ", 20) + `"`
	s.fill(0, 10_000, text)
	last := x.save("r", s.checkpoint(), nil)
	var late [][]any
	for round := range 3 {
		s.fill(0, 10_000, fmt.Sprintf(`%d,"z":%s`, round, text))
		calls := 0
		x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
			switch what {
			case "ahead", "changes", "whole", "remove":
				late = append(late, cmd.Args())
			}
			if calls++; calls <= round {
				return call()
			}
			return errCut // it is on its way
		})
		if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, errCut) {
			x.Fatal(err)
		}
	}
	x.spy.set(nil)
	s.patch(`{"key3/Shape":{"x":-1}}`)
	last = x.save("r", s.checkpoint(), last)
	x.want("r", s.checkpoint())
	for _, args := range late {
		if err := x.db.Do(x.ctx, args...).Err(); !redis.HasErrorPrefix(err, "LATE") {
			x.Errorf("a call that is late: %v", err)
		}
		x.want("r", s.checkpoint())
	}

	// In the midst of another save.
	s.fill(0, 10_000, `"late"`)
	var whole []any
	x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
		if what == "ahead" {
			return call()
		}
		whole = cmd.Args()
		return errCut
	})
	if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, errCut) {
		x.Fatal(err)
	}
	s.fill(0, 10_000, text)
	x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
		if what != "ahead" && whole != nil {
			if err := x.db.Do(x.ctx, whole...).Err(); !redis.HasErrorPrefix(err, "LATE") {
				x.Errorf("a call that is late: %v", err)
			}
			whole = nil
		}
		return call()
	})
	x.save("r", s.checkpoint(), last)
	x.spy.set(nil)
	if whole != nil {
		x.Error("no call was late")
	}
	x.want("r", s.checkpoint())
}

// A replica takes over that had not got the last saves.
func testStoreLostTail(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 2000, "1")
	x.save("r", s.checkpoint(), nil)
	keys := x.db.Keys(x.ctx, x.key("*")).Val()
	dumps := map[string]string{}
	for _, key := range keys {
		dumps[key] = x.db.Dump(x.ctx, key).Val()
	}
	s.fill(500, 2500, "2")
	last := x.save("r", s.checkpoint(), nil)

	for _, all := range []bool{false, true} {
		for _, key := range keys {
			x.db.Del(x.ctx, key)
			if !all {
				if err := x.db.Restore(x.ctx, key, 0, dumps[key]).Err(); err != nil {
					x.Fatal(err)
				}
			}
		}
		s.patch(`{"key2400/Shape":{"x":-1}}`)
		if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !store.IsForgotten(err) {
			x.Errorf("Redis has forgotten, and the save: %v", err)
		}
		if err := x.fence.Retake(x.ctx, x.db, x.prefix, store.FencedScript("return 1"), nil).Err(); err != nil {
			x.Error(err)
		}
		last = x.save("r", s.checkpoint(), last)
		x.want("r", s.checkpoint())
	}
}

func testStoreFullRedis(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 2000, "1")
	old := s.checkpoint()
	last := x.save("r", old, nil)
	if err := x.db.ConfigSet(x.ctx, "maxmemory", "1000").Err(); err != nil {
		x.Fatal(err)
	}
	defer x.db.ConfigSet(x.ctx, "maxmemory", "0")
	// What an owner writes lets the log be trimmed: it is not refused, and not in the middle either.
	if err := x.db.Set(x.ctx, x.key("other"), "x", 0).Err(); err == nil {
		x.Error("it is not full")
	}
	s.leave("writer")
	last = x.save("r", s.checkpoint(), last)
	x.want("r", s.checkpoint())
	empty := &store.Checkpoint{Applied: "7-7"}
	x.save("r", empty, last)
	x.want("r", empty)
}

func testStoreForgottenScripts(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, `"`+strings.Repeat("long ", 20)+`"`)
	x.spy.set(func(_ string, _ redis.Cmder, call func() error) error {
		if err := x.db.ScriptFlush(x.ctx).Err(); err != nil {
			x.Error(err)
		}
		return call()
	})
	x.save("r", s.checkpoint(), nil)
	x.want("r", s.checkpoint())
}

func testStoreUnreachable(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, "1")
	last := x.save("r", s.checkpoint(), nil)
	x.spy.set(func(string, redis.Cmder, func() error) error { return errCut })
	if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, errCut) || store.IsFenced(err) {
		x.Errorf("save: %v", err)
	}
	if _, err := x.store.Live(x.ctx, 7); !errors.Is(err, errCut) {
		x.Errorf("live: %v", err)
	}
	for n := range 3 { // calls that succeed
		calls := 0
		x.spy.set(func(_ string, _ redis.Cmder, call func() error) error {
			if calls++; calls > n {
				return errCut
			}
			return call()
		})
		c, stored, err := x.store.Load(x.ctx, 7, "r")
		if !errors.Is(err, errCut) || errors.Is(err, room.ErrBadSnapshot) || c != nil || stored != nil {
			x.Errorf("load after %d calls: %v", n, err)
		}
	}
	x.spy.set(nil)
	ctx, cancel := context.WithCancel(x.ctx)
	cancel()
	if _, err := x.store.Save(ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, context.Canceled) {
		x.Errorf("save with a context that has ended: %v", err)
	}
	if _, _, err := x.store.Load(ctx, 7, "r"); !errors.Is(err, context.Canceled) {
		x.Errorf("load with a context that has ended: %v", err)
	}
}
