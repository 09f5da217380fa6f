package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

type sentPatch struct {
	Type, MessageID  string
	DocumentPatches  []map[string]map[string]json.RawMessage
	EphemeralPatches []map[string]map[string]json.RawMessage
}

func TestPatchesAreValid(t *testing.T) {
	for _, workload := range []Workload{Document, Presence, Pen, Large} {
		cfg := Config{URL: "ws://127.0.0.1/", Workload: workload}.withDefaults()
		w := &writer{client: &client{id: "load-0-c1"}, random: rand.New(rand.NewPCG(1, 2))}
		var m sentPatch
		if err := json.Unmarshal(w.patch(nil, &cfg, 987), &m); err != nil {
			t.Fatalf("%s: %v", workload, err)
		}
		patches := m.DocumentPatches
		if workload == Presence {
			patches = m.EphemeralPatches
		}
		if m.Type != "patch" || m.MessageID != "987" || len(patches) != 1 || len(patches[0]) != 1 {
			t.Errorf("%s: %+v", workload, m)
		}
		for key, fields := range patches[0] {
			if string(fields["sentAt"]) != "987" || !strings.Contains(key, "/") {
				t.Errorf("%s: %s: %v", workload, key, fields)
			}
		}
	}
	for _, workload := range []Workload{Document, Presence} {
		if h := hello(&Config{Workload: workload}, "c", true); !json.Valid([]byte(h)) {
			t.Errorf("hello = %s", h)
		}
	}
}

// TestPenStrokes replays a writer's patches as a server would apply them.
func TestPenStrokes(t *testing.T) {
	cfg := Config{URL: "ws://127.0.0.1/", Workload: Pen, StrokePoints: 10, PointsPerPatch: 4}.withDefaults()
	w := &writer{client: &client{id: "c"}, random: rand.New(rand.NewPCG(1, 2)), points: cfg.StrokePoints}
	lengths := map[string]int{}
	var history []string
	for range 7 {
		var m sentPatch
		if err := json.Unmarshal(w.patch(nil, &cfg, 1), &m); err != nil {
			t.Fatal(err)
		}
		for key, fields := range m.DocumentPatches[0] {
			var whole []float64
			var delta struct {
				Buf  int `json:"__buf"`
				Len  int
				Runs [][2]json.RawMessage
			}
			if json.Unmarshal(fields["points"], &whole) == nil {
				if string(fields["_exists"]) != "true" {
					t.Errorf("a whole array without creation: %s", fields["points"])
				}
				lengths[key] = len(whole)
			} else {
				if err := json.Unmarshal(fields["points"], &delta); err != nil || delta.Buf != 1 || len(delta.Runs) != 1 {
					t.Fatalf("delta %s: %v", fields["points"], err)
				}
				var values []float64
				if err := json.Unmarshal(delta.Runs[0][1], &values); err != nil {
					t.Fatal(err)
				}
				if string(delta.Runs[0][0]) != fmt.Sprint(lengths[key]) || delta.Len != lengths[key]+len(values) {
					t.Errorf("delta %+v does not append to %d numbers", delta, lengths[key])
				}
				lengths[key] = delta.Len
			}
			history = append(history, fmt.Sprintf("%s=%d", key, lengths[key]))
		}
	}
	want := "c-stroke-1/PenStroke=8 c-stroke-1/PenStroke=16 c-stroke-1/PenStroke=20 " +
		"c-stroke-0/PenStroke=8 c-stroke-0/PenStroke=16 c-stroke-0/PenStroke=20 c-stroke-1/PenStroke=8"
	if got := strings.Join(history, " "); got != want {
		t.Errorf("strokes:\n got %s\nwant %s", got, want)
	}
}

func TestSnapshot(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, 100_000); err != nil {
		t.Fatal(err)
	}
	if mb := float64(b.Len()) / 1e6; mb < 34 || mb > 36 {
		t.Errorf("100 000 components make %.1f MB, documented as 35", mb)
	}
	b.Reset()
	const n = 1000
	if err := WriteSnapshot(&b, n); err != nil {
		t.Fatal(err)
	}
	var s struct {
		Timestamp  int
		State      map[string]map[string]any
		Timestamps map[string]map[string]int
	}
	if err := json.Unmarshal(b.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Timestamp != 1 || len(s.State) != n || len(s.Timestamps) != n {
		t.Errorf("timestamp %d, %d components, %d with timestamps", s.Timestamp, len(s.State), len(s.Timestamps))
	}
	key := appendBlockKey(nil, n-1)
	state, timestamps := s.State[string(key)], s.Timestamps[string(key)]
	for field := range state {
		if timestamps[field] != 1 {
			t.Errorf("field %s has no timestamp", field)
		}
	}
	if len(state) == 0 || len(state) != len(timestamps) {
		t.Errorf("%d fields, %d timestamps", len(state), len(timestamps))
	}
	if err := WriteSnapshot(&b, 0); err == nil {
		t.Error("a snapshot of nothing")
	}
}

func TestPlanSpreadsWriters(t *testing.T) {
	p := plan{start: 5e9, interval: 100e6, writers: 10} // 10 writers × 10/s: one every 10 ms
	if p.at(0, 0) != 5e9 || p.at(0, 1) != 5e9+10e6 || p.at(3, 2) != 5e9+320e6 {
		t.Errorf("planned at %d, %d, %d", p.at(0, 0), p.at(0, 1), p.at(3, 2))
	}
	p.writers = 3000
	if a, b := p.at(0, 1), p.at(0, 30); a != 5e9+1e6 || a != b {
		t.Errorf("planned at %d and %d: want both at the first millisecond", a, b)
	}
}

func TestHistogramClampsAndMerges(t *testing.T) {
	r := newRecorder()
	record(r.all[0].delivery, -5)
	record(r.all[0].delivery, int64(time.Hour))
	for range 98 {
		record(r.all[1].delivery, int64(20*time.Millisecond))
	}
	l := latency(r.merged(func(s *scratch) *hdrhistogram.Histogram { return s.delivery }))
	if l.Count != 100 || l.P50 < 19.9 || l.P50 > 20.1 || l.P99 != l.P90 || l.Max < 599_000 || l.Max > 601_000 {
		t.Errorf("latency = %+v", l)
	}
}

func TestProcessFiles(t *testing.T) {
	parent, cpu, err := parseStat([]byte("42 (a ) b (x) S 7 1 1 0 -1 4194560 2 0 0 0 150 25 9 9 20 0 1 0"))
	if err != nil || parent != 7 || cpu != 1750*time.Millisecond {
		t.Errorf("parseStat = %d, %v, %v", parent, cpu, err)
	}
	rss, err := parseRSS([]byte("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n"))
	if err != nil || rss != 1234<<10 {
		t.Errorf("parseRSS = %d, %v", rss, err)
	}
	for _, bad := range []string{"", "42 (x) S", "42 (x) S 7 1 1 0 -1 4194560 2 0 0 0 x 25 9"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q): no error", bad)
		}
	}
	if _, err := parseRSS([]byte("Name:\tzombie\n")); err == nil {
		t.Error("parseRSS of a dead process: no error")
	}
}

func TestDescendants(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	found := false
	for _, pid := range descendants(os.Getppid()) {
		found = found || pid == os.Getpid()
	}
	if !found {
		t.Error("this process is not among the descendants of its parent")
	}
}
