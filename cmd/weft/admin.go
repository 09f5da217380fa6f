package main

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/room"
)

// phase is how far the process is.
type phase int32

const (
	starting phase = iota
	serving
	shuttingDown
)

// health is what /readyz knows. Its zero value is a process that starts.
type health struct {
	phase   atomic.Int32
	trouble atomic.Pointer[func() []string]
	notes   atomic.Pointer[func() []string]
}

func (h *health) set(p phase) { h.phase.Store(int32(p)) }

// wait says what a process that starts waits for.
func (h *health) wait(why error) {
	trouble := func() []string { return []string{oneLine(why)} }
	h.trouble.Store(&trouble)
}

func oneLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return settings.Cut(line, maxErrorShown)
}

// watch names the function that says, a line each, why a process should have no
// new clients.
func (h *health) watch(trouble func() []string) { h.trouble.Store(&trouble) }

// mention names the function that says, a line each, what somebody should see to although
// clients may come.
func (h *health) mention(notes func() []string) { h.notes.Store(&notes) }

const (
	// maxUnsavedListed is how many rooms /readyz names; a full disk fails all.
	maxUnsavedListed = 10
	// maxErrorShown is how much of an error it shows, in bytes.
	maxErrorShown = 300
)

// troubles says why the process is not ready, a line each; none if it is.
func (h *health) troubles() []string {
	var lines []string
	switch phase(h.phase.Load()) {
	case starting:
		lines = []string{"starting"}
	case shuttingDown:
		return []string{"shutting down"}
	}
	if trouble := h.trouble.Load(); trouble != nil {
		lines = append(lines, (*trouble)()...)
	}
	return lines
}

// unsavedLines names the rooms that could not be saved.
func unsavedLines(rooms []room.UnsavedRoom) []string {
	if len(rooms) == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%d rooms are not saved:", len(rooms))}
	if len(rooms) == 1 {
		lines[0] = "1 room is not saved:"
	}
	for i, r := range rooms {
		if i == maxUnsavedListed {
			lines = append(lines, fmt.Sprintf("and %d more", len(rooms)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%q: %s, since %s, failed %d times", r.Room, oneLine(r.Err), r.Since.UTC().Format(time.RFC3339), r.Failures))
	}
	return lines
}

// adminHandler answers the people and programs that look after the process.
func adminHandler(h *health, metrics *prometheus.Registry, withPprof bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, lines := http.StatusServiceUnavailable, h.troubles()
		if len(lines) == 0 {
			status, lines = http.StatusOK, []string{"ok"}
		}
		if notes := h.notes.Load(); notes != nil && r.URL.Query().Has("verbose") {
			lines = append(lines, (*notes)()...)
		}
		plain(w, status, lines...)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics, MaxRequestsInFlight: 4}))
	if withPprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", func(w http.ResponseWriter, _ *http.Request) {
			plain(w, http.StatusNotFound, "not shown: it may hold a secret")
		})
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func plain(w http.ResponseWriter, status int, lines ...string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// Who has gone does not need the answer.
	_, _ = fmt.Fprintln(w, strings.Join(lines, "\n"))
}
