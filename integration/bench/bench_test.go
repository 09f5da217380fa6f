package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/local"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}, {[]float64{100, 1, 2, 3, 4}, 3}} {
		if got := median(tc.in); got != tc.want {
			t.Errorf("median(%v) = %v, want %v", tc.in, got, tc.want)
		}
	}
}

func result(server string, round int, cpu, p99 float64) Result {
	return Result{Work: "document", Server: server, Round: round, Report: Report{
		Seconds: 10, DeliveredShare: 1, Delivery: Latency{Count: 1, P50: 1, P99: p99},
		Server: ServerUse{CPUMicrosPerDelivery: cpu},
	}}
}

func TestTable(t *testing.T) {
	r := Results{Other: "published", Rounds: 3, Seconds: 10}
	for i, cpu := range []float64{8, 9, 8.7} {
		r.Runs = append(r.Runs, result("published", i+1, cpu, 120), result("weft", i+1, cpu/5, 12))
	}
	r.Runs[1].OtherCores = 0.9
	r.Runs[3].Report.Errors = map[string]int64{"closed 1013": 2}
	r.Runs[5] = Result{Work: "document", Server: "weft", Round: 3, Failure: "it fell over"}
	var b strings.Builder
	r.writeMarkdown(&b)
	for _, want := range []string{
		"| 1 room, 50 clients × 30 patches/s | server CPU per delivery | 8.70 µs | 1.70 µs (1 of 3 failed) | 0.20 |",
		"|  | delivery p99 | 120 ms | 12.0 ms (1 of 3 failed) | 0.10 |",
		"- document on weft: failed: it fell over (in 1 runs)",
		"- document on weft: errors: closed 1013 (in 1 runs)",
		"- document on weft: other programs used more than 0.15 cores",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "idle") {
		t.Errorf("table tells of a work that was not done:\n%s", b.String())
	}
	if r.failure() == nil {
		t.Error("a failed run is no failure")
	}
}

func TestRawResultsKeepTheWholeReport(t *testing.T) {
	run := result("weft", 1, 2, 3)
	run.Raw = json.RawMessage(`{"ramp":{"count":50}}`)
	b, err := json.Marshal(Results{Runs: []Result{run}})
	if err != nil || !strings.Contains(string(b), `"ramp":{"count":50}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestOptions(t *testing.T) {
	o, err := parse([]string{"--against", "bin/old"})
	if err != nil || o.against != "bin/old" || o.other() == "published" {
		t.Errorf("options = %+v, %v", o, err)
	}
	o, err = parse([]string{"--only", "idle,large", "--rounds", "2", "--duration", "3s", "--skip-published"})
	if err != nil || o.rounds != 2 || o.duration != 3*time.Second || !o.skipPub || o.only != "idle,large" {
		t.Errorf("options = %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"--only", "dance"}, {"--rounds", "0"}, {"--duration", "1ms"}, {"x"}, {"--skip-weft", "--skip-published"}, {"--against", "x", "--skip-published"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("parse(%v): no error", bad)
		}
	}
}

func TestOwnCPUIsSeen(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	before, machineBefore := local.CPUTime(os.Getpid()), local.BusyTime()
	for end := time.Now().Add(5 * time.Second); local.CPUTime(os.Getpid())-before < 50*time.Millisecond; {
		if time.Now().After(end) {
			t.Fatalf("used %v of CPU in 5 s", local.CPUTime(os.Getpid())-before)
		}
	}
	if local.BusyTime()-machineBefore < 20*time.Millisecond {
		t.Errorf("the machine used %v meanwhile", local.BusyTime()-machineBefore)
	}
}
