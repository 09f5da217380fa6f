package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/weftsync/weft/integration/local"
)

// Results is all that one call of bench measured.
type Results struct {
	Machine Machine  `json:"machine"`
	Other   string   `json:"other"` // the server beside Weft
	Rounds  int      `json:"rounds"`
	Seconds float64  `json:"seconds"`
	Runs    []Result `json:"runs"`
}

// Machine is what the numbers depend on. A fact that could not be found out is "unknown".
type Machine struct {
	Cores     int    `json:"cores"`
	CPU       string `json:"cpu"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
	Node      string `json:"node"`
	Published string `json:"published"`
	Weft      string `json:"weft"`
}

func machine(o options) Machine {
	or := func(s string, err error) string {
		if err != nil || s == "" {
			return "unknown"
		}
		return s
	}
	m := Machine{
		Cores: runtime.NumCPU(), CPU: local.CPUModel(), Kernel: or(version("uname", "-sr")),
		Go: runtime.Version(), Node: or(version("node", "--version")), Weft: "not measured", Published: "not measured",
	}
	if !o.skipWeft {
		m.Weft = or(version(o.weft, "version"))
	}
	if o.against != "" {
		m.Published = "replaced by Weft " + or(version(o.against, "version"))
	} else if !o.skipPub {
		m.Published = or(packageVersion(filepath.Join(filepath.Dir(o.published), "node_modules", "@woven-ecs", "canvas-store-server", "package.json")))
	}
	return m
}

func packageVersion(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var p struct{ Version string }
	err = json.Unmarshal(b, &p)
	return p.Version, err
}

// noisy is how many cores' worth of other work makes a run's numbers doubtful.
const noisy = 0.15

// writeMarkdown prints the medians, and below them whatever a reader must know to trust them.
func (r Results) writeMarkdown(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%d cores (%s), %s, %s, Node %s; published server %s, Weft %s. Medians of %d rounds of %g s; load and server share the machine.\n\n",
		m.Cores, m.CPU, m.Kernel, m.Go, m.Node, m.Published, m.Weft, r.Rounds, r.Seconds)
	fmt.Fprintf(w, "| work | measure | %s | Weft | Weft ÷ %[1]s |\n", r.Other)
	fmt.Fprintln(w, "|---|---|--:|--:|--:|")
	for _, work := range works {
		title := work.title
		for _, measure := range work.measures {
			theirs, their := r.median(work, r.Other, measure)
			ours, our := r.median(work, "weft", measure)
			if theirs == "" && ours == "" {
				continue
			}
			ratio := "–"
			if their > 0 && our > 0 {
				ratio = fmt.Sprintf("%.2f", our/their)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", title, measure.name, cmp.Or(theirs, "–"), cmp.Or(ours, "–"), ratio)
			title = ""
		}
	}
	for _, note := range r.notes() {
		fmt.Fprintf(w, "\n- %s", note)
	}
	fmt.Fprintln(w)
}

// median returns a cell's text and value; "" if no run of the work was done on the server.
func (r Results) median(w work, server string, m measureOf) (string, float64) {
	var values []float64
	done := 0
	for _, run := range r.Runs {
		if run.Work != w.name || run.Server != server {
			continue
		}
		if done++; run.Failure == "" {
			values = append(values, m.value(run.Report))
		}
	}
	if done == 0 {
		return "", 0
	}
	if len(values) == 0 {
		return "failed", 0
	}
	v := median(values)
	text := number(v, m.unit)
	if len(values) < done {
		text += fmt.Sprintf(" (%d of %d failed)", done-len(values), done)
	}
	return text, v
}

// notes names what went wrong in single runs, each thing once with its count.
func (r Results) notes() []string {
	counts := map[string]int{}
	for _, run := range r.Runs {
		where := run.Work + " on " + run.Server + ": "
		if run.Failure != "" {
			counts[where+"failed: "+run.Failure]++
		}
		for kind := range run.Report.Errors {
			counts[where+"errors: "+kind]++
		}
		if run.OtherCores > noisy {
			counts[where+fmt.Sprintf("other programs used more than %g cores: doubtful numbers", noisy)]++
		}
	}
	var notes []string
	for _, note := range slices.Sorted(maps.Keys(counts)) {
		notes = append(notes, fmt.Sprintf("%s (in %d runs)", note, counts[note]))
	}
	return notes
}

// failure is an error if any run failed, so that the program's exit code tells.
func (r Results) failure() error {
	failed := 0
	for _, run := range r.Runs {
		if run.Failure != "" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d runs failed", failed, len(r.Runs))
	}
	return nil
}

// median of at least one value; of an even number, the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number writes v to three digits, with its unit.
func number(v float64, unit string) string {
	text := fmt.Sprintf("%.0f", v)
	switch {
	case v < 10:
		text = fmt.Sprintf("%.2f", v)
	case v < 100:
		text = fmt.Sprintf("%.1f", v)
	}
	if unit == "" {
		return text
	}
	return text + " " + unit
}
