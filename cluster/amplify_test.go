package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// ackSocket counts acks.
type ackSocket struct {
	mu     sync.Mutex
	acks   int
	closed string
}

func (s *ackSocket) Send(f protocol.Frame) {
	if strings.Contains(string(f.Text()), `"ack"`) {
		s.mu.Lock()
		s.acks++
		s.mu.Unlock()
	}
}

func (s *ackSocket) Close(c protocol.Close) {
	s.mu.Lock()
	s.closed = c.Reason
	s.mu.Unlock()
}

func (s *ackSocket) await(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " acks"), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed != "" {
			t.Fatalf("the socket closed: %s", s.closed)
		}
		return s.acks >= n
	})
}

// joinFor joins a node that leaves when the test ends.
func joinFor(t *testing.T, addr string, change func(*Config)) *Node {
	t.Helper()
	c := joinConfig(addr)
	change(&c)
	n, err := Join(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := n.Leave(ctx, protocol.CloseRestart); err != nil {
			t.Error(err)
		}
	})
	return n
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// sizeOfFiles is how much there is in a folder of append-only files.
func sizeOfFiles(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.aof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no append-only file: %v", err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// Small edits all over a large room cost about what their log costs: the room is
// not written again and again.
func TestScatteredEditsOfALargeRoomAreCheap(t *testing.T) {
	dir := t.TempDir()
	addr := startRealRedis(t, "--dir", dir, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
	r := redis.NewClient(&redis.Options{Addr: addr})
	defer r.Close()
	n := joinFor(t, addr, func(c *Config) { c.SaveInterval = 50 * time.Millisecond })
	socket := &ackSocket{}
	s, err := n.Connect(t.Context(), "large", room.ConnectOptions{Client: "c", Socket: socket, Grant: room.Grant{Permission: room.ReadWrite}})
	if err != nil {
		t.Fatal(err)
	}
	const components, at = 100_000, 1000
	text := strings.Repeat("some text of a shape, ", 14)
	for from := 0; from < components; from += at {
		b := fmt.Appendf(nil, `{"type":"patch","messageId":"f%d","documentPatches":[{`, from)
		for k := from; k < from+at; k++ {
			if k > from {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `"key%d/Shape":{"_exists":true,"x":%d,"text":%q}`, k, k, text)
		}
		s.Receive(append(b, `}]}`...))
	}
	acks := components / at
	socket.await(t, acks)
	eventually(t, "the room to be saved", func() bool {
		i := n.life.Load()
		used, err := r.HGet(t.Context(), i.keys.meta(partitionOf("large")), "cut").Int64()
		put, err2 := r.HGet(t.Context(), i.keys.meta(partitionOf("large")), "put").Int64()
		return err == nil && err2 == nil && used == put
	})
	dice := rand.New(rand.NewPCG(1, 2))
	before, saves, edits := sizeOfFiles(t, dir), n.Stats().Saves, 0
	const rounds, perRound = 15, 77
	for round := range rounds {
		for i := range perRound {
			text := fmt.Appendf(nil, `{"type":"patch","messageId":"e%d.%d","documentPatches":[{"key%d/Shape":{"x":%d}}]}`, round, i, dice.IntN(components), i)
			edits += len(text)
			s.Receive(text)
			acks++
			socket.await(t, acks)
		}
		time.Sleep(60 * time.Millisecond) // a save could begin
	}
	time.Sleep(200 * time.Millisecond)
	wrote := sizeOfFiles(t, dir) - before
	t.Logf("%d edits of %d bytes: %d bytes of AOF, %.1f times as many, %d saves", rounds*perRound, edits, wrote, float64(wrote)/float64(edits), n.Stats().Saves-saves)
	if wrote > 20*int64(edits) {
		t.Errorf("%d bytes of edits made Redis write %d bytes", edits, wrote)
	}
}

// dear is a room whose changes are not saved so soon: a page has a value of 2 MiB
// beside what is edited.
func dear(t *testing.T, n *Node, r *redis.Client) (s room.Session, edit func(times int)) {
	t.Helper()
	socket := &ackSocket{}
	s, err := n.Connect(t.Context(), "dear", room.ConnectOptions{Client: "c", Socket: socket, Grant: room.Grant{Permission: room.ReadWrite}})
	if err != nil {
		t.Fatal(err)
	}
	s.Receive(fmt.Appendf(nil, `{"type":"patch","messageId":"m","documentPatches":[{"large":{"_exists":true,"v":%q},"small":{"_exists":true}}]}`, strings.Repeat("v", 2<<20)))
	socket.await(t, 1)
	eventually(t, "the room to be saved", func() bool { return untrimmed(t, n, r) == 0 })
	acks := 1
	return s, func(times int) {
		for range times {
			acks++
			s.Receive(fmt.Appendf(nil, `{"type":"patch","messageId":"m%d","documentPatches":[{"small":{"x":%d,"y":%q}}]}`, acks, acks, strings.Repeat("y", 1000)))
			socket.await(t, acks)
		}
	}
}

// untrimmed is how many bytes the log of that room has.
func untrimmed(t *testing.T, n *Node, r *redis.Client) int {
	t.Helper()
	meta, err := r.HGetAll(t.Context(), n.life.Load().keys.meta(partitionOf("dear"))).Result()
	if err != nil {
		t.Fatal(err)
	}
	put, _ := strconv.Atoi(meta["put"])
	cut, _ := strconv.Atoi(meta["cut"])
	return put - cut
}

// A room that nobody uses any more is saved whatever that costs.
func TestARoomThatIsDearToSaveLeavesTheMemory(t *testing.T) {
	addr := startRealRedis(t)
	r := redis.NewClient(&redis.Options{Addr: addr})
	defer r.Close()
	n := joinFor(t, addr, func(c *Config) { c.SaveInterval, c.RoomIdleTimeout = 20*time.Millisecond, 500*time.Millisecond })
	s, edit := dear(t, n, r)
	edit(3)
	saves := n.Stats().Saves
	time.Sleep(200 * time.Millisecond) // saves could begin
	if got := n.Stats().Saves; got != saves {
		t.Errorf("a few edits were saved %d times", got-saves)
	}
	s.Leave()
	eventually(t, "the room to leave the memory", func() bool { return n.Stats().Rooms == 0 })
	if got := n.Stats().Saves; got != saves+1 {
		t.Errorf("it was saved %d times", got-saves)
	}
}

// Who gets a partition need not replay a long log.
func TestALongLogIsSavedBeforeItsPartitionIsHandedOver(t *testing.T) {
	addr := startRealRedis(t)
	r := redis.NewClient(&redis.Options{Addr: addr})
	defer r.Close()
	n := joinFor(t, addr, func(c *Config) { c.SaveInterval = 20 * time.Millisecond })
	_, edit := dear(t, n, r)
	edit(200)
	if got := untrimmed(t, n, r); got < 200_000 {
		t.Fatalf("the log has %d bytes", got)
	}
	if err := n.Leave(t.Context(), protocol.CloseRestart); err != nil {
		t.Error(err)
	}
	if got := untrimmed(t, n, r); got > handOverLog {
		t.Errorf("a log of %d bytes is handed over", got)
	}
}
