package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

const (
	one = `{"type":"clientCount","count":1}`
	two = `{"type":"clientCount","count":2}`
)

func TestOrderOfWhatSessionsAreSent(t *testing.T) {
	managed(t, Config{}, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		receive(a, `{"type":"patch","messageId":"m","ephemeralPatches":[{"p":{"_exists":true}}]}`)
		wantSent(t, as, one, ack("0"))
		b, bs := connect(t, m, "r", "bob", ReadWrite)
		wantSent(t, bs, `{"type":"patch","clientId":"","ephemeralPatches":[{"p":{"_exists":true}}]}`, two)
		receive(a, put)
		receive(b, put)
		broadcast := func(who, n string) string {
			return `{"type":"patch","clientId":"` + who + `","documentPatches":[{"a":{"_exists":true}}],"timestamp":` + n + `}`
		}
		wantSent(t, as, two, ack("1"), broadcast("bob", "2"))
		wantSent(t, bs, broadcast("alice", "1"), ack("2"))
		a.Leave()
		a.Leave() // again is nothing
		receive(a, put)
		wantSent(t, as)
		wantSent(t, bs, `{"type":"patch","clientId":"alice","ephemeralPatches":[{"p":{"_exists":false}}]}`, one)
		if _, err := a.Info(); !errors.Is(err, ErrNoSession) {
			t.Errorf("info of a session that left: %v", err)
		}
		if s := m.Stats(); s.Rooms != 1 || s.Sessions != 1 || s.Received != 4 || s.Loads != 1 || s.Deliveries != 11 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestPermissionAndMetadata(t *testing.T) {
	managed(t, Config{}, func(t *testing.T, m *Manager) {
		socket := &fakeSocket{}
		s, err := m.Connect(context.Background(), "r", ConnectOptions{Socket: socket, Client: "c", Grant: Grant{ReadOnly, json.RawMessage(`{"n":1}`), time.Now()}})
		if err != nil {
			t.Fatal(err)
		}
		r := existing(t, m, "r")
		receive(s, put)
		if r.Snapshot().Timestamp() != 0 {
			t.Error("a readonly session wrote")
		}
		if err := r.SetPermission(s.ID(), ReadWrite); err != nil {
			t.Fatal(err)
		}
		receive(s, put)
		wantSent(t, socket, one, ack("0"), ack("1"))
		if err := r.SetMetadata(s.ID(), json.RawMessage(`{"n":2}`)); err != nil {
			t.Fatal(err)
		}
		want := SessionInfo{s.ID(), "c", ReadWrite, json.RawMessage(`{"n":2}`)}
		if list := r.Sessions(); len(list) != 1 || fmt.Sprint(list[0]) != fmt.Sprint(want) {
			t.Errorf("sessions %v", list)
		}
		if err := r.SetMetadata(s.ID(), nil); err != nil {
			t.Fatal(err)
		}
		if info, err := s.Info(); err != nil || info.Metadata != nil || info.Permission != ReadWrite {
			t.Errorf("after the metadata was replaced by none: %+v %v", info, err)
		}
		if text, err := json.Marshal(r.Sessions()); err != nil || strings.Contains(string(text), "metadata") {
			t.Errorf("%s %v", text, err)
		}
		for _, err := range []error{r.SetPermission("x", ReadOnly), r.SetMetadata("x", nil), r.Disconnect("x", protocol.CloseNormal)} {
			if !errors.Is(err, ErrNoSession) {
				t.Errorf("error %v", err)
			}
		}
	})
}

func TestViolationClosesOnlyItsSender(t *testing.T) {
	out := &logs{}
	managed(t, Config{Logger: out.logger()}, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		_, bs := connect(t, m, "r", "bob", ReadWrite)
		as.take()
		bs.take()
		receive(a, `{"type":"patch","documentPatches":[{},{"secret":5}]}`)
		wantClosed(t, as, protocol.PolicyViolation(`documentPatches[1]["secret"] must be an object`))
		wantClosed(t, bs)
		wantSent(t, bs, one)
		receive(a, `null`) // it has left
		if s := m.Stats(); s.Violations != 2 || s.Sessions != 1 {
			t.Errorf("stats %+v", s)
		}
	})
	if strings.Contains(out.String(), "secret") || !strings.Contains(out.String(), "documentPatches[1]") {
		t.Errorf("logged: %s", out)
	}
}

func TestBrokenEngineClosesOnlyTheSender(t *testing.T) {
	out := &logs{}
	managed(t, Config{Logger: out.logger()}, func(t *testing.T, m *Manager) {
		broken := false
		m.beforeApply = func(e Event) {
			if broken && e.Kind == Received {
				panic("the document's secret")
			}
		}
		a, as := connect(t, m, "r", "alice", ReadWrite)
		b, bs := connect(t, m, "r", "bob", ReadWrite)
		as.take()
		bs.take()
		broken = true
		receive(a, put)
		broken = false
		wantClosed(t, as, protocol.CloseInternal)
		receive(b, put)
		wantSent(t, as)
		wantSent(t, bs, one, ack("1"))
		wantClosed(t, bs)
		if s := m.Stats(); s.Panics != 1 || s.Sessions != 1 {
			t.Errorf("stats %+v", s)
		}
	})
	if strings.Contains(out.String(), "secret") || !strings.Contains(out.String(), "broke") {
		t.Errorf("logged: %s", out)
	}
}

func TestRoomIsFull(t *testing.T) {
	managed(t, Config{Limits: Limits{MaxSessions: 1}}, func(t *testing.T, m *Manager) {
		a, _ := connect(t, m, "r", "alice", ReadWrite)
		o := ConnectOptions{Socket: &fakeSocket{}, Client: "bob", Grant: Grant{Permission: ReadWrite}}
		if _, err := m.Connect(context.Background(), "r", o); !errors.Is(err, ErrFull) {
			t.Errorf("error %v", err)
		}
		a.Leave()
		if _, err := m.Connect(context.Background(), "r", o); err != nil {
			t.Errorf("error %v", err)
		}
	})
	s := NewState(nil, Limits{MaxSessions: 1})
	s.Apply(Event{Kind: Join, Session: "1"})
	if got := effectsOf(s.Apply(Event{Kind: Join, Session: "2"})); len(got) != 1 || got[0] != "2||close 1013 room is full" {
		t.Errorf("effects %q", got)
	}
}

func TestLimitsCloseTheSender(t *testing.T) {
	long := strings.Repeat("x", 600)
	for name, c := range map[string]struct{ text, reason string }{
		"document":  {`{"type":"patch","documentPatches":[{"a":{"_exists":true,"x":"` + long + `"}}]}`, "document is full: it may have 2000 bytes"},
		"presence":  {`{"type":"patch","ephemeralPatches":[{"a":{"_exists":true,"x":"` + long + `"}}]}`, "presence is full: it may have 1000 bytes"},
		"reconnect": {`{"type":"reconnect","protocolVersion":2,"documentPatches":[{"a":{"_exists":true,"x":"` + long + `"}}]}`, "document is full: it may have 2000 bytes"},
		"delta":     {`{"type":"patch","documentPatches":[{"a":{"_exists":true,"x":{"__buf":1,"len":1000,"runs":[]}}}]}`, "document is full: it may have 2000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			managed(t, Config{Limits: Limits{MaxDocumentBytes: 2000, MaxPresenceBytes: 1000}}, func(t *testing.T, m *Manager) {
				a, as := connect(t, m, "r", "alice", ReadWrite)
				b, bs := connect(t, m, "r", "bob", ReadWrite)
				as.take()
				bs.take()
				receive(a, c.text)
				wantClosed(t, as, protocol.PolicyViolation(c.reason))
				wantSent(t, as)
				wantSent(t, bs, one)
				receive(b, put)
				wantSent(t, bs, ack("1"))
			})
		})
	}
}

