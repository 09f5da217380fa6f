package load

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run measured. Latencies are in milliseconds, from the time for which a patch was
// planned; a patch that has not arrived when the run ends is in no percentile but lowers
// DeliveredShare. "Of the window" means: planned within it, whenever it arrived.
type Report struct {
	Workload       Workload `json:"workload"`
	Rooms          int      `json:"rooms"`
	ClientsPerRoom int      `json:"clientsPerRoom"`
	WritersPerRoom int      `json:"writersPerRoom"`
	Rate           float64  `json:"ratePerWriter"`
	// Connected is how many clients were connected and synced when the writers started.
	Connected int `json:"connected"`
	// Seconds is the length of the measured window; shorter than asked for if the run was cut off.
	Seconds float64 `json:"seconds"`

	// Sends and Acks are patches of the window that were written, and acked.
	Sends int64 `json:"sends"`
	Acks  int64 `json:"acks"`
	// Expected is Sends × (ClientsPerRoom − 1). Delivered is how many of them arrived before the
	// drain ended. More than expected means that the server repeats itself.
	Expected       int64   `json:"expected"`
	Delivered      int64   `json:"delivered"`
	DeliveredShare float64 `json:"deliveredShare"`
	// Deliveries that arrived during the window, whenever they were sent.
	DeliveriesPerSecond float64 `json:"deliveriesPerSecond"`
	BytesPerSecond      float64 `json:"bytesPerSecond"`

	Delivery Latency `json:"delivery"` // at the other clients
	Ack      Latency `json:"ack"`      // at the sender
	Lag      Latency `json:"lag"`      // how late this process was itself, which is part of the two above
	Ramp     Latency `json:"ramp"`     // dial to `synced`, of the clients at the start
	Join     Latency `json:"join"`     // dial to `synced`, of the fresh joins of Large

	// Server is nil without a PID.
	Server *ServerUse `json:"server,omitempty"`
	// LoadCPUSeconds is what this process itself used during the window; 0 where it cannot tell.
	LoadCPUSeconds float64 `json:"loadCPUSeconds"`

	// Errors counts by kind what went wrong from the first dial to the end.
	Errors map[string]int64 `json:"errors"`
}

// Latency is a distribution in milliseconds, to three digits. All is zero when Count is.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// ServerUse is what the server's process used during the window. Memory is resident, in bytes.
type ServerUse struct {
	PID                  int     `json:"pid"`
	CPUSeconds           float64 `json:"cpuSeconds"`
	CPUMicrosPerDelivery float64 `json:"cpuMicrosPerDelivery"` // per delivery that arrived during the window; 0: none did
	RSSBefore            int64   `json:"rssBefore"`            // before the first dial
	RSSAfter             int64   `json:"rssAfter"`             // at the end of the window, with all clients connected
	RSSPeak              int64   `json:"rssPeak"`              // the highest of some samples a second in the window
	RSSPerConnection     int64   `json:"rssPerConnection"`     // (RSSAfter − RSSBefore) / Connected
}

func latency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	return Latency{
		Count: h.TotalCount(),
		P50:   ms(h.ValueAtPercentile(50)),
		P90:   ms(h.ValueAtPercentile(90)),
		P99:   ms(h.ValueAtPercentile(99)),
		Max:   ms(h.Max()),
	}
}

// WriteJSON writes r as one indented JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes r for a person to read.
func (r Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("workload", "%s: %d × %d clients, %d writers each, %g patches/s", r.Workload, r.Rooms, r.ClientsPerRoom, r.WritersPerRoom, r.Rate)
	line("connected", "%d clients, measured for %.1f s", r.Connected, r.Seconds)
	if r.Sends > 0 {
		line("sent", "%d patches, %d acked", r.Sends, r.Acks)
		line("delivered", "%d of %d (%.2f %%)", r.Delivered, r.Expected, 100*r.DeliveredShare)
		line("throughput", "%.0f deliveries/s, %s/s", r.DeliveriesPerSecond, size(int64(r.BytesPerSecond)))
	}
	for _, l := range []struct {
		name string
		Latency
	}{{"delivery", r.Delivery}, {"ack", r.Ack}, {"own lag", r.Lag}, {"connect", r.Ramp}, {"join", r.Join}} {
		if l.Count > 0 {
			line(l.name, "p50 %s  p90 %s  p99 %s  max %s  (%d)", millis(l.P50), millis(l.P90), millis(l.P99), millis(l.Max), l.Count)
		}
	}
	if s := r.Server; s != nil {
		line("server CPU", "%.2f s, %.2f cores", s.CPUSeconds, s.CPUSeconds/max(r.Seconds, 1e-9))
		if s.CPUMicrosPerDelivery > 0 {
			line("", "%.2f µs a delivery", s.CPUMicrosPerDelivery)
		}
		line("server memory", "%s before, %s after, peak %s, %s a connection", size(s.RSSBefore), size(s.RSSAfter), size(s.RSSPeak), size(s.RSSPerConnection))
	}
	line("load CPU", "%.2f s", r.LoadCPUSeconds)
	var kinds []string
	for kind, n := range r.Errors {
		kinds = append(kinds, fmt.Sprintf("%s: %d", kind, n))
	}
	slices.Sort(kinds)
	if len(kinds) == 0 {
		kinds = []string{"none"}
	}
	line("errors", "%s", strings.Join(kinds, ", "))
	return t.Flush()
}

func millis(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Microsecond).String()
}

func size(bytes int64) string {
	switch b := float64(bytes); {
	case b >= 1<<20 || b <= -1<<20:
		return fmt.Sprintf("%.1f MiB", b/(1<<20))
	default:
		return fmt.Sprintf("%.1f KiB", b/(1<<10))
	}
}
