package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// forgetfulRedis is a redis-server that can go back to an earlier moment: its
// append-only file is cut where it ended then.
type forgetfulRedis struct {
	*redis.Client
	t    testing.TB
	addr string
	dir  string
	cmd  *exec.Cmd
}

func startForgetfulRedis(t testing.TB) *forgetfulRedis {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	r := &forgetfulRedis{t: t, addr: freeAddr(t), dir: t.TempDir()}
	r.Client = redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1})
	t.Cleanup(func() { r.Close() })
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *forgetfulRedis) start() {
	r.t.Helper()
	host, port, _ := strings.Cut(r.addr, ":")
	r.cmd = exec.Command("redis-server", "--bind", host, "--port", port, "--dir", r.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "Redis to answer", func() bool { return r.Ping(context.Background()).Err() == nil })
}

func (r *forgetfulRedis) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *forgetfulRedis) file() string {
	r.t.Helper()
	list, err := filepath.Glob(filepath.Join(r.dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(list) != 1 {
		r.t.Fatal(list, err)
	}
	return list[0]
}

// moment is where the file ends now: between two commands, since all of one go in at once.
func (r *forgetfulRedis) moment() int64 {
	r.t.Helper()
	info, err := os.Stat(r.file())
	if err != nil {
		r.t.Fatal(err)
	}
	return info.Size()
}

// forget lets Redis die and come back as it was at a moment.
func (r *forgetfulRedis) forget(moment int64) {
	r.t.Helper()
	r.kill()
	if err := os.Truncate(r.file(), moment); err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

// witness is a client whose socket keeps all that it gets.
type witness struct {
	t       *testing.T
	session room.Session

	mu     sync.Mutex
	frames []string
	closed *protocol.Close
}

func (w *witness) Send(f protocol.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frames = append(w.frames, string(f.Text()))
}

func (w *witness) Close(c protocol.Close) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = &c
}

func (w *witness) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(strings.Join(w.frames, "\n"), text)
}

func (w *witness) gets(text string) {
	w.t.Helper()
	eventually(w.t, text, func() bool { return w.has(text) })
}

func (w *witness) say(format string, args ...any) {
	w.session.Receive(fmt.Appendf(nil, format, args...))
}

// draw sends an edit that creates a key, which is its messageId, too.
func (w *witness) draw(key string) {
	w.say(`{"type":"patch","messageId":%q,"documentPatches":[{%q:{"_exists":true}}]}`, key, key)
}

func (w *witness) drawn(key string) {
	w.t.Helper()
	w.draw(key)
	w.gets(fmt.Sprintf(`"ack","messageId":%q`, key))
}

// visit joins a room and gets what there is.
func visit(t *testing.T, n *Node, roomID, client string) *witness {
	t.Helper()
	w := &witness{t: t}
	var err error
	w.session, err = n.Connect(t.Context(), roomID, room.ConnectOptions{Client: client, Socket: w, Grant: room.Grant{Permission: room.ReadWrite}})
	if err != nil {
		t.Fatal(err)
	}
	w.say(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)
	w.gets(`"type":"synced"`)
	return w
}

// startNode joins with quick saves; the node leaves when the test ends.
func startNode(t *testing.T, redisAddr string, change func(*Config)) *Node {
	t.Helper()
	config := joinConfig(redisAddr)
	config.SaveInterval, config.RoomIdleTimeout = 300*time.Millisecond, time.Millisecond
	if change != nil {
		change(&config)
	}
	n, err := Join(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = n.Leave(ctx, protocol.CloseRestart)
	})
	return n
}

// besides finds another room of the same partition.
func besides(roomID string) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("neighbour", i); partitionOf(name) == partitionOf(roomID) {
			return name
		}
	}
}

// A room is quiet after an edit that was acknowledged. Its checkpoint is written, and
// the log trimmed, and Redis forgets both. Then only its neighbours are used.
func TestACheckpointThatRedisForgets(t *testing.T) {
	for name, wait := range map[string]bool{"and the next room to be used is another": false, "and nothing is used": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startForgetfulRedis(t)
			n := startNode(t, r.addr, nil)
			k := keys{"weft:"}
			const quiet = "quiet"
			p, neighbour := partitionOf(quiet), besides(quiet)

			timestamp := k.partition(p, "r:"+quiet)
			var acked int64
			for i := 1; ; i++ { // until the room is quiet before it is saved
				w := visit(t, n, quiet, "w")
				w.drawn(fmt.Sprint("k", i))
				w.session.Leave()
				eventually(t, "all to be applied", func() bool {
					appended := n.stats.appended.Load()
					return n.life.Load().edge.partitions[p].idle() && n.stats.applied.Load() == appended
				})
				acked = r.moment()
				if saved, _ := r.HGet(t.Context(), timestamp, "timestamp").Int(); saved < i {
					break
				}
			}
			eventually(t, "the log to be trimmed", func() bool {
				x, err := r.XLen(t.Context(), k.log(p)).Result()
				return err == nil && x == 0
			})
			r.forget(acked) // what was acknowledged is in the log then, and not in the checkpoint
			if wait {
				eventually(t, "the owner to notice", func() bool { return n.stats.mended.Load() > 0 })
			} else {
				other := visit(t, n, neighbour, "other")
				other.drawn("n")
				other.session.Leave()
			}
			eventually(t, "the log to be trimmed again", func() bool {
				x, err := r.XLen(t.Context(), k.log(p)).Result()
				return err == nil && x == 0
			})
			eventually(t, "the room to be evicted", func() bool { return n.stats.rooms.sum() == 0 })
			if again := visit(t, n, quiet, "again"); !again.has(`"k1"`) {
				t.Errorf("an acknowledged edit is lost: %q", again.frames)
			}
		})
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// idle reports whether everything of this edge has been applied.
func (p *edgePartition) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sender.idle()
}
