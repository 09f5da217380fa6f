package cluster

import (
	"testing"
	"time"
)

func TestSaveBudget(t *testing.T) {
	const bound = 32 << 20
	for name, c := range map[string]struct {
		cost, log int
		age       time.Duration
		want      bool
	}{
		"a small room, edited much":       {cost: 4000, log: 1000, want: true},
		"a large one, edited everywhere":  {cost: 40 << 20, log: 170 << 10, age: 15 * time.Second},
		"the same, when the log is long":  {cost: 400 << 20, log: 8 << 20, want: true},
		"an edit of a small room":         {cost: 1000, log: 150},
		"the same a second later":         {cost: 1000, log: 150, age: time.Second, want: true},
		"a page of a large value":         {cost: 120 << 20, log: 150, age: time.Hour},
		"nothing but entries without use": {cost: 0, log: 150, want: true},
	} {
		if got := c.cost <= saveBudget(c.log, c.age, bound); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSaveBackoff(t *testing.T) {
	for _, interval := range []time.Duration{50 * time.Millisecond, 2 * time.Second, time.Hour} {
		before := interval
		for failures := range 100 {
			got := saveBackoff(interval, failures)
			if got < before || got > max(interval, longestSaveBackoff) {
				t.Errorf("%v after %d failures, with %v between saves and %v before", got, failures, interval, before)
			}
			before = got
		}
		if before != max(interval, longestSaveBackoff) {
			t.Errorf("%v after many failures", before)
		}
	}
}
