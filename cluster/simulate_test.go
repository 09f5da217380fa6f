package cluster

import (
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seeds    = flag.Int("seeds", 0, "how many worlds TestSimulation lives through; 0: 10 000, under the race detector 300")
	oneSeed  = flag.Uint64("seed", 0, "live through this one only, and tell its story")
	simSteps = 400
)

// TestSimulation lives through many worlds, each with its own accidents, and
// wants the invariants to hold in all of them: nothing acknowledged is lost,
// nothing is applied twice, everybody sees everything in order, and who replays
// the log ends where the owner stood.
func TestSimulation(t *testing.T) {
	if *oneSeed != 0 {
		w := newWorld(*oneSeed, guards{})
		err := w.run(simSteps)
		t.Logf("%s", w.story())
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	n := *seeds
	if n == 0 {
		n = defaultSeeds
	}
	if seed, err := firstFailure(n, guards{}); err != nil {
		t.Fatalf("seed %d: %v\nlive through it again: go test -run TestSimulation ./cluster -seed %d -v", seed, err, seed)
	}
}

// firstFailure lives through worlds until one fails, two at a time.
func firstFailure(n int, g guards) (seed uint64, err error) {
	var next atomic.Uint64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for s := next.Add(1); s <= uint64(n); s = next.Add(1) {
				if e := live(s, g); e != nil {
					mu.Lock()
					if err == nil || s < seed {
						seed, err = s, e
					}
					mu.Unlock()
					next.Store(uint64(n))
				}
			}
		})
	}
	all.Wait()
	return seed, err
}

func live(seed uint64, g guards) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return newWorld(seed, g).run(simSteps)
}

// TestEveryGuardIsNeeded takes the guards away, one at a time: without it some
// world must come to harm, or the guard guards nothing.
func TestEveryGuardIsNeeded(t *testing.T) {
	for name, g := range map[string]guards{
		"batch numbers": {noBatchCheck: true},
		"epochs":        {noEpochCheck: true},
		"contiguity":    {noContiguityCheck: true},
		"trim bound":    {noTrimBound: true},
		"chain":         {noChain: true},
		"adoption":      {noAdoption: true},
	} {
		t.Run(name, func(t *testing.T) {
			seed, err := firstFailure(2000, g)
			if err == nil {
				t.Fatal("nobody misses it")
			}
			t.Logf("seed %d: %v", seed, err)
		})
	}
}
