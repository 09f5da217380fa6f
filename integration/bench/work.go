package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weftsync/weft/integration/local"
)

// work is one row group of the table: a load, and what to tell of it.
type work struct {
	name, title string
	args        []string // of `weft load`
	snapshot    int      // components of the room that the data folder holds at the start
	descriptors uint64   // that a server needs, and the load too
	longer      int      // times the usual duration; 0: once
	measures    []measureOf
}

// measureOf is one number of a Report. Smaller is better, but for a share.
type measureOf struct {
	name, unit string
	value      func(Report) float64
}

var (
	cpuPerDelivery = measureOf{"server CPU per delivery", "µs", func(r Report) float64 { return r.Server.CPUMicrosPerDelivery }}
	share          = measureOf{"delivered", "%", func(r Report) float64 { return 100 * r.DeliveredShare }}
	rate           = measureOf{"deliveries per second", "", func(r Report) float64 { return r.DeliveriesPerSecond }}
	cores          = measureOf{"server CPU", "cores", func(r Report) float64 { return r.Server.CPUSeconds / r.Seconds }}
	p50            = measureOf{"delivery p50", "ms", func(r Report) float64 { return r.Delivery.P50 }}
	p99            = measureOf{"delivery p99", "ms", func(r Report) float64 { return r.Delivery.P99 }}
	joinP50        = measureOf{"join p50", "ms", func(r Report) float64 { return r.Join.P50 }}
	perConnection  = measureOf{"memory per connection", "KiB", func(r Report) float64 { return float64(r.Server.RSSPerConnection) / 1024 }}
	peak           = measureOf{"memory, peak", "MiB", func(r Report) float64 { return float64(r.Server.RSSPeak) / (1 << 20) }}
)

var works = []work{
	{
		name: "document", title: "1 room, 50 clients × 30 patches/s",
		args:     []string{"--workload", "document", "--rooms", "1", "--clients", "50", "--rate", "30"},
		measures: []measureOf{cpuPerDelivery, share, p50, p99},
	},
	{
		name: "light", title: "1 room, 50 clients × 5 patches/s",
		args:     []string{"--workload", "document", "--rooms", "1", "--clients", "50", "--rate", "5"},
		measures: []measureOf{cpuPerDelivery, share, p50, p99},
	},
	{
		name: "rooms", title: "200 rooms × 10 clients × 5 patches/s",
		args:        []string{"--workload", "document", "--rooms", "200", "--clients", "10", "--rate", "5"},
		descriptors: 2_500,
		measures:    []measureOf{share, rate, cores, p50, p99},
	},
	{
		name: "presence", title: "1 room, 100 clients × 10 cursors/s",
		args:     []string{"--workload", "presence", "--rooms", "1", "--clients", "100", "--rate", "10"},
		measures: []measureOf{cpuPerDelivery, share, p50, p99},
	},
	{
		name: "idle", title: "10 000 idle connections, 10 to a room",
		args:        []string{"--workload", "idle", "--rooms", "1000", "--clients", "10"},
		descriptors: 10_500,
		measures:    []measureOf{perConnection},
	},
	{
		name: "large", title: "a room of 100 000 components (35 MB), 10 writers × 10/s, a join every 2 s, saves on",
		args: []string{"--workload", "large", "--rooms", "1", "--clients", "10", "--rate", "10",
			"--components", "100000", "--no-seed", "--join-interval", "2s"},
		snapshot: 100_000,
		longer:   2,
		measures: []measureOf{share, p50, p99, joinP50, cores, peak},
	},
}

func workNames() []string {
	var names []string
	for _, w := range works {
		names = append(names, w.name)
	}
	return names
}

