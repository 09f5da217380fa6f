package kube

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// report is what was measured, as a table for people.
type report struct {
	begin time.Time
	rows  []string
	notes []string
}

// step is one thing that happened.
type step struct {
	what     string
	took     time.Duration
	noticed  *noticed // nil before there are people
	restarts int      // of containers of Weft, since its pods were made
	verdict  string
}

func (r *report) add(s step) {
	row := fmt.Sprintf("| %s | %.1f s |", s.what, s.took.Seconds())
	if n := s.noticed; n != nil {
		row += fmt.Sprintf(" %.2f | %.2f s | %.2f s | %d | %d | %d |", n.PerClient, n.Longest/1000, n.P99/1000, n.Acks, n.Resyncs, s.restarts)
	} else {
		row += " | | | | | |"
	}
	r.rows = append(r.rows, row+" "+s.verdict+" |")
	fmt.Printf("%s  %s\n", time.Since(r.begin).Round(time.Second), r.rows[len(r.rows)-1])
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
	fmt.Println(r.notes[len(r.notes)-1])
}

// write writes the report to the file that WEFT_KUBE_REPORT names, if it does, also when the test failed.
func (r *report) write(t *testing.T) {
	file := os.Getenv("WEFT_KUBE_REPORT")
	if file == "" {
		return
	}
	verdict := "passed"
	if t.Failed() {
		verdict = "FAILED"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Weft on Kubernetes: %s\n\n", verdict)
	fmt.Fprintf(&b, "%s, %d published clients in %d rooms, %v in all.\n\n", r.begin.UTC().Format(time.DateOnly), people, peopleRooms, time.Since(r.begin).Round(time.Second))
	b.WriteString("Offline is what a client's connectivity callback says. Acks and resyncs count from the beginning; restarts are those of containers in their pods.\n\n")
	b.WriteString("| step | took | reconnects a client | longest offline | p99 | acks | resyncs | restarts | |\n|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
	b.WriteString(strings.Join(r.rows, "\n") + "\n\n")
	for _, n := range r.notes {
		b.WriteString("- " + n + "\n")
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Error(err)
	}
}
