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
// sequence both servers are stopped, what they have saved is compared, and both are started again.
//
// If Weft is three nodes, the clients of a room are spread over them, and their frames are the same
// still: a frame with document and presence stays one, and everybody hears of everything in one order.
func TestDifferential(t *testing.T) {
	var seeds []uint64
	for i := range *sequencesFlag {
		seeds = append(seeds, uint64(i+1))
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	d := &duel{t: t, data: [2]string{t.TempDir(), newData(t)}}
	if *subjectFlag == "published" {
		d.data[1] = t.TempDir()
	}
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
	d.stop(seeds)

	d.start()
	for i, p := range plays {
		p.restart(d.servers[0], d.servers[1])
		// Everybody is new after the restart, so the watcher has to come first again.
		second := append([]step{sequences[i][0]}, sequences[i][pause:]...)
		// And at the end some who were never there ask for everything, one at each of three nodes.
		for slot := 1; slot <= 3; slot++ {
			second = append(second,
				step{Kind: stepLeave, Slot: slot},
				step{Kind: stepJoin, Slot: slot, Client: "last", Write: false, Path: "/", Frames: []string{
					`{"type":"reconnect","protocolVersion":2,"lastTimestamp":-1}`,
				}})
		}
		sequences[i] = append(sequences[i][:pause:pause], second...)
	}
	stage(pause, len(sequences[0]))
	d.stop(seeds)
}

// duel is a pair of servers, each over its own data.
type duel struct {
	t       *testing.T
	data    [2]string
	servers [2]*nodes

	shrinkOnce sync.Once
	rooms      atomic.Int32
}

func (d *duel) start() {
	published := func(dir string) *nodes { return &nodes{all: []*server{startPublished(d.t, dir)}, data: dir} }
	d.servers[0] = published(d.data[0])
	switch *subjectFlag {
	case "weft":
		d.servers[1] = startNodes(d.t, d.data[1])
	case "published":
		d.servers[1] = published(d.data[1])
	default:
		d.t.Fatalf("-subject is weft or published, not %q", *subjectFlag)
	}
}

// stop ends both servers and compares what they have saved. A room that was never written may be saved
// or not.
func (d *duel) stop(seeds []uint64) {
	d.servers[0].stop(d.t)
	if sharedRedis != "" && *subjectFlag == "weft" {
		for i, s := range d.servers[1].all {
			if s.metric(d.t, "weft_cluster_emitted_total") == 0 {
				d.t.Errorf("node %d has told the others nothing: the rooms were not shared", i+1)
			}
		}
	}
	d.servers[1].stop(d.t)
	d.compareSaved(seeds)
}

// compareSaved compares what is saved of the rooms. Nodes leave to others what is not saved yet, for it is
// in the log; the last one saves everything.
func (d *duel) compareSaved(seeds []uint64) {
	for _, seed := range seeds {
		room := fmt.Sprintf("seed-%d", seed)
		if a, b := d.saved(0, room), d.saved(1, room); !sameJS(a, b) {
			d.t.Errorf("sequence of -seed %d: what is saved differs\n%s: %s\n%s: %s", seed,
				d.servers[0].name(), compact(a), d.servers[1].name(), compact(b))
			return
		}
	}
}

func (d *duel) saved(i int, room string) any {
	text := d.servers[i].saved(d.t, room)
	if text == nil {
		text = []byte(`{"timestamp":0,"state":{},"timestamps":{}}`)
	}
	v, err := parseJS(text)
	if err != nil {
		d.t.Fatalf("%s has saved the unreadable: %v\n%s", room, err, text)
	}
	return v
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
