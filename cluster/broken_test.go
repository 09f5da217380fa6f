package cluster

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// memoryLog is a log and its checkpoints in memory.
type memoryLog struct {
	entries []*batch
	rooms   map[string]*roomCheckpoint
	broken  []string
}

func (l *memoryLog) load(name string) (*roomCheckpoint, error) { return l.rooms[name], nil }
func (l *memoryLog) live() []string                            { return nil }
func (l *memoryLog) broke(at place, room, session string, tries int) {
	l.broken = append(l.broken, fmt.Sprint(at, " ", room, " ", session, " ", tries))
}

func (l *memoryLog) held(at place) { l.broken = append(l.broken, fmt.Sprint(at, " held")) }

func (l *memoryLog) history(base, upto ID, yield func(ID, *batch)) {
	for n, b := range l.entries {
		if id := (ID{1, uint64(n) + 1}); id.After(base) && !id.After(upto) {
			if b.limits == (room.Limits{}) {
				b.limits = room.Limits{}.WithDefaults()
			}
			yield(id, b)
		}
	}
}

// play applies all entries and returns what was told, as text.
func (l *memoryLog) play(f *fold) (told []string) {
	l.history(f.position, ID{2, 0}, func(id ID, b *batch) {
		outputs, _ := f.apply(id, b)
		told = append(told, tellText(outputs)...)
	})
	return told
}

func tellText(outputs []output) (told []string) {
	for _, o := range outputs {
		text := fmt.Sprintf("%s %s/%s", o.edge, o.room, o.to)
		switch {
		case o.close != nil:
			text += fmt.Sprint(" closed ", o.close.Code, " ", o.close.Reason)
		case !o.frame.IsZero():
			text += " " + string(o.frame.Text())
		}
		told = append(told, text)
	}
	return told
}

// breaks is an engine that a message with the text "bomb" breaks, after it has
// been applied, for a number of times.
func breaks(times int) func(room.Event) {
	return func(e room.Event) {
		if e.Kind == room.Received && strings.Contains(string(e.Message.Document.Raw), "bomb") && times > 0 {
			times--
			panic("the engine broke")
		}
	}
}

func patchItem(session, key string) item {
	return item{kind: itemMessage, room: "r", session: session, text: []byte(`{"type":"patch","messageId":"` + key + `","documentPatches":[{"` + key + `":{"_exists":true}}]}`)}
}

func bombLog() *memoryLog {
	join := func(room, session string) item {
		return item{kind: itemJoin, room: room, session: session, client: session, grant: roomWriter}
	}
	return &memoryLog{rooms: map[string]*roomCheckpoint{}, entries: []*batch{
		{edge: "e1", number: 1, items: []item{join("r", "a"), join("other", "c")}},
		{edge: "e2", number: 1, items: []item{join("r", "b"), patchItem("b", "one")}},
		{edge: "e1", number: 2, items: []item{patchItem("a", "two"), patchItem("a", "bomb"), patchItem("a", "late")}},
		{edge: "e2", number: 2, items: []item{patchItem("b", "three")}},
	}}
}

var roomWriter = room.Grant{Permission: room.ReadWrite}

