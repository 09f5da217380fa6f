package load

import (
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// recorder holds the clock and all that is counted. Times are nanoseconds since base, on the
// monotonic clock; senders and receivers share it because they share the process.
type recorder struct {
	base time.Time

	// The measured window, set once before the writers start; until then it lies in no time.
	from, to atomic.Int64

	sends     atomic.Int64 // patches planned within the window and written
	expected  atomic.Int64 // deliveries which these must cause
	delivered atomic.Int64 // those that came, whenever they came
	acks      atomic.Int64 // acks of patches planned within the window, whenever they came
	arrivals  atomic.Int64 // deliveries that came within the window, whenever they were sent
	bytes     atomic.Int64 // bytes received within the window

	free chan *scratch
	all  []*scratch

	ramp, join, lag histogram

	mu     sync.Mutex
	errors map[string]int64
}

// scratch is what one needs to work on received bytes: histograms that nobody else touches
// meanwhile, and a buffer to read into. A receiver has its own; other readers borrow one.
type scratch struct {
	buf           []byte
	delivery, ack *hdrhistogram.Histogram // µs
	tags          []int64
}

func newRecorder() *recorder {
	// A borrower never waits while it holds a scratch, so a few for each processor are enough.
	n := 4 * runtime.GOMAXPROCS(0)
	r := &recorder{base: time.Now(), free: make(chan *scratch, n), errors: map[string]int64{}}
	for range n {
		r.free <- r.newScratch()
	}
	r.from.Store(math.MaxInt64)
	for _, h := range []*histogram{&r.ramp, &r.join, &r.lag} {
		h.h = newHistogram()
	}
	return r
}

// newScratch makes a scratch that will be counted. Only before the run.
func (r *recorder) newScratch() *scratch {
	s := &scratch{buf: make([]byte, 64<<10), delivery: newHistogram(), ack: newHistogram()}
	r.all = append(r.all, s)
	return s
}

func (r *recorder) borrow() *scratch    { return <-r.free }
func (r *recorder) giveBack(s *scratch) { r.free <- s }
func (r *recorder) now() int64          { return int64(time.Since(r.base)) }

// inWindow tells whether the time t lies in the measured window.
func (r *recorder) inWindow(t int64) bool { return t >= r.from.Load() && t < r.to.Load() }

func (r *recorder) fail(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[kind]++
}

func (r *recorder) failures() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.errors)
}

// complete tells whether all that was sent has come back.
func (r *recorder) complete() bool {
	return r.delivered.Load() >= r.expected.Load() && r.acks.Load() >= r.sends.Load()
}

// newHistogram counts microseconds from 1 µs to 10 min, to three digits. Beyond the ends it clamps.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxMicros, 3) }

const maxMicros = int64(10 * time.Minute / time.Microsecond)

// record adds a duration of ns nanoseconds to h.
func record(h *hdrhistogram.Histogram, ns int64) {
	// The value is within the histogram's range, so that there is no error to handle.
	_ = h.RecordValue(min(max(ns/1000, 1), maxMicros))
}

// histogram is one that several goroutines may add to.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func (h *histogram) record(ns int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	record(h.h, ns)
}

// merged adds up the histogram that pick chooses of every scratch. Only when all readers have ended.
func (r *recorder) merged(pick func(*scratch) *hdrhistogram.Histogram) *hdrhistogram.Histogram {
	sum := newHistogram()
	for _, s := range r.all {
		sum.Merge(pick(s))
	}
	return sum
}

// reason turns a network error into a short kind, which names neither address nor token.
func reason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no free port"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection ended"
	case errors.Is(err, errFrame):
		return "malformed frame"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "failed"
}
