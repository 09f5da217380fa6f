package cluster

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// A room that has forgotten timestamps passes over them, in the same way at every
// owner, and no edge takes that for something missing.
func TestForgottenTimestampsAreNoGap(t *testing.T) {
	join := func(session string) item {
		return item{kind: itemJoin, room: "r", session: session, client: session, grant: roomWriter}
	}
	says := func(session, text string) item {
		return item{kind: itemMessage, room: "r", session: session, text: []byte(text)}
	}
	log := &memoryLog{rooms: map[string]*roomCheckpoint{}, entries: []*batch{
		{edge: "e1", number: 1, items: []item{join("a"), patchItem("a", "one")}},
		{edge: "e2", number: 1, items: []item{join("b")}},
		{edge: "e1", number: 2, items: []item{says("a", `{"type":"reconnect","protocolVersion":2,"lastTimestamp":5}`)}},
		{edge: "e1", number: 3, items: []item{patchItem("a", "two"), patchItem("a", "three")}},
		{edge: "e2", number: 2, items: []item{says("b", `{"type":"reconnect","protocolVersion":2,"lastTimestamp":4}`)}},
	}}
	told := log.play(newFold(partitionCheckpoint{}, log))
	text := strings.Join(told, "\n")
	for _, want := range []string{
		`e1 r/a {"type":"resync","since":1}` + "\n" + `e1 r/a {"type":"synced","timestamp":1}`,
		`e1 r/a {"type":"ack","messageId":"two","timestamp":100}`, // the log's millisecond is 1
		`e1 r/a {"type":"ack","messageId":"three","timestamp":101}`,
		`e2 r/b {"type":"resync","since":1}` + "\n" + `e2 r/b {"type":"patch","clientId":"","documentPatches":[{"two":{"_exists":true},"three":{"_exists":true}}],"timestamp":101}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nobody is told\n%s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}

	// A new owner, from a checkpoint before the timestamps are passed over.
	first := newFold(partitionCheckpoint{}, log)
	var before []string
	log.history(ID{}, ID{1, 3}, func(id ID, b *batch) {
		outputs, _ := first.apply(id, b)
		before = append(before, tellText(outputs)...)
	})
	next := &memoryLog{entries: log.entries, rooms: map[string]*roomCheckpoint{"r": first.rooms["r"].checkpoint()}}
	after := next.play(newFold(first.checkpoint(), next))
	if again := slices.Concat(before, after); !reflect.DeepEqual(again, told) {
		t.Errorf("from a checkpoint is told\n%s\nwant\n%s", strings.Join(again, "\n"), text)
	}

	// The edges.
	for _, edge := range []string{"e1", "e2"} {
		var whole, holed receiver
		wholeMissing, holedMissing := 0, 0
		f := newFold(partitionCheckpoint{}, log)
		log.history(ID{}, ID{2, 0}, func(id ID, b *batch) {
			outputs, _ := f.apply(id, b)
			x, y := bundle{edge: edge, epoch: 1, upto: id}, bundle{edge: edge, epoch: 1, upto: id}
			for _, o := range outputs {
				if o.edge != edge || o.diff != nil {
					continue
				}
				x.outputs = append(x.outputs, o)
				if !o.passed {
					y.outputs = append(y.outputs, o)
				}
			}
			local := func(string) bool { return true }
			h := whole.accept(&x, local)
			wholeMissing += len(h.missing)
			for _, o := range h.outputs {
				if o.passed {
					t.Error("an edge is to deliver that timestamps are passed over")
				}
			}
			holedMissing += len(holed.accept(&y, local).missing)
		})
		if wholeMissing != 0 || holedMissing == 0 {
			t.Errorf("%s misses %d, and %d if it is not told", edge, wholeMissing, holedMissing)
		}
	}

	// What was passed over is still missing to who had not heard of the last before.
	late := receiver{rooms: map[string]int64{"r": 3}}
	if h := late.accept(&bundle{epoch: 1, upto: ID{1, 1}, outputs: []output{
		{id: ID{1, 1}, room: "r", passed: true, passedFrom: 4, timestamp: 100},
	}}, func(string) bool { return true }); len(h.missing) != 1 {
		t.Error("an edge that has missed a timestamp does not notice")
	}
}

// If a room goes back under sessions that live, they get what comes, and then they
// are closed: they come back and say what they have seen.
func TestRoomThatGoesBackClosesItsSessions(t *testing.T) {
	frame := protocol.NewFrame([]byte(`{}`))
	local := func(string) bool { return true }
	var r receiver
	hear := func(epoch, ms uint64, room string, timestamps ...int64) heard {
		b := bundle{epoch: epoch, upto: ID{MS: ms}}
		for _, at := range timestamps {
			b.outputs = append(b.outputs, output{id: ID{MS: ms}, room: room, frame: frame, timestamp: at})
		}
		return r.accept(&b, local)
	}
	if h := hear(1, 1, "r", 3, 4, 5, 5); len(h.missing) != 0 || len(h.outputs) != 4 {
		t.Errorf("%+v", h)
	}
	hear(1, 2, "other", 7)
	if h := hear(2, 2, "r", 4); len(h.missing) != 0 || len(h.outputs) != 0 {
		t.Errorf("told again: %+v", h)
	}
	why := protocol.CloseInternal
	if h := r.accept(&bundle{epoch: 2, upto: ID{MS: 3}, outputs: []output{{id: ID{MS: 3}, room: "r", to: "s", close: &why}}}, local); len(h.missing) != 0 {
		t.Errorf("a room that cannot be loaded: %+v", h)
	}
	h := hear(2, 4, "r", 4, 5)
	if len(h.outputs) != 2 || !reflect.DeepEqual(h.missing, []string{"r"}) {
		t.Errorf("%+v", h)
	}
	if h := hear(2, 5, "other", 8); len(h.missing) != 0 || len(h.outputs) != 1 {
		t.Errorf("another room: %+v", h)
	}
}

// Checkpoints keep which timestamps are forgotten.
func TestForgottenIsKept(t *testing.T) {
	options := &redis.UniversalOptions{Addrs: []string{startRealRedis(t)}}
	live := func(last, wait string) {
		n, err := Join(t.Context(), Config{Redis: options, NodeName: "a", GossipListen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", SaveInterval: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		socket := &recorder{}
		session, err := n.Connect(t.Context(), "r", room.ConnectOptions{Socket: socket, Client: "alice", Grant: roomWriter})
		if err != nil {
			t.Fatal(err)
		}
		session.Receive([]byte(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":` + last + `}`))
		socket.want(t, `"synced"`)
		socket.want(t, wait)
		session.Receive([]byte(`{"type":"patch","messageId":"m","documentPatches":[{"k":{"_exists":true}}]}`))
		socket.want(t, `"messageId":"m"`)
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			c, _, err := n.life.Load().store.Load(t.Context(), partitionOf("r"), "r")
			if err == nil && c != nil && c.Snapshot.Len() == 1 && len(c.Snapshot.Forgotten()) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it is not saved: %+v, %v", c, err)
			}
		}
		if err := n.Leave(t.Context(), protocol.CloseRestart); err != nil {
			t.Error(err)
		}
	}
	live("5", `{"type":"resync","since":0}`)
	live("4", `{"type":"resync","since":0}`)
}
