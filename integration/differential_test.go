package integration

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "play this one random sequence only (0: all of them)")
	sequencesFlag = flag.Int("sequences", 240, "how many random sequences to play")
	stepsFlag     = flag.Int("steps", 60, "how many steps a random sequence has")
	subjectFlag   = flag.String("subject", "weft", "what the published server is held against: weft, or published to check the tests")
)

// TestDifferential plays random sequences on the published server and on Weft, each sequence in a
// room of its own, and compares every frame that every client gets. After two thirds of every
// sequence both servers are stopped, their data files compared, and both are started again.
func TestDifferential(t *testing.T) {
	var seeds []uint64
	for i := range *sequencesFlag {
		seeds = append(seeds, uint64(i+1))
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	d := &duel{t: t, dirs: [2]string{t.TempDir(), t.TempDir()}}
	d.start()

	plays := make([]*play, len(seeds))
	sequences := make([][]step, len(seeds))
	failed := make([]bool, len(seeds))
	for i, seed := range seeds {
		plays[i] = newPlay(fmt.Sprintf("seed-%d", seed), d.servers[0], d.servers[1])
		sequences[i] = generate(seed, *stepsFlag)
	}
	t.Cleanup(func() {
		for _, p := range plays {
			p.drop()
		}
	})
	pause := *stepsFlag * 2 / 3
	var failures atomic.Int32
	stage := func(from, to int) {
		inParallel(len(plays), func(i int) {
			if failed[i] || failures.Load() >= 3 {
				return
			}
			diff := plays[i].run(sequences[i], from, to)
			if diff == nil {
				return
			}
			failed[i] = true
			if failures.Add(1) > 3 {
				return
			}
			t.Errorf("sequence of -seed %d, %v\n\n%s", seeds[i], diff, d.shrink(sequences[i], diff, from))
		})
	}

	stage(0, pause)
	if t.Failed() {
		return
	}
	d.stop()
	d.compareFiles(seeds)

	d.start()
	for i, p := range plays {
		p.restart(d.servers[0], d.servers[1])
		// Everybody is new after the restart, so the watcher has to come first again.
		second := append([]step{sequences[i][0]}, sequences[i][pause:]...)
		// And at the end one who was never there asks for everything.
		second = append(second,
			step{Kind: stepLeave, Slot: 1},
			step{Kind: stepJoin, Slot: 1, Client: "last", Write: false, Path: "/", Frames: []string{
				`{"type":"reconnect","protocolVersion":2,"lastTimestamp":-1}`,
			}})
		sequences[i] = append(sequences[i][:pause:pause], second...)
	}
	stage(pause, *stepsFlag+3)
	d.stop()
	d.compareFiles(seeds)
}

// duel is a pair of servers, each over its own data.
type duel struct {
	t       *testing.T
	dirs    [2]string
	servers [2]*server

	shrinkOnce sync.Once
	rooms      atomic.Int32
}

func (d *duel) start() {
	d.servers[0] = startPublished(d.t, d.dirs[0])
	switch *subjectFlag {
	case "weft":
		d.servers[1] = startWeft(d.t, d.dirs[1])
	case "published":
		d.servers[1] = startPublished(d.t, d.dirs[1])
	default:
		d.t.Fatalf("-subject is weft or published, not %q", *subjectFlag)
	}
}

func (d *duel) stop() {
	for _, s := range d.servers {
		s.stop(d.t)
		if code := s.exitCode(d.t); code != 0 {
			d.t.Errorf("%s ended with %d", s.name, code)
		}
	}
}

// compareFiles holds the rooms' data files against each other. A room that was never written may
// have a file or none.
func (d *duel) compareFiles(seeds []uint64) {
	for _, seed := range seeds {
		var snapshots [2]any
		for i, dir := range d.dirs {
			text := roomFile(d.t, dir, fmt.Sprintf("seed-%d", seed))
			if text == nil {
				text = []byte(`{"timestamp":0,"state":{},"timestamps":{}}`)
			}
			v, err := parseJS(text)
			if err != nil {
				d.t.Errorf("sequence of -seed %d: the file in %s is unreadable: %v\n%s", seed, dir, err, text)
				return
			}
			snapshots[i] = v
		}
		if !sameJS(snapshots[0], snapshots[1]) {
			d.t.Errorf("sequence of -seed %d: the data files differ\n%s: %s\n%s: %s", seed,
				d.servers[0].name, compact(snapshots[0]), d.servers[1].name, compact(snapshots[1]))
			return
		}
	}
}

// shrink drops steps while the rest, played in a fresh room, still ends in a difference. Only the
// first failure is worth it, and only one from before the restart can be had again in a fresh room.
func (d *duel) shrink(steps []step, found *difference, from int) (report string) {
	report = "(not cut down)"
	if from > 0 {
		return report
	}
	d.shrinkOnce.Do(func() {
		kept := append([]step(nil), steps[:found.at+1]...)
		fails := func(steps []step) *difference {
			p := newPlay(fmt.Sprintf("shrink-%d", d.rooms.Add(1)), d.servers[0], d.servers[1])
			defer p.drop()
			return p.run(steps, 0, len(steps))
		}
		last := found
		for size := max(len(kept)/4, 1); size > 0; size /= 2 {
			for at := len(kept) - 1 - size; at >= 1; at -= size {
				if at >= len(kept)-1 || d.rooms.Load() > 300 {
					continue
				}
				fewer := append(append([]step(nil), kept[:at]...), kept[min(at+size, len(kept)):]...)
				if diff := fails(fewer); diff != nil {
					kept, last = fewer[:diff.at+1], diff
				}
			}
		}
		var b strings.Builder
		b.WriteString("cut down to:\n")
		for _, s := range kept {
			fmt.Fprintf(&b, "  %v\n", s)
		}
		fmt.Fprintf(&b, "which ends in %v", last)
		report = b.String()
	})
	return report
}

// inParallel runs do(0) … do(n-1), a bounded number of them at a time.
func inParallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, 12) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	wg.Wait()
}