// Whatever a session does, the document's own measure stays under the limit.
func TestDocumentStaysWithinItsLimit(t *testing.T) {
	const most = 50_000
	s := NewState(nil, Limits{MaxDocumentBytes: most})
	s.Apply(Event{Kind: Join, Session: "1", Grant: Grant{Permission: ReadWrite}})
	for i := range 100 {
		// The delta of a value that is no list fills with nulls, the longest filler.
		s.Apply(Event{Kind: Received, Session: "1", Message: parsed(t, fmt.Sprintf(`{"type":"patch","documentPatches":[{"k%d":{"_exists":true,"x":true}}]}`, i))})
		s.Apply(Event{Kind: Received, Session: "1", Message: parsed(t, fmt.Sprintf(`{"type":"patch","documentPatches":[{"k%d":{"x":{"__buf":1,"len":20000,"runs":[]}}}]}`, i))})
		if n := s.doc.Size(); n > most {
			t.Fatalf("%d bytes after %d", n, i)
		}
	}
}

// The limit bounds memory only if a short value does not keep a long one alive
// that came in the same message and is gone.
func TestShortValuesKeepNoLongOnes(t *testing.T) {
	doc := newDocument()
	long := strings.Repeat("x", 256<<10)
	for i := range 100 {
		edit(t, doc, fmt.Sprintf(`[{"k%d":{"_exists":true,"long":%q,"short":1}}]`, i, long))
		edit(t, doc, fmt.Sprintf(`[{"k%d":{"long":0}}]`, i))
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 16<<20 {
		t.Errorf("a document of %d bytes takes %d", doc.Size(), m.HeapAlloc)
	}
	runtime.KeepAlive(doc)
}

func TestPerRoom(t *testing.T) {
	c := Config{PerRoom: func(room string, c *Config) {
		if room == "small" {
			c.Limits = Limits{Limits: protocol.Limits{MaxBufferLength: 3}, MaxSessions: 1}
		}
	}}
	managed(t, c, func(t *testing.T, m *Manager) {
		const text = `{"type":"patch","messageId":"m","documentPatches":[{"a":{"_exists":true,"x":{"__buf":1,"len":4,"runs":[]}}}]}`
		s, small := connect(t, m, "small", "c", ReadWrite)
		receive(s, text)
		wantClosed(t, small, protocol.PolicyViolation(`documentPatches[0]["a"]["x"].len is over the limit of 3`))
		s, large := connect(t, m, "large", "c", ReadWrite)
		receive(s, text)
		wantSent(t, large, one, ack("1"))
		connect(t, m, "large", "d", ReadWrite)
	})
}

func TestCallbacks(t *testing.T) {
	var told []string
	c := Config{
		OnDocumentPatch: func(r *Room, p DocumentPatch) {
			told = append(told, fmt.Sprintf("patch %s %d %s", p.Client, p.Timestamp, p.Patches))
			if p.Timestamp == 1 { // a callback may use the room, and what comes of that is told after it
				if err := r.Disconnect(p.Session, protocol.CloseNormal); err != nil {
					t.Error(err)
				}
				if n := r.SessionCount(); n != 1 || r.Snapshot().Timestamp() != 1 {
					t.Errorf("%d sessions", n)
				}
				told = append(told, "end of the first")
			}
			if p.Timestamp == 2 {
				panic("as callbacks may")
			}
		},
		OnSessionRemoved: func(r *Room, s SessionRemoved) {
			told = append(told, fmt.Sprintf("removed %s %d", s.Client, s.Remaining))
			if s.Remaining == 0 {
				if err := r.manager.CloseRoom(context.Background(), r.ID()); err != nil {
					t.Error(err)
				}
			}
		},
	}
	managed(t, c, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		b, _ := connect(t, m, "r", "bob", ReadWrite)
		receive(a, put)
		receive(b, `{"type":"reconnect","protocolVersion":2,"lastTimestamp":0,"documentPatches":[ {} ]}`)
		receive(b, `{"type":"patch","ephemeralPatches":[{}]}`)
		receive(b, put)
		b.Leave()
		wantClosed(t, as, protocol.CloseNormal)
		want := []string{`patch alice 1 [{"a":{"_exists":true}}]`, "end of the first", "removed alice 1", `patch bob 2 [ {} ]`, `patch bob 3 [{"a":{"_exists":true}}]`, "removed bob 0"}
		if !slices.Equal(told, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
		if ids := m.RoomIDs(); len(ids) != 0 {
			t.Errorf("the callback closed the room, and there is %v", ids)
		}
	})
}
