package docker

import (
	"errors"
	"maps"
	"strings"

	"github.com/weftsync/weft/store"
)

func testStoreFence(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, `"`+strings.Repeat("long ", 20)+`"`)
	large := s.checkpoint()
	for name, test := range map[string]struct {
		own     map[string]any // in Redis; epoch and owner of the writer are 1<<52+1 and n.1
		refused bool
	}{
		"no claim":                  {nil, false},
		"mine":                      {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.1", "released": 0}, false},
		"mine, not said released":   {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.1"}, false},
		"mine, released":            {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.1", "released": 1}, true},
		"same epoch, other owner":   {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.2", "released": 0}, true},
		"higher epoch":              {map[string]any{"epoch": uint64(1<<52 + 2), "owner": "n.2", "released": 0}, true},
		"higher epoch, my name":     {map[string]any{"epoch": uint64(1<<52 + 2), "owner": "n.1", "released": 0}, true},
		"higher epoch, released":    {map[string]any{"epoch": uint64(1<<52 + 2), "owner": "n.2", "released": 1}, true},
		"lower epoch":               {map[string]any{"epoch": uint64(1 << 52), "owner": "n.2", "released": 0}, false},
		"lower epoch, released":     {map[string]any{"epoch": uint64(1 << 52), "owner": "n.1", "released": 1}, false},
		"fewer digits":              {map[string]any{"epoch": 9, "owner": "n.2", "released": 0}, false},
		"an epoch that is not one":  {map[string]any{"epoch": "?", "owner": "n.2", "released": 0}, false},
		"other fields, but no more": {map[string]any{"cut": "1-1"}, false},
	} {
		for kind, c := range map[string]*store.Checkpoint{"small": {Applied: "5-5"}, "large": large} {
			x.fence.Partition++
			x.fence.Epoch, x.fence.Owner = 1<<52+1, "n.1"
			if test.own != nil {
				x.db.HSet(x.ctx, x.key("own"), test.own)
			}
			before := x.db.HGetAll(x.ctx, x.key("own")).Val()
			last, err := x.store.Save(x.ctx, x.fence, "r", c, nil)
			after := x.db.HGetAll(x.ctx, x.key("own")).Val()
			if !test.refused {
				if err != nil {
					x.Errorf("%s, %s: %v", name, kind, err)
					continue
				}
				x.want("r", c)
				if before["epoch"] != after["epoch"] {
					want := map[string]string{"epoch": "4503599627370497", "owner": "n.1", "released": "0"}
					if cut, ok := before["cut"]; ok {
						want["cut"] = cut
					}
					if !maps.Equal(after, want) {
						x.Errorf("%s, %s: Redis has %v, want %v", name, kind, after, want)
					}
				}
				continue
			}
			if !errors.Is(err, store.ErrFenced) || !store.IsFenced(err) || last != nil {
				x.Errorf("%s, %s: %v, %v", name, kind, last, err)
			}
			if !maps.Equal(before, after) {
				x.Errorf("%s, %s: the claim was %v and is %v", name, kind, before, after)
			}
			if keys := x.db.Keys(x.ctx, x.key("*")).Val(); len(keys) != 1 {
				x.Errorf("%s, %s: something is written: %q", name, kind, keys)
			}
		}
	}
}

func testStoreFencedScript(x *storeTest) {
	script := store.FencedScript(`return redis.call('APPEND', KEYS[2], ARGV[3])`)
	run := func(epoch int, owner string) error {
		return script.Run(x.ctx, x.db, []string{store.OwnKey(x.prefix, 7), x.key("text")}, epoch, owner, "x").Err()
	}
	if err := run(5, "a"); err != nil {
		x.Error(err)
	}
	if err := run(5, "b"); !store.IsFenced(err) {
		x.Errorf("another owner: %v", err)
	}
	if err := run(6, "b"); err != nil {
		x.Error(err)
	}
	if err := run(5, "a"); !store.IsFenced(err) {
		x.Errorf("an older epoch: %v", err)
	}
	if got := x.db.Get(x.ctx, x.key("text")).Val(); got != "xx" {
		x.Errorf("the script ran %d times, want 2", len(got))
	}
}