// Report is the part of `weft load --json` that is used here; see the report's own comments there.
type Report struct {
	Connected           int              `json:"connected"`
	Seconds             float64          `json:"seconds"`
	DeliveredShare      float64          `json:"deliveredShare"`
	DeliveriesPerSecond float64          `json:"deliveriesPerSecond"`
	Delivery            Latency          `json:"delivery"`
	Join                Latency          `json:"join"`
	Lag                 Latency          `json:"lag"`
	Server              ServerUse        `json:"server"`
	LoadCPUSeconds      float64          `json:"loadCPUSeconds"`
	Errors              map[string]int64 `json:"errors"`
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// ServerUse is what the server's process used; memory in bytes.
type ServerUse struct {
	CPUSeconds           float64 `json:"cpuSeconds"`
	CPUMicrosPerDelivery float64 `json:"cpuMicrosPerDelivery"`
	RSSPeak              int64   `json:"rssPeak"`
	RSSPerConnection     int64   `json:"rssPerConnection"`
}

// Result is one run of one work on one server.
type Result struct {
	Work   string `json:"work"`
	Server string `json:"server"`
	Round  int    `json:"round"`
	// Report is the zero value if Failure is set.
	Report  Report          `json:"-"`
	Raw     json.RawMessage `json:"report,omitempty"` // the whole report
	Failure string          `json:"failure,omitempty"`
	// OtherCores is how much of the machine neither the server nor the load used, but others did.
	OtherCores float64 `json:"otherCores"`
}

func (r Result) line() string {
	if r.Failure != "" {
		return fmt.Sprintf("round %d  %-9s %-9s FAILED: %s", r.Round, r.Work, r.Server, r.Failure)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "round %d  %-9s %-9s", r.Round, r.Work, r.Server)
	for _, w := range works {
		if w.name == r.Work {
			for _, m := range w.measures {
				fmt.Fprintf(&b, "  %s %s", m.name, number(m.value(r.Report), m.unit))
			}
		}
	}
	fmt.Fprintf(&b, "  (load %.2f cores, others %.2f)", r.Report.LoadCPUSeconds/max(r.Report.Seconds, 1e-9), r.OtherCores)
	return b.String()
}

// secret signs the tokens of both servers' clients. It opens nothing but these servers.
const secret = "weft-bench-weft-bench-weft-bench"

// measure does one run, from the server's start to its stop.
func measure(ctx context.Context, o options, dir string, w work, s server) Result {
	result := Result{Work: w.name, Server: s.name()}
	if err := measureInto(ctx, &result, o, dir, w, s); err != nil {
		result.Failure = err.Error()
	}
	return result
}

func measureInto(ctx context.Context, result *Result, o options, dir string, w work, s server) error {
	if err := enoughDescriptors(w.descriptors); err != nil {
		return err
	}
	times := time.Duration(max(w.longer, 1))
	ctx, cancel := context.WithTimeout(ctx, times*o.duration+5*time.Minute)
	defer cancel()
	data, err := os.MkdirTemp(dir, w.name+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(data) }() // the system tidies up what is left
	if w.snapshot > 0 {
		file := filepath.Join(data, "load-0.json")
		if _, err := load(ctx, o, "--write-snapshot", file, "--components", strconv.Itoa(w.snapshot)); err != nil {
			return err
		}
	}
	running, err := s.start(ctx, data)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name(), err)
	}
	defer running.stop()

	before := local.BusyTime()
	began := time.Now()
	args := append([]string{
		"--json", "--url", running.url, "--pid", strconv.Itoa(running.cmd.Process.Pid),
		"--duration", (times * o.duration).String(), "--warmup", "2s", "--drain", "5s",
	}, w.args...)
	out, err := load(ctx, o, args...)
	if err != nil {
		return fmt.Errorf("%w; the server said: %s", err, running.said())
	}
	result.OtherCores = max(0, (local.BusyTime()-before-out.cpu-running.used()).Seconds()/time.Since(began).Seconds())
	if err := json.Unmarshal(out.stdout, &result.Report); err != nil {
		return fmt.Errorf("weft load --json: %w", err)
	}
	result.Raw = json.RawMessage(bytes.TrimSpace(out.stdout))
	for _, m := range w.measures {
		if v := m.value(result.Report); math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s was not measured", m.name)
		}
	}
	return nil
}

// output is what a run of the load said, and what it cost.
type output struct {
	stdout []byte
	cpu    time.Duration
}

func load(ctx context.Context, o options, args ...string) (output, error) {
	cmd := exec.CommandContext(ctx, o.load, append([]string{"load"}, args...)...)
	cmd.Env = append(os.Environ(), "WEFT_AUTH_JWT_SECRET="+secret,
		fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/2)))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return output{}, fmt.Errorf("weft load: %w: %s", err, lastLine(stderr.String()))
	}
	return output{stdout.Bytes(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// enoughDescriptors refuses a work that this machine's limit on open files would spoil.
func enoughDescriptors(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	if limit.Max < n {
		return fmt.Errorf("needs %d open files, the hard limit is %d: raise it with ulimit -Hn", n, limit.Max)
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