// What breaks the engine once is applied as if nothing had been.
func TestBrokenOnce(t *testing.T) {
	log := bombLog()
	want := log.play(newFold(partitionCheckpoint{}, log))
	f := newFold(partitionCheckpoint{}, log)
	f.beforeApply = breaks(1)
	if got := log.play(f); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(log.broken) != 2 || log.broken[0] != "1-3/1 r a 1" || log.broken[1] != "1-3/1 held" {
		t.Error(log.broken)
	}
	if len(f.tries) != 0 {
		t.Errorf("what was applied is still counted: %v", f.tries)
	}

	// It has been acknowledged. The next owner, whom it breaks once, too, must not
	// take that for the second time.
	next := newFold(partitionCheckpoint{}, log)
	next.tries, next.beforeApply = f.tries, breaks(1)
	if got := log.play(next); !reflect.DeepEqual(got, want) {
		t.Errorf("the next owner told\n%s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The same if the room's checkpoint is all that there is of it: the log begins
// with what breaks the engine.
func TestBrokenFirst(t *testing.T) {
	log := bombLog()
	whole := newFold(partitionCheckpoint{}, log)
	whole.beforeApply = breaks(1000)
	want := log.play(whole)

	f := newFold(partitionCheckpoint{}, log)
	f.beforeApply = breaks(1000)
	var told []string
	log.history(ID{}, ID{2, 0}, func(id ID, b *batch) {
		if id == (ID{1, 3}) {
			b = &batch{edge: b.edge, number: b.number, limits: b.limits, items: b.items[1:]}
			log.entries[2] = b
			for name, r := range f.rooms {
				log.rooms[name] = r.checkpoint()
			}
			f.base = f.checkpoint()
			clear(f.rooms)
		}
		outputs, _ := f.apply(id, b)
		told = append(told, tellText(outputs)...)
	})
	want = slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, `"two"`) })
	told = slices.DeleteFunc(told, func(s string) bool { return strings.Contains(s, `"two"`) })
	for n := range want { // one frame less was applied
		want[n] = strings.ReplaceAll(want[n], `"timestamp":3`, `"timestamp":2`)
	}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("\n got %s\nwant %s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// What breaks it twice costs its sender the session, and nobody else anything.
func TestBrokenTwice(t *testing.T) {
	log := bombLog()
	f := newFold(partitionCheckpoint{}, log)
	f.beforeApply = breaks(1000)
	told := strings.Join(log.play(f), "\n")
	if strings.Count(told, "closed 1011") != 1 || !strings.Contains(told, "e1 r/a closed 1011") {
		t.Errorf("told:\n%s", told)
	}
	if len(log.broken) != 2 {
		t.Errorf("tried %d times: %v", len(log.broken), log.broken)
	}
	text, _ := f.rooms["r"].state.Document().Snapshot().MarshalJSON()
	for key, want := range map[string]bool{"one": true, "two": true, "three": true, "bomb": false, "late": false} {
		if strings.Contains(string(text), `"`+key+`"`) != want {
			t.Errorf("%s: %s", key, text)
		}
	}
	if f.rooms["r"].homes["a"] != "" || f.rooms["r"].homes["b"] == "" || f.rooms["other"].homes["c"] == "" {
		t.Error("the wrong sessions have left")
	}

	// The next owner knows of both tries and makes no third.
	log.broken = nil
	next := newFold(partitionCheckpoint{}, log)
	next.tries, next.beforeApply = f.tries, breaks(1000)
	if again := strings.Join(log.play(next), "\n"); again != told || len(log.broken) != 0 {
		t.Errorf("the next owner tried %v and told\n%s", log.broken, again)
	}
}

func TestPlaces(t *testing.T) {
	at := place{ID{5, 6}, 7}
	if got, ok := parsePlace(at.String()); !ok || got != at {
		t.Error(got, ok)
	}
	for _, s := range []string{"", "5-6", "5-6/", "/1", "x/1"} {
		if _, ok := parsePlace(s); ok {
			t.Errorf("%q is a place", s)
		}
	}
}

// A question about a room, and changes to a session of another edge.
func TestQuestions(t *testing.T) {
	log := bombLog()
	log.entries = append(log.entries[:2:2], &batch{edge: "e2", number: 2, items: []item{
		{kind: itemRegrant, room: "r", session: "a", grant: room.Grant{Permission: room.ReadOnly}, ask: 1},
		{kind: itemRegrant, room: "r", session: "a", grant: room.Grant{Metadata: []byte(`{"n":1}`)}, ask: 2},
		{kind: itemRegrant, room: "r", session: "nobody", ask: 3},
		{kind: itemSessions, room: "r", ask: 4},
		{kind: itemDisconnect, room: "r", session: "a", close: protocol.CloseNormal, ask: 5},
		{kind: itemSessions, room: "nowhere", ask: 6},
	}})
	f := newFold(partitionCheckpoint{}, log)
	replies := map[uint64]*reply{}
	var grants []room.Grant
	closed := ""
	log.history(ID{}, ID{2, 0}, func(id ID, b *batch) {
		outputs, _ := f.apply(id, b)
		for _, o := range outputs {
			switch {
			case o.reply != nil:
				if o.edge != "e2" {
					t.Errorf("a reply for %s", o.edge)
				}
				replies[o.reply.ask] = o.reply
			case o.grant != nil:
				grants = append(grants, *o.grant)
			case o.close != nil:
				closed += o.edge + " " + o.to
			}
		}
	})
	for ask, found := range map[uint64]bool{1: true, 2: true, 3: false, 4: true, 5: true, 6: true} {
		if r := replies[ask]; r == nil || r.found != found {
			t.Errorf("question %d: %+v", ask, r)
		}
	}
	want := []room.SessionInfo{
		{ID: "a", Client: "a", Permission: room.ReadOnly, Metadata: []byte(`{"n":1}`)},
		{ID: "b", Client: "b", Permission: room.ReadWrite},
	}
	if !reflect.DeepEqual(replies[4].sessions, want) {
		t.Errorf("%+v", replies[4].sessions)
	}
	if len(grants) != 2 || grants[1].Permission != room.ReadOnly || string(grants[1].Metadata) != `{"n":1}` {
		t.Errorf("%+v", grants)
	}
	if closed != "e1 a" || len(replies[6].sessions) != 0 {
		t.Error(closed, replies[6])
	}
}
