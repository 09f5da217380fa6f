package chart

import (
	"math"
	"testing"
)

// TestReconnects checks the model by hand, and what the chart relies on.
func TestReconnects(t *testing.T) {
	// Three pods one after the other: a third moves to two pods, then half of
	// all, then three quarters.
	by := 1.0/3 + 1.0/2 + 3.0/4
	if got := play(3, inPlace(3)); math.Abs(got.reconnects-by) > 1e-9 || got.least != 0 || math.Abs(got.most-3*5.0/8) > 1e-9 {
		t.Errorf("a StatefulSet of three: %+v, want %f reconnects, an empty pod, and one with 5/8 of all", got, by)
	}
	for _, n := range []int{1, 2, 3, 5, 10, 100} {
		got := play(n, surge(n, preStop))
		if math.Abs(got.reconnects-1) > 1e-9 || math.Abs(got.most-1) > 1e-9 || math.Abs(got.least-1) > 1e-9 {
			t.Errorf("surge 100 %% with %d pods that are ready within preStop: %+v, want one reconnect and an even spread", n, got)
		}
		if n > 1 && play(n, surge(n, 60)).reconnects <= 1 {
			t.Errorf("%d pods that are ready one after the other cannot move their clients once", n)
		}
	}
	for _, n := range []int{3, 5, 10} {
		if play(n, inPlace(n)).reconnects < 1.5 || play(n, surgeByOne(n)).reconnects < 1.25 {
			t.Errorf("%d pods: one at a time is not worse, so why surge?", n)
		}
	}
	t.Logf("\n%s", table())
}
