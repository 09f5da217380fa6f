package main

import (
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	const ms = time.Millisecond
	var s spread
	if s.percentile(50) != 0 || s.max() != 0 || s.count() != 0 {
		t.Error("an empty spread has values")
	}
	s.add(nil) // a round that measured nothing does not count as one
	s.add([]time.Duration{3 * ms, 1 * ms, 2 * ms})
	s.add([]time.Duration{9 * ms})
	s.add([]time.Duration{5 * ms, 4 * ms, 6 * ms})
	for p, want := range map[float64]time.Duration{0: 4 * ms, 50: 5 * ms, 99: 6 * ms} {
		if got := s.percentile(p); got != want {
			t.Errorf("the rounds' median of p%v is %v, want %v", p, got, want)
		}
	}
	if s.max() != 9*ms || s.count() != 7 {
		t.Errorf("max %v of %d values, want 9ms of 7", s.max(), s.count())
	}
	s.pool()
	if got := s.percentile(50); got != 4*ms || s.count() != 7 {
		t.Errorf("p50 of all %d is %v, want 4ms of 7", s.count(), got)
	}
}

func TestTableSaysWhatIsMissed(t *testing.T) {
	const ms = time.Millisecond
	var table table
	var s spread
	s.add([]time.Duration{1 * ms, 1 * ms, 20 * ms})
	table.times("both met", s, 2*ms, 30*ms, "here")
	table.times("p99 missed", s, 2*ms, 3*ms, "here")
	table.times("p50 missed", s, ms/2, 30*ms, "here")
	table.times("nothing measured", nil, 2*ms, 0, "here")
	table.value("a number", "7 µs", "≤ 9 µs", within(7, 9), "there")
	table.note("and so on")
	var b strings.Builder
	table.write(&b, options{rounds: 3}, "7", "0.1")
	for _, want := range []string{
		"| both met | 1.00 ms | 20.00 ms | 20.00 ms | p50 ≤ 2ms, p99 ≤ 30ms | yes | here; 3 values |",
		"| p99 missed | 1.00 ms | 20.00 ms | 20.00 ms | p50 ≤ 2ms, p99 ≤ 3ms | **no** |",
		"| p50 missed | 1.00 ms | 20.00 ms | 20.00 ms | p50 ≤ 500µs, p99 ≤ 30ms | **no** |",
		"| nothing measured | – | – | – | p50 ≤ 2ms | **no** |",
		"| a number | 7 µs | |  | ≤ 9 µs | yes | there |",
		"\n- and so on",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &b)
		}
	}
}

func TestCommandsSince(t *testing.T) {
	before := redisUse{commands: map[string]string{"cmdstat_xread": "calls=10,usec=100,usec_per_call=10.00"}}
	after := redisUse{commands: map[string]string{
		"cmdstat_xread": "calls=30,usec=300,usec_per_call=10.00",
		"cmdstat_xadd":  "calls=5,usec=35,usec_per_call=7.00",
		"cmdstat_ping":  "calls=1,usec=0,usec_per_call=0.00",
	}}
	if got, want := after.commandsSince(before, 10), "xadd 0.50 × in 3.5 µs, xread 2.00 × in 20.0 µs"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOptions(t *testing.T) {
	o, err := parse([]string{"--only", "idle,redis", "--rounds", "2", "--duration", "3s"})
	if err != nil || o.only != "idle,redis" || o.rounds != 2 || o.duration != 3*time.Second {
		t.Errorf("options = %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"--only", "dance"}, {"--rounds", "0"}, {"--duration", "1ms"}, {"--idle-rooms", "0"}, {"x"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("parse(%v): no error", bad)
		}
	}
}
