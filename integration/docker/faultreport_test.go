package docker

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/weftsync/weft/integration/docker/faults"
)

// chaos says whether the faults take their full time, as in `make chaos`. Then the limits on times hold,
// too: nothing else runs beside.
func chaos(t testing.TB) bool {
	t.Helper()
	switch v := os.Getenv("WEFT_CHAOS"); v {
	case "":
		return false
	case "long":
		return true
	default:
		t.Fatalf("WEFT_CHAOS is %q: set it to long, or not at all", v)
		return false
	}
}

// report is what was measured, and what it is held against.
type report struct {
	mu   sync.Mutex
	rows []row
}

type row struct{ fault, what, value, limit, verdict string }

func (r *report) add(x row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, x)
}

// none notes a count that must be zero.
func (r *report) none(t testing.TB, what string, n int) {
	t.Helper()
	r.atMost(t, what, n, 0)
}

// atMost notes a count that has a limit.
func (r *report) atMost(t testing.TB, what string, n, limit int) {
	t.Helper()
	x := row{t.Name(), what, fmt.Sprint(n), fmt.Sprint("≤ ", limit), "ok"}
	if n > limit {
		x.verdict = "FAILED"
		t.Errorf("%s: %d, at most %d may be", what, n, limit)
	}
	r.add(x)
}

// within notes a time that has a limit, which holds in a long run.
func (r *report) within(t testing.TB, what string, d, limit time.Duration) {
	t.Helper()
	x := row{t.Name(), what, round(d), "≤ " + limit.String(), "ok"}
	if d > limit {
		x.verdict = "missed"
		if chaos(t) {
			x.verdict = "FAILED"
			t.Errorf("%s: %v, at most %v may be", what, d, limit)
		}
	}
	r.add(x)
}

// note notes what has no limit.
func (r *report) note(t testing.TB, what string, value any) {
	t.Helper()
	if d, ok := value.(time.Duration); ok {
		value = round(d)
	}
	r.add(row{t.Name(), what, fmt.Sprint(value), "", ""})
}

func round(d time.Duration) string {
	if d > 100*time.Millisecond {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// result notes what the checker found. Closed sockets may be told apart from the rest.
func (r *report) result(t testing.TB, result faults.Result) {
	t.Helper()
	r.note(t, "frames with an ack", result.Acked)
	if result.Unseen > 0 {
		r.note(t, "frames that nobody was there to see", result.Unseen)
	}
	if result.Leaps > 0 {
		r.note(t, "rooms that went on from the clock", result.Leaps)
	}
	r.none(t, "acked but missing", result.Of(faults.RuleAcked, faults.RuleUnacked, faults.RuleBack))
	r.none(t, "timestamps twice, frames twice", result.Of(faults.RuleTwice, faults.RuleShared))
	r.none(t, "out of order", result.Of(faults.RuleOrder, faults.RuleGap, faults.RuleAckEarly))
	r.none(t, "divergence", result.Of(faults.RuleDiverged, faults.RuleReplay, faults.RuleContent, faults.RuleUnknown))
	r.none(t, "sockets closed that may not be", result.Of(faults.RuleClosed))
	r.none(t, "said by who may not speak", result.Of(faults.RuleNotSilent))
	if n := len(result.Violations); n > 0 {
		var b strings.Builder
		for _, v := range result.Violations[:min(n, 20)] {
			fmt.Fprintln(&b, v)
		}
		t.Logf("the first of %d violations:\n%s", n, b.String())
	}
}

// print writes the table.
func (r *report) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.rows, func(a, b row) int { return cmp.Compare(a.fault, b.fault) })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tmeasured\tvalue\tlimit\t")
	last := ""
	for _, x := range r.rows {
		fault := strings.TrimPrefix(x.fault, "TestFaults/")
		if fault == last {
			fault = ""
		} else {
			last = fault
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", fault, x.what, x.value, x.limit, x.verdict)
	}
	_ = table.Flush() // to the terminal, or nowhere
}
