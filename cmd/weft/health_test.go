package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room"
)

func TestReadyz(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var many []room.UnsavedRoom
	for i := range 12 {
		many = append(many, room.UnsavedRoom{Room: fmt.Sprintf("r%d", i), Err: errors.New("disk full"), Failures: i, Since: since})
	}
	cases := []struct {
		name    string
		phase   phase
		unsaved []room.UnsavedRoom
		status  int
		want    []string // lines
	}{
		{"starting", starting, nil, 503, []string{"starting"}},
		{"ready", serving, nil, 200, []string{"ok"}},
		{"shutting down", shuttingDown, many, 503, []string{"shutting down"}},
		{"one room", serving, []room.UnsavedRoom{{Room: "a\nb", Err: errors.New("no space\nleft"), Failures: 3, Since: since}}, 503,
			[]string{"1 room is not saved:", `"a\nb": no space, since 2026-01-02T03:04:05Z, failed 3 times`}},
		{"long error", serving, []room.UnsavedRoom{{Room: "a", Err: errors.New(strings.Repeat("é", 1000)), Failures: 1, Since: since}}, 503,
			[]string{"1 room is not saved:", `"a": ` + strings.Repeat("é", 150) + `…, since 2026-01-02T03:04:05Z, failed 1 times`}},
		{"many rooms", serving, many, 503, append(append([]string{"12 rooms are not saved:"}, func() (lines []string) {
			for i := range 10 {
				lines = append(lines, fmt.Sprintf(`"r%d": disk full, since 2026-01-02T03:04:05Z, failed %d times`, i, i))
			}
			return lines
		}()...), "and 2 more")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var h health
			h.watch(func() []string { return unsavedLines(c.unsaved) })
			h.set(c.phase)
			handler := adminHandler(&h, prometheus.NewRegistry(), false)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if want := strings.Join(c.want, "\n") + "\n"; answer.Code != c.status || answer.Body.String() != want {
				t.Errorf("got  %d %s\nwant %d %s", answer.Code, answer.Body, c.status, want)
			}
			alive := httptest.NewRecorder()
			handler.ServeHTTP(alive, httptest.NewRequest(http.MethodGet, "/livez", nil))
			if alive.Code != http.StatusOK {
				t.Errorf("/livez: %d", alive.Code)
			}
		})
	}
}

// What somebody should see to does not take a node out of a load balancer.
func TestReadyzVerbose(t *testing.T) {
	var h health
	var troubles, notes []string
	h.watch(func() []string { return troubles })
	h.mention(func() []string { return notes })
	h.set(serving)
	handler := adminHandler(&h, prometheus.NewRegistry(), false)
	check := func(path string, status int, want string) {
		t.Helper()
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != status || answer.Body.String() != want {
			t.Errorf("%s: %d %q, want %d %q", path, answer.Code, answer.Body, status, want)
		}
	}
	check("/readyz?verbose", 200, "ok\n")
	notes = []string{"Redis is full: do this"}
	check("/readyz", 200, "ok\n")
	check("/readyz?verbose", 200, "ok\nRedis is full: do this\n")
	troubles = []string{"no lease"}
	check("/readyz", 503, "no lease\n")
	check("/readyz?verbose=1", 503, "no lease\nRedis is full: do this\n")
}

func TestHTTPErrorLogHoldsNoQuery(t *testing.T) {
	log := newLogLines()
	httpErrorLog(newLogger(log, "info", "text")).Printf("http: panic serving 192.0.2.1: GET /?token=%s failed\ngoroutine 1", testSecret)
	if got := log.String(); !strings.Contains(got, "http: panic serving 192.0.2.1: GET /") || strings.Contains(got, testSecret) || strings.Count(got, "\n") != 1 {
		t.Errorf("logged %s", got)
	}
}

func TestPanicsOfHandlersHoldNoQuery(t *testing.T) {
	log := newLogLines()
	broken := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic("cannot serve " + r.URL.String()) })
	server := httptest.NewUnstartedServer(publicHandler(broken, nil, newLogger(log, "info", "json")))
	server.Config.ErrorLog = httpErrorLog(newLogger(log, "info", "json"))
	server.Start()
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/?token=" + testSecret)
	if err == nil {
		resp.Body.Close()
		t.Error("there is an answer")
	}
	if got := log.String(); !strings.Contains(got, "a request broke its handler") || strings.Contains(got, testSecret) {
		t.Errorf("logged %s", got)
	}
}
