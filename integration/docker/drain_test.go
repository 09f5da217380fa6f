package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/testcontainers/testcontainers-go"

	"github.com/weftsync/weft/authz"
)

// TestDrainKeepsItsPace: a node with many sockets is told to end. Their clients would all come to the
// other nodes half a second after they are closed, so that must not be at once.
func TestDrainKeepsItsPace(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		drain(t, newNetwork(t), min(20_000, descriptors(t)-reserve), 2000, "WEFT_STORE=memory")
	})
	t.Run("beside another", func(t *testing.T) {
		network := newNetwork(t)
		redis := startRedisOn(t, network, "redis")
		startNode(t, "weft-2", redis)
		drain(t, network, 3000, 600, nodeSettings("weft-1", redis)...)
	})
}

// drain starts a node, opens sockets at it, ends it, and looks at when each is told.
func drain(t *testing.T, network *testcontainers.DockerNetwork, sockets, rate int, env ...string) {
	// The sockets answer no pings.
	p := planWeft(t, "weft-1", network, append(env, fmt.Sprint("WEFT_DRAIN_RATE=", rate), "WEFT_PING_INTERVAL=1h")...)
	p.nofile = int64(sockets + reserve)
	node := &weftServer{start(t, p)}
	if n := node.metric(t, "weft_drain_sockets_remaining"); n != 0 {
		t.Errorf("%v sockets remain before there is a drain", n)
	}
	open := openRaw(t, net.JoinHostPort(node.ip(t), strconv.Itoa(weftPort)), sockets)
	if n := node.metric(t, "weft_connections"); int(n) != sockets {
		t.Fatalf("%v sockets are open, want %d", n, sockets)
	}

	node.Terminate(t)
	<-open.first
	if code, body, err := get("http://" + node.addr(adminPort) + "/readyz"); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("a socket has been closed, and /readyz answers %d %q, %v", code, body, err)
	}
	last := float64(sockets)
	for seen := 0; ; seen++ {
		n, err := node.lookUp("weft_drain_sockets_remaining")
		if err != nil || n == 0 {
			if seen == 0 {
				t.Errorf("the drain could not be watched: %v, %v", n, err)
			}
			break
		}
		if n > last {
			t.Errorf("%v sockets remained, and then %v", last, n)
		}
		last = n
		time.Sleep(200 * time.Millisecond) // between two looks
	}
	if code := node.exitCode(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	closed := open.wait(t)
	took := closed[len(closed)-1].Sub(closed[0])
	t.Logf("%d sockets were closed within %v", len(closed), took.Round(time.Millisecond))
	if least := time.Duration(sockets) * time.Second * 8 / 10 / time.Duration(rate); took < least {
		t.Errorf("%d sockets were closed within %v, at %d a second", sockets, took, rate)
	}
	for from, to := 0, 0; from < len(closed); from++ {
		for to < len(closed) && closed[to].Sub(closed[from]) < time.Second {
			to++
		}
		if n := to - from; n > rate*3/2 {
			t.Fatalf("%d sockets were closed within a second, at %d a second", n, rate)
		}
	}
}

// rawSockets are sockets that send nothing and know when they were told to come back.
type rawSockets struct {
	first  chan struct{} // closed with the first of them
	once   sync.Once
	read   sync.WaitGroup
	mu     sync.Mutex
	closed []time.Time
	wrong  []error
}

// openRaw opens sockets at an address, ten to a room, and returns when all are upgraded.
func openRaw(t *testing.T, addr string, n int) *rawSockets {
	t.Helper()
	r := &rawSockets{first: make(chan struct{})}
	var next atomic.Int64
	var dialling sync.WaitGroup
	for range 32 {
		dialling.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := r.open(t, addr, fmt.Sprintf("drain-%d", i/10), fmt.Sprint("c", i)); err != nil {
					t.Errorf("socket %d: %v", i, err)
					next.Store(int64(n))
				}
			}
		})
	}
	dialling.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return r
}

func (r *rawSockets) open(t *testing.T, addr, room, client string) error {
	token, err := authz.Mint([]byte(secret), authz.MintConfig{Room: room, TTL: time.Hour})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q := url.Values{"roomId": {room}, "clientId": {client}, "token": {token}}
	conn, early, _, err := ws.Dialer{ReadBufferSize: 1024, WriteBufferSize: 1024}.Dial(ctx, "ws://"+addr+"/?"+q.Encode())
	if err != nil {
		return err
	}
	t.Cleanup(func() { conn.Close() })
	if early == nil {
		early = bufio.NewReaderSize(conn, 256)
	}
	r.read.Go(func() {
		at, err := readUntilClose(early)
		conn.Close()
		r.once.Do(func() { close(r.first) })
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			r.wrong = append(r.wrong, fmt.Errorf("%s: %w", client, err))
			return
		}
		r.closed = append(r.closed, at)
	})
	return nil
}

// readUntilClose reads frames until one asks to close with 1012, and says when that came.
func readUntilClose(in *bufio.Reader) (time.Time, error) {
	for {
		h, err := ws.ReadHeader(in)
		if err != nil {
			return time.Time{}, err
		}
		if h.OpCode != ws.OpClose {
			if _, err := in.Discard(int(h.Length)); err != nil {
				return time.Time{}, err
			}
			continue
		}
		at := time.Now()
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(in, body); err != nil {
			return time.Time{}, err
		}
		if code, reason := ws.ParseCloseFrameData(body); code != 1012 {
			return time.Time{}, fmt.Errorf("closed with %d %q", code, reason)
		}
		return at, nil
	}
}

// wait returns when each was told, in order.
func (r *rawSockets) wait(t *testing.T) []time.Time {
	t.Helper()
	r.read.Wait()
	if len(r.wrong) > 0 {
		t.Fatalf("%d sockets ended otherwise than by 1012: %v", len(r.wrong), errors.Join(r.wrong[:min(5, len(r.wrong))]...))
	}
	slices.SortFunc(r.closed, time.Time.Compare)
	return r.closed
}

// lookUp reads a metric without labels from a node's admin address.
func (w *weftServer) lookUp(name string) (float64, error) {
	code, body, err := get("http://" + w.addr(adminPort) + "/metrics")
	if err != nil || code != http.StatusOK {
		return 0, fmt.Errorf("/metrics: %d, %w", code, err)
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

func (w *weftServer) metric(t *testing.T, name string) float64 {
	t.Helper()
	v, err := w.lookUp(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// reserve is how many descriptors this process, and a node, may need beside sockets.
const reserve = 1000

// descriptors raises how many files this process may have open as far as the machine lets it, which is
// as far as it lets a container.
func descriptors(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		t.Fatal(err)
	}
	if limit.Max < 5*reserve {
		t.Fatalf("the machine allows %d open files, which is too few for this test: raise ulimit -Hn", limit.Max)
	}
	return int(min(limit.Max, 1<<20))
}
