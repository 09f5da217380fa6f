package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/buraksezer/consistent"
)

func nodeNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("weft-%d", i)
	}
	return names
}

func TestRingPartitionsAreTheLibrarys(t *testing.T) {
	c := consistent.New(nil, ringConfig(ringLoad))
	for i := range 2000 {
		room := fmt.Sprintf("room/%d", i)
		if got, want := partitionOf(room), c.FindPartitionID([]byte(room)); got != want {
			t.Fatalf("partitionOf(%q) = %d, the library says %d", room, got, want)
		}
	}
}

// The same members must give the same ring on every node, with every build:
// these owners may only change together with ringParameters.
func TestRingIsTheSameEverywhere(t *testing.T) {
	names := nodeNames(7)
	want := newRing(names)
	for range 20 {
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		if newRing(append(names, names[0])).owners != want.owners {
			t.Fatalf("the members in the order %v give another ring", names)
		}
	}
	three := newRing(nodeNames(3))
	var got []string
	for p := range 12 {
		got = append(got, strings.TrimPrefix(three.owner(p), "weft-"))
	}
	if s := strings.Join(got, ""); s != "210000110002" {
		t.Errorf("the owners of partitions 0 to 11 among three nodes are %s, were 210000110002", s)
	}
}

func TestRingSpreads(t *testing.T) {
	for n := 1; n <= 50; n++ {
		names := nodeNames(n)
		r := newRing(names)
		most := int(math.Ceil(partitions * ringLoad / float64(n)))
		total := 0
		for _, name := range names {
			ps := r.of(name)
			total += len(ps)
			if len(ps) > most {
				t.Errorf("%d nodes: %s owns %d, more than %d", n, name, len(ps), most)
			}
			if !slices.IsSorted(ps) {
				t.Errorf("%d nodes: the partitions of %s are not ascending: %v", n, name, ps)
			}
			for _, p := range ps {
				if r.owner(p) != name {
					t.Errorf("%d nodes: of(%s) has %d, which %s owns", n, name, p, r.owner(p))
				}
			}
		}
		if total != partitions {
			t.Errorf("%d nodes own %d partitions", n, total)
		}
	}
}

func TestRingMovesLittle(t *testing.T) {
	three, four := newRing(nodeNames(3)), newRing(nodeNames(4))
	moved, between := 0, 0
	for p := range partitions {
		was, is := three.owner(p), four.owner(p)
		if was != is {
			moved++
			if is != "weft-3" {
				between++
			}
		}
	}
	t.Logf("from 3 to 4 nodes %d of %d partitions move, %d of them between nodes that stay", moved, partitions, between)
	if share := float64(moved) / partitions; share < 0.18 || share > 0.32 {
		t.Errorf("%.0f %% move, want about a quarter", 100*share)
	}
	if between > partitions/20 {
		t.Errorf("%d partitions move between nodes that stay", between)
	}
	if newRing(nodeNames(3)).owners != three.owners {
		t.Error("back to three nodes the ring is not what it was")
	}
}

func TestRingWithoutMembers(t *testing.T) {
	for _, r := range []*ring{newRing(nil), newRing([]string{})} {
		for _, p := range []int{-1, 0, partitions - 1, partitions} {
			if o := r.owner(p); o != "" {
				t.Errorf("owner(%d) = %q", p, o)
			}
		}
		if ps := r.of(""); ps != nil {
			t.Errorf(`of("") = %v`, ps)
		}
	}
	r := newRing([]string{"a"})
	if r.owner(-1) != "" || r.owner(partitions) != "" || len(r.of("a")) != partitions || r.of("b") != nil {
		t.Error("a ring of one must own all partitions, and no others")
	}
}

// The library panics if there is not room for all partitions.
func TestRingSurvivesTheLibrary(t *testing.T) {
	if _, err := distribute(nodeNames(3), 0.5); err == nil || !strings.Contains(err.Error(), "not enough room") {
		t.Errorf("half the load gives %v", err)
	}
}

func TestRingParameters(t *testing.T) {
	p := ringParameters()
	for name, want := range map[string]string{
		"partitions": "271", "replication": "100", "load": "1.25",
		"hash": "xxhash64", "ring": "buraksezer/consistent v1.0.0", "schema": "1",
	} {
		if p[name] != want {
			t.Errorf("%s is %q, want %q", name, p[name], want)
		}
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/"+ringLibrary) {
		t.Errorf("go.mod has another version than %s: a cluster must not mix them", ringLibrary)
	}
}

func BenchmarkRing(b *testing.B) {
	names := nodeNames(10)
	for b.Loop() {
		newRing(names)
	}
}
