package docker

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/integration/docker/faults"
)

// How a node of a cluster ends, and what it says of itself while Redis is away.

// drainLimit is how soon a node must have ended after SIGTERM.
const drainLimit = 10 * time.Second

// member is a node of a cluster on this machine.
type member struct {
	*process
	name, url string
}

// startMembers starts nodes that share a Redis, and waits until each owns its part. flags are for all.
func startMembers(t testing.TB, r *redisServer, n int, flags ...string) []*member {
	t.Helper()
	var gossip []string
	for range n {
		gossip = append(gossip, fmt.Sprintf("%s:%d", loopback, freePort(t)))
	}
	var all []*member
	for i, address := range gossip {
		public := fmt.Sprintf("%s:%d", loopback, freePort(t))
		m := &member{name: fmt.Sprintf("node-%d", i+1), url: "ws://" + public + "/"}
		m.process = runWeft(t, r.URL(), append([]string{
			"--listen", public, "--gossip-listen", address, "--join", strings.Join(gossip, ","), "--node-name", m.name,
		}, flags...)...)
		all = append(all, m)
		t.Cleanup(func() {
			if t.Failed() {
				_ = m.cmd.Process.Kill()
				<-m.ended
				t.Logf("log of %s:\n%s", m.name, &m.out)
			}
		})
	}
	for _, m := range all {
		m.awaitReady(t)
	}
	waitFor(t, "every node to own its part", func() bool {
		owned, sum := owners(t, r), 0
		for _, m := range all {
			if owned[m.name] < faults.Partitions/(2*n) {
				return false
			}
			sum += owned[m.name]
		}
		return sum == faults.Partitions // a claim that is still on its way would count later
	})
	return all
}

// owners counts the partitions that each node owns; those released are not owned.
func owners(t testing.TB, r *redisServer) map[string]int {
	t.Helper()
	var answers [faults.Partitions]*redis.SliceCmd
	_, err := r.Client().Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range answers {
			answers[i] = p.HMGet(t.Context(), fmt.Sprintf("weft:{p%d}:own", i), "owner", "released")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	owned := map[string]int{}
	for _, answer := range answers {
		owner, _ := answer.Val()[0].(string)
		if released := answer.Val()[1] == "1"; owner != "" && !released {
			owned[faults.NodeOf(owner)]++
		}
	}
	return owned
}

// signalled sends SIGTERM.
func (m *member) signalled(t testing.TB) (when time.Time) {
	t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return time.Now()
}

// endsInOrder waits for the end of a node that was told to, which must not take long.
func (m *member) endsInOrder(t testing.TB, told time.Time) {
	t.Helper()
	if code, _ := m.end(t); code != 0 {
		t.Errorf("%s ended with %d", m.name, code)
	}
	took := time.Since(told)
	t.Logf("%s was gone after %v", m.name, took.Round(time.Millisecond))
	if took > drainLimit {
		t.Errorf("%s took %v", m.name, took)
	}
}

// ready asks a node whether it is ready, and checks that it is alive in any case.
func (m *member) ready(t testing.TB) (code int, text string) {
	t.Helper()
	if code, _, err := get("http://" + m.admin + "/livez"); err != nil || code != http.StatusOK {
		t.Errorf("/livez of %s: %d, %v", m.name, code, err)
	}
	code, text, err := get("http://" + m.admin + "/readyz")
	if err != nil {
		t.Errorf("/readyz of %s: %v", m.name, err)
	}
	return code, text
}

// ear is a client that keeps what it hears.
type ear struct {
	name  string
	conn  *websocket.Conn
	ended chan struct{}        // closed with the socket
	code  websocket.StatusCode // of its close, once ended is closed

	mu    sync.Mutex
	heard strings.Builder
}

func listenTo(t testing.TB, m *member, room, client string) *ear {
	t.Helper()
	e := &ear{name: client + " at " + m.name, conn: dial(t, m.url, room, client), ended: make(chan struct{})}
	go func() {
		defer close(e.ended)
		for {
			_, text, err := e.conn.Read(context.Background()) // until the test's end cuts the socket
			if err != nil {
				e.code = websocket.CloseStatus(err)
				return
			}
			e.mu.Lock()
			e.heard.Write(text)
			e.mu.Unlock()
		}
	}()
	e.hears(t, "clientCount")
	return e
}

func (e *ear) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Contains(e.heard.String(), text)
}

func (e *ear) hears(t testing.TB, text string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%s to hear %s", e.name, text), func() bool { return e.has(text) })
}

func ackOf(id string) string { return fmt.Sprintf(`{"type":"ack","messageId":%q`, id) }

func (e *ear) says(t testing.TB, id string) {
	t.Helper()
	if err := sendPatch(t.Context(), e.conn, id); err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
}

func (e *ear) isToldToComeBack(t testing.TB) {
	t.Helper()
	select {
	case <-e.ended:
		if e.code != websocket.StatusServiceRestart {
			t.Errorf("%s was closed with %d, want 1012", e.name, e.code)
		}
	case <-time.After(patience):
		t.Fatalf("%s is still open", e.name)
	}
}

// manyEars has a client at each node in each of some rooms.
func manyEars(t testing.TB, nodes []*member) map[*member][]*ear {
	t.Helper()
	const rooms = 12
	ears := map[*member][]*ear{}
	for i := range rooms {
		for _, m := range nodes {
			e := listenTo(t, m, fmt.Sprintf("room-%d", i), "c-"+m.name)
			e.says(t, fmt.Sprintf("before-%d-%s", i, m.name))
			e.hears(t, ackOf(fmt.Sprintf("before-%d-%s", i, m.name)))
			ears[m] = append(ears[m], e)
		}
	}
	return ears
}

