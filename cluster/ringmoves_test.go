package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

const (
	surgeRestart   = "new names, three more at once, then three fewer"
	inPlaceRestart = "same names, one fewer, then one more, three times"
)

// A rolling restart is a sequence of sets of nodes. These are those of three
// nodes, for names that do and do not stay.
func rollingRestarts(r *rand.Rand) map[string][][]string {
	pods := func(n int) (names []string) { // as a Deployment calls them
		for range n {
			names = append(names, fmt.Sprintf("weft-7d4b9c6f58-%05x", r.Uint32()))
		}
		return names
	}
	old, next, stays := pods(3), pods(3), nodeNames(3)
	without := func(list []string, n int) []string { return slices.Delete(slices.Clone(list), n, n+1) }
	return map[string][][]string{
		surgeRestart: {old, slices.Concat(old, next), next},
		"new names, three more one by one, three fewer one by one": {old, slices.Concat(old, next[:1]), slices.Concat(old, next[:2]), slices.Concat(old, next), slices.Concat(old[1:], next), slices.Concat(old[2:], next), next},
		"new names, one more, then one fewer, three times":         {old, slices.Concat(old, next[:1]), slices.Concat(old[1:], next[:1]), slices.Concat(old[1:], next[:2]), slices.Concat(old[2:], next[:2]), slices.Concat(old[2:], next), next},
		inPlaceRestart: {stays, without(stays, 2), stays, without(stays, 1), stays, without(stays, 0), stays},
	}
}

// How many of the partitions move in a rolling restart of three nodes:
// the chart's README has these figures. `go test -run RingMovesInARollingRestart -v`
// shows them.
func TestRingMovesInARollingRestart(t *testing.T) {
	const restarts = 50
	r := rand.New(rand.NewPCG(1, 2))
	steps, sums := map[string][]int{}, map[string]int{}
	for range restarts {
		for name, sets := range rollingRestarts(r) {
			before := newRing(sets[0])
			if steps[name] == nil {
				steps[name] = make([]int, len(sets)-1)
			}
			for n, set := range sets[1:] {
				after := newRing(set)
				for p := range partitions {
					if before.owner(p) != after.owner(p) {
						steps[name][n]++
						sums[name]++
					}
				}
				before = after
			}
		}
	}
	if surge, inPlace := sums[surgeRestart], sums[inPlaceRestart]; 3*surge > 2*inPlace {
		t.Errorf("with new names and twice the nodes %d partitions move, in place %d: the layout of the chart rests on less than two thirds", surge/restarts, inPlace/restarts)
	}
	for name, list := range steps {
		text := ""
		for _, n := range list {
			text += fmt.Sprintf(" %d", (n+restarts/2)/restarts)
		}
		t.Logf("%-64s %4.2f moves of a partition; of %d move:%s", name, float64(sums[name])/restarts/partitions, partitions, text)
	}
}
