package docker

import (
	"errors"
	"maps"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/store"
)

func testStoreFence(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, `"`+strings.Repeat("long ", 20)+`"`)
	large := s.checkpoint()
	const epoch = 1<<52 + 1
	for name, test := range map[string]struct {
		own  map[string]any // in Redis; epoch and owner of the writer are 1<<52+1 and n.1
		want error
	}{
		"mine":                     {map[string]any{"epoch": uint64(epoch), "owner": "n.1", "released": 0}, nil},
		"mine, not said released":  {map[string]any{"epoch": uint64(epoch), "owner": "n.1"}, nil},
		"mine, later link":         {map[string]any{"epoch": uint64(epoch), "owner": "n.1", "link": 7}, nil},
		"mine, earlier link":       {map[string]any{"epoch": uint64(epoch), "owner": "n.1", "link": 4}, store.ErrForgotten},
		"mine, released":           {map[string]any{"epoch": uint64(epoch), "owner": "n.1", "released": 1}, store.ErrFenced},
		"same epoch, other owner":  {map[string]any{"epoch": uint64(epoch), "owner": "n.2", "released": 0}, store.ErrFenced},
		"higher epoch":             {map[string]any{"epoch": uint64(epoch + 1), "owner": "n.2", "released": 0}, store.ErrFenced},
		"higher epoch, my name":    {map[string]any{"epoch": uint64(epoch + 1), "owner": "n.1", "released": 0}, store.ErrFenced},
		"higher epoch, released":   {map[string]any{"epoch": uint64(epoch + 1), "owner": "n.2", "released": 1}, store.ErrFenced},
		"no claim":                 {nil, store.ErrForgotten},
		"lower epoch":              {map[string]any{"epoch": uint64(epoch - 1), "owner": "n.2", "released": 0}, store.ErrForgotten},
		"lower epoch, later link":  {map[string]any{"epoch": uint64(epoch - 1), "owner": "n.1", "link": 9}, store.ErrForgotten},
		"fewer digits":             {map[string]any{"epoch": 9, "owner": "n.2", "released": 0}, store.ErrForgotten},
		"an epoch that is not one": {map[string]any{"epoch": "?", "owner": "n.2", "released": 0}, store.ErrForgotten},
	} {
		for kind, c := range map[string]*store.Checkpoint{"small": {Applied: "5-5"}, "large": large} {
			x.fence.Partition++
			x.claim(epoch, "n.1")
			x.db.Del(x.ctx, x.key("own"))
			for range 9 {
				x.fence.Chain.Next()
			}
			if test.own["link"] != nil {
				x.fence.Chain.Done(5)
			}
			if test.own != nil {
				x.db.HSet(x.ctx, x.key("own"), test.own)
			}
			before := x.db.HGetAll(x.ctx, x.key("own")).Val()
			last, err := x.store.Save(x.ctx, x.fence, "r", c, nil)
			after := x.db.HGetAll(x.ctx, x.key("own")).Val()
			if test.want == nil {
				if err != nil {
					x.Errorf("%s, %s: %v", name, kind, err)
					continue
				}
				x.want("r", c)
				continue
			}
			if !errors.Is(err, test.want) || store.IsFenced(err) != store.IsFenced(test.want) || store.IsForgotten(err) != store.IsForgotten(test.want) || last != nil {
				x.Errorf("%s, %s: %v, %v", name, kind, last, err)
			}
			if !maps.Equal(before, after) {
				x.Errorf("%s, %s: the claim was %v and is %v", name, kind, before, after)
			}
			if keys := x.db.Keys(x.ctx, x.key("*")).Val(); len(keys) > 1 {
				x.Errorf("%s, %s: something is written: %q", name, kind, keys)
			}
		}
	}
}

func testStoreFencedScript(x *storeTest) {
	script := store.FencedScript(`return redis.call('APPEND', KEYS[5], ARGV[6])`)
	fence := func(epoch uint64, owner string) store.Fence {
		return store.Fence{Partition: 7, Epoch: epoch, Owner: owner, Chain: &store.Chain{}}
	}
	run := func(f store.Fence) error {
		return f.Run(x.ctx, x.db, x.prefix, script, []string{x.key("text")}, "x").Err()
	}
	x.db.Del(x.ctx, x.key("own"))
	a := fence(5, "a")
	if err := run(a); !store.IsForgotten(err) {
		x.Errorf("a claim that Redis has forgotten: %v", err)
	}
	if err := a.Retake(x.ctx, x.db, x.prefix, script, []string{x.key("text")}, "x").Err(); err != nil {
		x.Error(err)
	}
	if err := run(fence(5, "b")); !store.IsFenced(err) {
		x.Errorf("another owner: %v", err)
	}
	forgotten := x.db.HGetAll(x.ctx, x.key("own")).Val()
	if err := run(a); err != nil {
		x.Error(err)
	}
	x.db.HSet(x.ctx, x.key("own"), forgotten)
	if err := run(a); !store.IsForgotten(err) {
		x.Errorf("a link that Redis has forgotten: %v", err)
	}
	if err := a.Retake(x.ctx, x.db, x.prefix, script, []string{x.key("text")}, "x").Err(); err != nil {
		x.Error(err)
	}
	a.Chain.Read("5-1")
	if err := run(a); !store.IsForgotten(err) {
		x.Errorf("an entry of the log that Redis has forgotten: %v", err)
	}
	x.db.XAdd(x.ctx, &redis.XAddArgs{Stream: x.key("log"), ID: "5-1", Values: []string{"p", "", "b", ""}})
	if err := run(a); err != nil {
		x.Errorf("an entry that is in the log: %v", err)
	}
	x.db.Del(x.ctx, x.key("log"))
	x.db.HSet(x.ctx, x.key("base"), "position", "5-1")
	if err := run(a); err != nil {
		x.Errorf("an entry that was trimmed: %v", err)
	}
	b := fence(6, "b")
	if err := b.Retake(x.ctx, x.db, x.prefix, script, []string{x.key("text")}, "x").Err(); err != nil {
		x.Error(err)
	}
	if err := run(a); !store.IsFenced(err) {
		x.Errorf("an older epoch: %v", err)
	}
	if got := x.db.Get(x.ctx, x.key("text")).Val(); got != "xxxxxx" {
		x.Errorf("the script ran %d times, want 6", len(got))
	}
}
