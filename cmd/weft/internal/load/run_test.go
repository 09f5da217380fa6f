package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// small is a run that takes a moment.
func small(e *echo, workload Workload) Config {
	return Config{
		URL: e.url, Workload: workload, Rooms: 2, Clients: 4, Rate: 50, Components: 30,
		Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond, Drain: 10 * time.Second,
	}
}

func mustRun(t *testing.T, cfg Config) Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryDeliveryIsCounted(t *testing.T) {
	for _, workload := range []Workload{Document, Presence, Pen} {
		for _, fragment := range []bool{false, true} {
			name := string(workload)
			if fragment {
				name += " in fragments"
			}
			t.Run(name, func(t *testing.T) {
				e := newEcho(t, &echo{fragment: fragment})
				r := mustRun(t, small(e, workload))
				// 2 rooms × 4 writers × 50/s × 0.3 s, each within one patch of it.
				if r.Sends < 112 || r.Sends > 128 {
					t.Errorf("sends = %d, want about 120", r.Sends)
				}
				if r.Expected != 3*r.Sends || r.Delivered != r.Expected || r.DeliveredShare != 1 {
					t.Errorf("delivered %d of %d for %d sends, share %v", r.Delivered, r.Expected, r.Sends, r.DeliveredShare)
				}
				if r.Acks != r.Sends {
					t.Errorf("acks = %d of %d", r.Acks, r.Sends)
				}
				if r.Delivery.Count != r.Delivered || r.Ack.Count != r.Acks || r.Lag.Count != r.Sends || r.Ramp.Count != 8 || r.Connected != 8 {
					t.Errorf("counts: delivery %d ack %d lag %d ramp %d connected %d", r.Delivery.Count, r.Ack.Count, r.Lag.Count, r.Ramp.Count, r.Connected)
				}
				if l := r.Delivery; l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.Max {
					t.Errorf("latency %+v", l)
				}
				if len(r.Errors) != 0 {
					t.Errorf("errors = %v", r.Errors)
				}
				e.mu.Lock()
				defer e.mu.Unlock()
				if want := map[Workload]int{Document: 30, Pen: 4}[workload]; e.components["load-1"] < want {
					t.Errorf("%d components seeded, want %d", e.components["load-1"], want)
				}
				if workload == Pen && e.deltas == 0 {
					t.Error("no buffer delta was sent")
				}
				if fragment && e.pongs == 0 {
					t.Error("no ping was answered")
				}
			})
		}
	}
}

func TestMissingDeliveriesShow(t *testing.T) {
	cfg := small(newEcho(t, &echo{dropEvery: 10}), Document)
	cfg.Drain = 2 * time.Second
	r := mustRun(t, cfg)
	if r.DeliveredShare < 0.85 || r.DeliveredShare > 0.95 {
		t.Errorf("share = %v of a server that drops every tenth", r.DeliveredShare)
	}
	if r.Acks != r.Sends {
		t.Errorf("acks = %d of %d", r.Acks, r.Sends)
	}
}

func TestClosedSocketsAreErrors(t *testing.T) {
	cfg := small(newEcho(t, &echo{closeAfter: 40}), Presence)
	cfg.Drain = -1
	r := mustRun(t, cfg)
	if r.Errors["closed 1013"] == 0 {
		t.Errorf("errors = %v, want some closed 1013", r.Errors)
	}
}

func TestLargeMeasuresFreshJoins(t *testing.T) {
	e := newEcho(t, &echo{})
	cfg := small(e, Large)
	cfg.Rooms, cfg.Writers, cfg.NoSeed, cfg.JoinInterval = 1, 2, true, 50*time.Millisecond
	r := mustRun(t, cfg)
	// 0.3 s, a join every 50 ms; a slow machine skips some, and says so.
	if n := r.Join.Count + r.Errors["join skipped"]; r.Join.Count < 1 || n < 5 || n > 8 || r.Join.P50 <= 0 {
		t.Errorf("joins = %+v, errors = %v, want about 6 joins", r.Join, r.Errors)
	}
	// A joiner's deliveries are not counted, and so not expected.
	if r.Sends == 0 || r.Delivered != r.Expected || r.Expected != 3*r.Sends {
		t.Errorf("delivered %d of %d", r.Delivered, r.Expected)
	}
	if e.components["load-0"] != 0 {
		t.Error("seeded in spite of NoSeed")
	}
}

func TestIdleMeasuresMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a process can be measured on Linux only")
	}
	cfg := small(newEcho(t, &echo{}), Idle)
	cfg.PID = os.Getpid()
	r := mustRun(t, cfg)
	if r.Sends != 0 || r.Connected != 8 {
		t.Errorf("sends %d, connected %d", r.Sends, r.Connected)
	}
	s := r.Server
	if s == nil || s.RSSBefore < 1<<20 || s.RSSPeak < s.RSSAfter || s.RSSPerConnection != (s.RSSAfter-s.RSSBefore)/8 {
		t.Errorf("server = %+v", s)
	}
}

func TestTokensGoToTheServerAndNowhereElse(t *testing.T) {
	const secret = "very-secret"
	e := newEcho(t, &echo{})
	cfg := small(e, Presence)
	var mu sync.Mutex
	asked := map[string]bool{}
	cfg.Token = func(room, client string) string {
		mu.Lock()
		defer mu.Unlock()
		asked[room+" "+client] = true
		return secret + client
	}
	mustRun(t, cfg)
	if len(asked) != 8 || !asked["load-1 load-1-c3"] {
		t.Errorf("asked for tokens of %v", asked)
	}
	for _, r := range e.dials {
		if q := r.URL.Query(); q.Get("token") != secret+q.Get("clientId") {
			t.Errorf("dialled %s", r.URL)
		}
	}
	// A refused dial must not repeat the URL.
	cfg.URL = "ws://127.0.0.1:1/"
	_, err := Run(t.Context(), cfg)
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("err = %v", err)
	}
}

func TestCancelEndsTheRunWithAReport(t *testing.T) {
	e := newEcho(t, &echo{})
	cfg := small(e, Document)
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		// Cancel when the run is well under way.
		for ctx.Err() == nil {
			e.mu.Lock()
			patches := e.patches
			e.mu.Unlock()
			if patches > 100 {
				cancel()
			}
			runtime.Gosched()
		}
	}()
	r, err := Run(ctx, cfg)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if r.Sends == 0 || r.Seconds <= 0 || r.Seconds > 60 {
		t.Errorf("report of %d sends in %v s", r.Sends, r.Seconds)
	}
}

func TestSilentServerEndsTheRun(t *testing.T) {
	cfg := small(newEcho(t, &echo{noSync: true}), Document)
	cfg.JoinTimeout = 50 * time.Millisecond
	_, err := Run(t.Context(), cfg)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{URL: "ws://127.0.0.1:1/"}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   error
		names  string
	}{
		"remote host":    {func(c *Config) { c.URL = "wss://example.com/x" }, ErrRemote, "example.com"},
		"remote address": {func(c *Config) { c.URL = "ws://10.0.0.1:80/" }, ErrRemote, "10.0.0.1"},
		"no url":         {func(c *Config) { c.URL = "" }, ErrConfig, "url"},
		"http url":       {func(c *Config) { c.URL = "http://127.0.0.1/" }, ErrConfig, "url"},
		"workload":       {func(c *Config) { c.Workload = "dance" }, ErrConfig, "dance"},
		"writers":        {func(c *Config) { c.Writers = 11 }, ErrConfig, "writers"},
		"too many":       {func(c *Config) { c.Rooms, c.Clients = 1000, 1000 }, ErrConfig, "clients"},
		"rate":           {func(c *Config) { c.Rate = -1 }, ErrConfig, "rate"},
		"room prefix":    {func(c *Config) { c.RoomPrefix = `a"b` }, ErrConfig, "room prefix"},
		"components":     {func(c *Config) { c.Components = -1 }, ErrConfig, "components"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tc.change(&cfg)
			_, err := Run(t.Context(), cfg)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.names) {
				t.Errorf("err = %v, want %v naming %q", err, tc.want, tc.names)
			}
		})
	}
	remote := Config{URL: "wss://example.com/x", AllowRemote: true}.withDefaults()
	if err := remote.validate(); err != nil {
		t.Errorf("allowed remote host: %v", err)
	}
}

func TestReportReadsBack(t *testing.T) {
	r := Report{Workload: Pen, Sends: 5, Server: &ServerUse{PID: 7, CPUMicrosPerDelivery: 2.5}, Errors: map[string]int64{"closed 1013": 2}}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Sends != 5 || back.Server.CPUMicrosPerDelivery != 2.5 || back.Errors["closed 1013"] != 2 {
		t.Errorf("back = %+v", back)
	}
	b.Reset()
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pen", "2.50 µs a delivery", "closed 1013: 2"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("text lacks %q:\n%s", want, b.String())
		}
	}
}
