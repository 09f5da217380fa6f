package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weftsync/weft/room"
)

// oddIDs are room ids that a store might mistake for one another, or for
// something else than an id.
func oddIDs() []string {
	long := strings.Repeat("long", 100)
	ids := []string{
		"", " ", "  ", "room", "room ", " room", "room.", "room..", "room.json", ".room", "room/", "/room", "room/.", "room/..",
		".", "..", "...", "/", "//", "../room", "../../etc/passwd", "a/b", "a//b", `a\b`, `..\room`, "a:b", "c:", "C:/x", "~", "~room",
		"%", "%%", "%2F", "%2f", "%252F", "a%2Fb", "a%252Fb", "%~", "%00", "100%", "a+b", "a b",
		"\x00", "a\x00b", "a\x00", "a\nb", "a\rb", "\t", "\x1b[31m", "\x7f", "\u0085",
		"\xff", "\xfe", "\ufffd", "a\xc3", "日本", "日", "😀", "\u200b", "\u202eabc",
		"con", "nul", "com1", "nul.x", "aux ", "lock", ".lock", ".weft.lock", ".weft-1.tmp", "tmp", "room.tmp",
		"*", "?", "a*", "a?", "[a]", "{a}", "<a>", "|", `"`, "'", "`", "$HOME", "$(id)", ";", "-rf", "--", "null", "undefined", "__proto__",
		"'; DROP TABLE rooms; --", "{room}:1", "room:1", "room:1:page",
		long, long + "1", long + "2", "1" + long, strings.Repeat("é", 200), strings.Repeat("/", 200), strings.Repeat("/", 201),
	}
	for n := 240; n <= 260; n++ {
		ids = append(ids, strings.Repeat("x", n))
	}
	return ids
}

func roomIDs(t *testing.T, store room.Storage) {
	ids := oddIDs()
	for i, id := range ids {
		if s, err := store.Load(context.Background(), id); s != nil || err != nil {
			t.Fatalf("room %q is there already, or fails: %v", id, err)
		}
		save(t, store, id, small(t, fmt.Sprint(i), 1))
	}
	for i, id := range ids {
		wantLoaded(t, store, id, small(t, fmt.Sprint(i), 1))
	}
}

func manyRoomsAtOnce(t *testing.T, store room.Storage) {
	const rooms, rounds = 24, 4
	last := map[string]*room.Snapshot{}
	var all sync.WaitGroup
	for i := range rooms {
		id := fmt.Sprintf("room-%d", i)
		d := newDocument(nil)
		var snapshots []*room.Snapshot
		for n := range rounds {
			d.edit(t, fmt.Sprintf(`{"room":{"_exists":true,"is":%d,"round":%d}}`, i, n))
			snapshots = append(snapshots, d.snapshot())
		}
		last[id] = snapshots[rounds-1]
		all.Go(func() {
			for _, s := range snapshots {
				if err := store.Save(context.Background(), id, s); err != nil {
					t.Errorf("save room %q: %v", id, err)
					return
				}
				got, err := store.Load(context.Background(), id)
				if err != nil || got == nil {
					t.Errorf("load room %q: %v, %v", id, got, err)
					return
				}
				if difference := compare(got, s); difference != "" {
					t.Errorf("room %q: %s", id, difference)
					return
				}
			}
		})
	}
	all.Wait()
	for id, s := range last {
		wantLoaded(t, store, id, s)
	}
}

// oneRoomAtOnce saves one room from many sides, which no room does: one of them
// must win, whole.
func oneRoomAtOnce(t *testing.T, store room.Storage) {
	const savers = 12
	snapshots := map[string]*room.Snapshot{}
	var all sync.WaitGroup
	for i := range savers {
		d := newDocument(nil)
		d.editMany(t, fmt.Sprintf("of%d-", i), 100*(i+1), fmt.Sprintf(`"saver":%d`, i))
		s := d.snapshot()
		text, err := s.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		snapshots[string(text)] = s
		all.Go(func() {
			if err := store.Save(context.Background(), "room", s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := load(t, store, "room")
	for _, s := range snapshots {
		if compare(got, s) == "" {
			return
		}
	}
	t.Error("the room is a mixture of what was saved")
}

// loadDuringSaves loads a room while it is saved again and again: what is seen
// is whole, and never goes back.
func loadDuringSaves(t *testing.T, store room.Storage) {
	const saves, components = 30, 300
	d := newDocument(nil)
	d.editMany(t, "c", components, `"save":0`)
	save(t, store, "room", d.snapshot())
	done := make(chan struct{})
	var loader sync.WaitGroup
	loader.Go(func() {
		last := int64(0)
		for {
			s, err := store.Load(context.Background(), "room")
			if err != nil || s == nil {
				t.Errorf("load: %v, %v", s, err)
				return
			}
			if s.Timestamp() < last {
				t.Errorf("the room went back from %d to %d", last, s.Timestamp())
			}
			last = s.Timestamp()
			m, err := meaningOf(s)
			if err != nil {
				t.Error(err)
			}
			for i := range components {
				if got, want := m[fmt.Sprintf(`/"state"/"c%d/block"/"save"`, i)], fmt.Sprint(last-1); got != want {
					t.Errorf("at %d component %d is of save %s", last, i, got)
					return
				}
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for n := 1; n < saves; n++ {
		d.editMany(t, "c", components, fmt.Sprintf(`"save":%d`, n))
		if err := store.Save(context.Background(), "room", d.snapshot()); err != nil {
			t.Error(err)
		}
	}
	close(done)
	loader.Wait()
	wantLoaded(t, store, "room", d.snapshot())
}

func cancelled(t *testing.T, store room.Storage) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	old := small(t, "old", 1)
	save(t, store, "room", old)
	if err := store.Save(ctx, "room", small(t, "new", 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("Save: %v, want %v", err, context.Canceled)
	}
	if err := store.Save(ctx, "new room", small(t, "new", 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("Save of a new room: %v, want %v", err, context.Canceled)
	}
	if s, err := store.Load(ctx, "room"); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v, %v, want nil, %v", s, err, context.Canceled)
	}
	if s, err := store.Load(context.Background(), "new room"); s != nil || err != nil {
		t.Errorf("a save that failed left %v, %v", s, err)
	}
	wantLoaded(t, store, "room", old)
	if c, ok := store.(room.ChangeStorage); ok {
		if err := c.SaveChanges(ctx, "room", small(t, "new", 2), 1); !errors.Is(err, context.Canceled) {
			t.Errorf("SaveChanges: %v, want %v", err, context.Canceled)
		}
		wantLoaded(t, store, "room", old)
	}
}
