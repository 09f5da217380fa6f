package cluster

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// limitsLog is a log of two edges with different limits: strict refuses what
// generous lets in, of every limit that there is.
func limitsLog() *memoryLog {
	strict := room.Limits{MaxDocumentBytes: 3000, MaxPresenceBytes: 2000, MaxSessions: 3}
	generous := room.Limits{}.WithDefaults()
	join := func(session string) item {
		return item{kind: itemJoin, room: "r", session: session, client: session, grant: roomWriter}
	}
	patch := func(session, id, members string) item {
		return item{kind: itemMessage, room: "r", session: session, text: []byte(`{"type":"patch","messageId":"` + id + `",` + members + `}`)}
	}
	long := strings.Repeat("x", 500)
	document := func(session, id string) item {
		return patch(session, id, fmt.Sprintf(`"documentPatches":[{%q:{"_exists":true,"x":%q}}]`, id, long))
	}
	log := &memoryLog{rooms: map[string]*roomCheckpoint{}}
	add := func(edge string, limits room.Limits, number uint64, items ...item) {
		log.entries = append(log.entries, &batch{edge: edge, number: number, limits: limits, items: items})
	}
	add("generous", generous, 1, join("a"), join("b"))
	add("strict", strict, 1, join("c"), join("full"))
	add("generous", generous, 2, join("d"), document("a", "first"), document("a", "second"), document("a", "third"),
		patch("b", "presence", fmt.Sprintf(`"ephemeralPatches":[{"k":{"_exists":true,"x":%q}},{"k":{"_exists":false,%q:1}}]`, long, long)),
		patch("b", "buffer", `"documentPatches":[{"buffer":{"_exists":true,"x":{"__buf":1,"len":1000001,"runs":[]}}}]`))
	add("strict", strict, 2, document("c", "refused"))
	add("generous", generous, 3, document("d", "last"),
		patch("b", "presence2", fmt.Sprintf(`"ephemeralPatches":[{"k":{"_exists":true,"x":%q}}]`, long)))
	return log
}

// What an edge has let in is applied by whoever owns the room; what one edge refuses
// is refused for its own sessions alone. This is the same for a node that takes
// over at any place, from whichever checkpoints.
func TestLimitsAreThoseOfTheEdge(t *testing.T) {
	log := limitsLog()
	want := log.play(newFold(partitionCheckpoint{}, log))
	text := strings.Join(want, "\n")
	for _, id := range []string{"first", "second", "third", "presence", "buffer", "last", "presence2"} {
		if !strings.Contains(text, `{"type":"ack","messageId":"`+id+`"`) {
			t.Errorf("%s is not acknowledged", id)
		}
	}
	for _, closed := range []string{"strict r/full closed 1013 room is full", "strict r/c closed 1008 document is full: it may have 3000 bytes"} {
		if !strings.Contains(text, closed) {
			t.Errorf("nobody is told: %s", closed)
		}
	}
	if n := strings.Count(text, " closed "); n != 2 {
		t.Errorf("%d sessions are closed:\n%s", n, text)
	}
	for cut := range log.entries {
		first := newFold(partitionCheckpoint{}, log)
		var told []string
		log.history(ID{}, ID{1, uint64(cut) + 1}, func(id ID, b *batch) {
			outputs, _ := first.apply(id, b)
			told = append(told, tellText(outputs)...)
		})
		restored := &memoryLog{entries: log.entries, rooms: map[string]*roomCheckpoint{}}
		for name, r := range first.rooms {
			c := r.checkpoint()
			text, err := c.snapshot.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if c.snapshot, err = room.ParseSnapshot(text); err != nil {
				t.Fatal(err)
			}
			restored.rooms[name] = c
		}
		told = append(told, restored.play(newFold(first.checkpoint(), restored))...)
		if !reflect.DeepEqual(told, want) {
			t.Errorf("from a checkpoint after entry %d is told\n%s\nwant\n%s", cut+1, strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
	}
}

// A node with low limits takes over from one with high ones that has checkpointed
// nothing.
func TestTakeoverWithOtherLimits(t *testing.T) {
	options := &redis.UniversalOptions{Addrs: []string{startRealRedis(t)}}
	join := func(name string, limits room.Limits, others ...string) *Node {
		n, err := Join(t.Context(), Config{
			Redis: options, NodeName: name, GossipListen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", Join: others,
			SaveInterval: time.Hour, Limits: limits,
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	connect := func(n *Node, client string) (*recorder, room.Session) {
		s := &recorder{}
		session, err := n.Connect(t.Context(), "r", room.ConnectOptions{Socket: s, Client: client, Grant: roomWriter})
		if err != nil {
			t.Fatal(err)
		}
		return s, session
	}
	generous := join("generous", room.Limits{})
	socket, session := connect(generous, "alice")
	long := strings.Repeat("x", 1000)
	for n := range 10 {
		session.Receive(fmt.Appendf(nil, `{"type":"patch","messageId":"m%d","documentPatches":[{"k%d":{"_exists":true,"x":%q}}]}`, n, n, long))
	}
	socket.want(t, `"messageId":"m9"`)

	strict := join("strict", room.Limits{MaxDocumentBytes: 5000}, generous.life.Load().gossip.address().String())
	t.Cleanup(func() {
		if err := strict.Leave(context.Background(), protocol.CloseRestart); err != nil {
			t.Error(err)
		}
	})
	generous.cancel() // it crashes
	generous.tasks.Wait()
	generous.life.Load().abandon()
	if err := generous.clients.close(); err != nil {
		t.Error(err)
	}

	socket, session = connect(strict, "bob")
	session.Receive([]byte(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`))
	socket.want(t, `"synced","timestamp":10}`)
	for n := range 10 {
		socket.want(t, fmt.Sprintf(`"k%d":`, n))
	}
	// What it takes itself is another matter.
	session.Receive([]byte(`{"type":"patch","messageId":"m","documentPatches":[{"k":{"_exists":true}}]}`))
	socket.want(t, "closed 1008 document is full: it may have 5000 bytes")
}

// recorder is a socket that keeps what it gets.
type recorder struct {
	mu   sync.Mutex
	told []string
}

func (r *recorder) Send(f protocol.Frame) { r.add(string(f.Text())) }
func (r *recorder) Close(c protocol.Close) {
	r.add(fmt.Sprint("closed ", c.Code, " ", c.Reason))
}

func (r *recorder) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, text)
}

// want waits until the socket has got a text.
func (r *recorder) want(t *testing.T, part string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		got := strings.Join(r.told, "\n")
		r.mu.Unlock()
		if strings.Contains(got, part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the socket does not get %s but\n%s", part, got)
		}
	}
}
