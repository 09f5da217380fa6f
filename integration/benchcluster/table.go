package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/weftsync/weft/integration/local"
)

// table is what was measured.
type table struct {
	rows  []row
	notes []string
}

// row is one figure.
type row struct {
	figure             string
	p50, p99, max, one string // one instead of the three, for what is no distribution
	target             string
	met                verdict
	on                 string
}

// verdict is whether a target is met.
type verdict int

const (
	noTarget verdict = iota
	met
	missed
)

func (v verdict) String() string { return [...]string{"", "yes", "**no**"}[v] }

func within(v, target float64) verdict {
	if v <= target {
		return met
	}
	return missed
}

// spread is a distribution of every round.
type spread [][]time.Duration

// add takes a round's values, in any order.
func (s *spread) add(values []time.Duration) {
	if len(values) > 0 {
		*s = append(*s, slices.Sorted(slices.Values(values)))
	}
}

// pool makes one round of all, for where a round has but a few values.
func (s *spread) pool() {
	all := slices.Concat(*s...)
	*s = nil
	s.add(all)
}

// percentile is the median over the rounds of the value that p of 100 are not above; 0 if there is none.
func (s spread) percentile(p float64) time.Duration {
	var each []time.Duration
	for _, round := range s {
		each = append(each, round[min(len(round)-1, int(p/100*float64(len(round))))])
	}
	return median(each)
}

func (s spread) max() (longest time.Duration) {
	for _, round := range s {
		longest = max(longest, round[len(round)-1])
	}
	return longest
}

func (s spread) count() (n int) {
	for _, round := range s {
		n += len(round)
	}
	return n
}

// median is the one in the middle, the higher of two; the zero value of nothing.
func median[T cmp.Ordered](values []T) (m T) {
	if len(values) == 0 {
		return m
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

// times adds a distribution; onP50 and onP99 are targets, 0 for none.
func (t *table) times(figure string, s spread, onP50, onP99 time.Duration, on string) {
	r := row{figure: figure, p50: "–", p99: "–", max: "–", on: fmt.Sprintf("%s; %d values", on, s.count())}
	if s.count() > 0 {
		r.p50, r.p99, r.max = millis(s.percentile(50)), millis(s.percentile(99)), millis(s.max())
	}
	var targets []string
	check := func(name string, target, measured time.Duration) {
		if target == 0 {
			return
		}
		targets = append(targets, fmt.Sprintf("%s ≤ %v", name, target))
		if v := within(float64(measured), float64(target)); r.met != missed {
			r.met = v
		}
	}
	check("p50", onP50, s.percentile(50))
	check("p99", onP99, s.percentile(99))
	if s.count() == 0 && len(targets) > 0 {
		r.met = missed
	}
	r.target = strings.Join(targets, ", ")
	t.rows = append(t.rows, r)
}

// value adds a figure that is one number.
func (t *table) value(figure, measured, target string, v verdict, on string) {
	t.rows = append(t.rows, row{figure: figure, one: measured, target: target, met: v, on: on})
}

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) write(w io.Writer, o options, redis, load string) {
	fmt.Fprintf(w, "%d cores (%s), %s. Three nodes, Redis %s (AOF, everysec) and the clients share the machine, over loopback. Rounds: %d. Load of the machine before: %s.\n\n",
		runtime.NumCPU(), local.CPUModel(), runtime.Version(), redis, o.rounds, load)
	fmt.Fprintln(w, "| figure | p50 | p99 | max | target | met | measured on |")
	fmt.Fprintln(w, "|---|--:|--:|--:|---|---|---|")
	for _, r := range t.rows {
		values := r.p50 + " | " + r.p99 + " | " + r.max
		if r.one != "" {
			values = r.one + " | | "
		}
		fmt.Fprintf(w, "| %s | %s | %s | %v | %s |\n", r.figure, values, r.target, r.met, r.on)
	}
	for _, n := range t.notes {
		fmt.Fprintf(w, "\n- %s", n)
	}
	fmt.Fprintln(w)
}

// machineLoad is the mean number of processes that wanted to run in the last minute, as text.
func machineLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}