func TestNodesEndInOrder(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	nodes := startMembers(t, r, 3)
	ears := manyEars(t, nodes)

	for i, m := range nodes {
		rest := nodes[i+1:]
		told := m.signalled(t)
		for n, e := range ears[m] {
			e.isToldToComeBack(t)
			if n == 0 && len(rest) > 0 {
				if left := owners(t, r)[m.name]; left > 0 {
					t.Errorf("%s closes sockets while it owns %d partitions", m.name, left)
				}
			}
		}
		m.endsInOrder(t, told)
		for _, other := range rest {
			for n, e := range ears[other] {
				id := fmt.Sprintf("after-%d-%d-%s", i, n, other.name)
				e.says(t, id)
				e.hears(t, ackOf(id))
			}
		}
	}
	again := startMembers(t, r, 1)[0]
	for i := range 12 {
		e := listenTo(t, again, fmt.Sprintf("room-%d", i), "late")
		if !e.has(`{"type":"clientCount","count":1}`) {
			t.Errorf("room %d: the first client after the end hears %s", i, e.heard.String())
		}
		if err := e.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)); err != nil {
			t.Fatal(err)
		}
		e.hears(t, `"type":"synced"`)
		if last := fmt.Sprintf("after-1-%d-node-3", i); !e.has(last) {
			t.Errorf("room %d does not hold its last patch, %s: %s", i, last, e.heard.String())
		}
	}
}

func TestNodesThatEndAtOnceEndInOrder(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	nodes := startMembers(t, r, 3)
	ears := manyEars(t, nodes)
	var told time.Time
	for _, m := range nodes {
		told = m.signalled(t)
	}
	for _, m := range nodes {
		for _, e := range ears[m] {
			e.isToldToComeBack(t)
		}
		m.endsInOrder(t, told)
	}
	again := startMembers(t, r, 1)[0]
	for i := range 12 {
		e := listenTo(t, again, fmt.Sprintf("room-%d", i), "late")
		waitFor(t, "the sessions of the nodes that have ended to be gone", func() bool {
			return e.has(`{"type":"clientCount","count":1}`)
		})
	}
}

func TestNodeWithoutRedis(t *testing.T) {
	t.Parallel()
	for _, away := range []struct {
		name      string
		how, back func(r *redisServer)
	}{
		{"silent", func(r *redisServer) { r.Pause(t) }, func(r *redisServer) { r.Unpause(t) }},
		{"gone", func(r *redisServer) { r.Kill(t) }, func(r *redisServer) { r.Restart(t) }},
	} {
		t.Run(away.name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t, "--appendfsync", "always")
			m := startMembers(t, r, 1)[0]
			e := listenTo(t, m, "r", "c")
			e.says(t, "before")
			e.hears(t, ackOf("before"))

			away.how(r)
			e.says(t, "during")
			waitFor(t, "the node to be not ready", func() bool {
				code, text := m.ready(t)
				return code == http.StatusServiceUnavailable && strings.Contains(text, "Redis")
			})
			if e.has(ackOf("during")) {
				t.Error("what Redis does not have was acknowledged")
			}
			away.back(r)
			e.hears(t, ackOf("during"))
			m.awaitReady(t)
			select {
			case <-e.ended:
				t.Errorf("the socket was closed with %d", e.code)
			default:
			}

			// Without Redis nothing can be handed over. The node ends all the same, and says so.
			away.how(r)
			told := m.signalled(t)
			e.isToldToComeBack(t)
			code, output := m.end(t)
			if took := time.Since(told); code != 1 || took > drainLimit {
				t.Errorf("status %d after %v", code, took)
			}
			if !strings.Contains(output, "the other nodes will") {
				t.Errorf("it does not say what was not done:\n%s", output)
			}
			away.back(r)
			next := startMembers(t, r, 1)[0]
			e = listenTo(t, next, "r", "c")
			if err := e.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)); err != nil {
				t.Fatal(err)
			}
			e.hears(t, `"by":"during"`)
		})
	}
}

func TestSecondSignalEndsANodeAtOnce(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	m := startMembers(t, r, 1)[0]
	e := listenTo(t, m, "r", "c")
	r.Pause(t) // so that there is something to wait for
	m.signalled(t)
	e.isToldToComeBack(t)
	select {
	case <-m.ended:
		t.Fatalf("the node has ended although Redis is silent: this test proves nothing\n%s", &m.out)
	default:
	}
	told := m.signalled(t)
	code, _ := m.end(t)
	if took := time.Since(told); code != 128+int(syscall.SIGTERM) || took > time.Second {
		t.Errorf("status %d after %v, want 143 at once", code, took)
	}
	r.Unpause(t)
}

// Redis that stands still for a moment, so that hardly anything can be handed over at the first try.
func TestNodeEndsInOrderThoughRedisStalls(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	m := startMembers(t, r, 1, "--lease-ttl", "10s")[0]
	e := listenTo(t, m, "r", "c")
	r.Pause(t)
	told := m.signalled(t)
	e.isToldToComeBack(t)
	waitFor(t, "the first try to have failed", func() bool { return time.Since(told) > 2*time.Second })
	r.Unpause(t)
	m.endsInOrder(t, told)
	if owned := owners(t, r); len(owned) > 0 {
		t.Errorf("still owned: %v", owned)
	}
}
