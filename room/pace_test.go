package room

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// drain closes n sockets and returns when each was closed.
func drain(t *testing.T, within time.Duration, rate, n int, each func(i int)) []time.Duration {
	t.Helper()
	ctx := t.Context()
	if within > 0 {
		limited, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		ctx = limited
	}
	var at []time.Duration
	began := time.Now()
	closed, err := CloseAtPace(ctx, rate, n, func(i int) {
		if i != len(at) {
			t.Fatalf("socket %d is closed after %d others", i, len(at))
		}
		at = append(at, time.Since(began))
		if each != nil {
			each(i)
		}
	})
	if err != nil || closed != n || len(at) != n {
		t.Fatalf("closed %d of %d: %v", closed, n, err)
	}
	return at
}

// most is the largest number of sockets that were closed within a span.
func most(at []time.Duration, span time.Duration) int {
	most, first := 0, 0
	for i := range at {
		for at[i]-at[first] >= span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func TestCloseAtPace(t *testing.T) {
	for name, c := range map[string]struct {
		within  time.Duration
		rate, n int
		takes   time.Duration // until the last is closed
		perStep int           // at most in 10 ms
	}{
		"at the rate":              {45 * time.Second, 1000, 20_000, 20 * time.Second, 11},
		"without a deadline":       {0, 1000, 2000, 2 * time.Second, 11},
		"faster, for the deadline": {45 * time.Second, 1000, 100_000, 36 * time.Second, 29},
		"by the deadline alone":    {10 * time.Second, 0, 800, 8 * time.Second, 2},
		"slowly":                   {0, 2, 11, 5 * time.Second, 1},
		"all at once":              {0, 0, 500, 0, 500},
		"one":                      {0, 1, 1, 0, 1},
		"none":                     {time.Second, 1, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				at := drain(t, c.within, c.rate, c.n, nil)
				if took := time.Since(began); took < c.takes-20*time.Millisecond || took > c.takes+20*time.Millisecond {
					t.Errorf("took %v, want %v", took, c.takes)
				}
				if got := most(at, paceStep); got > c.perStep {
					t.Errorf("%d were closed within 10 ms, want at most %d", got, c.perStep)
				}
			})
		})
	}
}

// A drain that was held up goes faster, not all at once, and ends in time.
func TestCloseAtPaceHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		at := drain(t, 0, 1000, 4000, func(i int) {
			if i == 1000 {
				time.Sleep(time.Second)
			}
		})
		if took := time.Since(began); took > 4100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if got := most(at, 100*time.Millisecond); got > 510 {
			t.Errorf("%d were closed within 100 ms", got)
		}
		if got := most(at[2500:], 100*time.Millisecond); got > 110 {
			t.Errorf("%d were closed within 100 ms when it had caught up", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		drain(t, 10*time.Second, 1000, 10_000, func(i int) {
			if i == 1000 {
				time.Sleep(6 * time.Second)
			}
		})
	})
}

func TestCloseAtPaceCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		closed, err := CloseAtPace(ctx, 10, 100, func(i int) {
			if i == 4 {
				cancel()
			}
		})
		if closed != 5 || !errors.Is(err, context.Canceled) || time.Since(began) > 500*time.Millisecond {
			t.Errorf("closed %d after %v: %v", closed, time.Since(began), err)
		}
		if closed, err := CloseAtPace(ctx, 10, 3, func(int) { t.Error("closed one more") }); closed != 0 || err == nil {
			t.Errorf("closed %d: %v", closed, err)
		}
	})
}
