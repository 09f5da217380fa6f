package load

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// maxJoins is how many fresh joins may be under way at once. A join that would be one more is
// counted as skipped: the server is then further behind than any join time could tell.
const maxJoins = 4

// joins sends somebody new into the rooms, in turn, every JoinInterval between p.start and p.end.
// It returns when the last of them has been answered, has timed out, or ctx is done.
func joins(ctx context.Context, cfg *Config, rec *recorder, rx *receivers, p plan) {
	var wait sync.WaitGroup
	defer wait.Wait()
	under := make(chan struct{}, maxJoins)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		at := p.start + int64(i)*int64(cfg.JoinInterval)
		if at >= p.end {
			return
		}
		timer.Reset(time.Duration(at - rec.now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		select {
		case under <- struct{}{}:
		default:
			rec.fail("join skipped")
			continue
		}
		wait.Go(func() {
			defer func() { <-under }()
			join(ctx, cfg, rec, rx, roomID(cfg, i%cfg.Rooms), i, rec.inWindow(at))
		})
	}
}

// join measures one fresh join, from the dial until everything up to `synced` has been received.
func join(ctx context.Context, cfg *Config, rec *recorder, rx *receivers, room string, i int, measured bool) {
	ctx, cancel := context.WithTimeout(ctx, cfg.JoinTimeout)
	defer cancel()
	id := room + "-join" + strconv.Itoa(i)
	began := time.Now()
	c, err := dial(ctx, cfg, rec, rx, room, id, hello(cfg, id, false), false, nil)
	if err != nil {
		rec.fail("join: " + reason(err))
		return
	}
	defer c.close()
	if err := c.sync(ctx); err != nil {
		rec.fail("join: " + err.Error())
		return
	}
	if measured {
		rec.join.record(int64(time.Since(began)))
	}
}
