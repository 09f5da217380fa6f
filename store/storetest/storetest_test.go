package storetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store/storetest"
)

// pages is a room.ChangeStorage as one on a database would be: it keeps the
// text of each page by its number.
type pages struct {
	mu    sync.Mutex
	rooms map[string]*pagedRoom
}

type pagedRoom struct {
	timestamp int64
	pages     [][]byte
}

func (p *pages) Load(ctx context.Context, id string) (*room.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.rooms[id]
	if r == nil {
		return nil, nil
	}
	// The members of the pages one after the other: said again, "state" goes
	// on where it ended, and the keys come back to the pages they were in.
	text := strconv.AppendInt([]byte(`{"timestamp":`), r.timestamp, 10)
	for _, page := range r.pages {
		text = append(append(text, ','), page[1:len(page)-1]...)
	}
	return room.ParseSnapshot(append(text, '}'))
}

func (p *pages) Save(ctx context.Context, id string, s *room.Snapshot) error {
	return p.save(ctx, id, &pagedRoom{}, s, -1)
}

func (p *pages) SaveChanges(ctx context.Context, id string, s *room.Snapshot, after int64) error {
	p.mu.Lock()
	old := p.rooms[id]
	p.mu.Unlock()
	if old == nil {
		old = &pagedRoom{}
	}
	return p.save(ctx, id, old, s, after)
}

func (p *pages) save(ctx context.Context, id string, old *pagedRoom, s *room.Snapshot, after int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &pagedRoom{timestamp: s.Timestamp(), pages: append([][]byte(nil), old.pages...)}
	for i, page := range s.Pages(after) {
		for i >= len(r.pages) {
			r.pages = append(r.pages, nil)
		}
		r.pages[i] = page.AppendJSON(nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rooms == nil {
		p.rooms = map[string]*pagedRoom{}
	}
	p.rooms[id] = r
	return nil
}

func TestChangeStorage(t *testing.T) {
	storetest.Run(t, func(*testing.T) room.Storage { return new(pages) })
}

// broken is a store with a fault, and each fault the subtest that must find it.
type broken struct {
	pages
	fault string
	loads chan struct{} // one for each that ends while someone waits
	alone bool          // the one who loads is gone
}

// awaitLoads returns when a load has begun and ended, or it is clear that none
// will.
func (b *broken) awaitLoads() {
	for range 2 { // the first may have begun before
		if b.alone {
			return
		}
		select {
		case <-b.loads:
		case <-time.After(time.Second):
			b.alone = true
		}
	}
}

var faults = map[string]string{
	"missing is an error":    "Nothing",
	"rounds numbers":         "RoundTrip",
	"drops timestamps":       "RoundTrip",
	"cuts large documents":   "BigDocument",
	"merges":                 "Overwrite",
	"keeps the first":        "Overwrite",
	"trims ids":              "RoomIDs",
	"cuts ids at NUL":        "RoomIDs",
	"mends ids":              "RoomIDs",
	"ignores the context":    "Cancelled",
	"saves when cancelled":   "Cancelled",
	"saves part by part":     "LoadDuringSaves",
	"skips the first page":   "Changes",
	"skips new pages":        "ChangesAfterLoad",
	"forgets the timestamp":  "Changes",
	"one room for everybody": "ManyRoomsAtOnce",
}

func (b *broken) id(id string) string {
	switch b.fault {
	case "trims ids":
		return strings.TrimSpace(id)
	case "cuts ids at NUL":
		id, _, _ = strings.Cut(id, "\x00")
	case "mends ids":
		return strings.ToValidUTF8(id, "\ufffd")
	case "one room for everybody":
		return ""
	}
	return id
}

func (b *broken) Load(ctx context.Context, id string) (*room.Snapshot, error) {
	if b.fault == "ignores the context" {
		ctx = context.Background()
	}
	s, err := b.pages.Load(ctx, b.id(id))
	select {
	case b.loads <- struct{}{}:
	default:
	}
	if s == nil || err != nil {
		if err == nil && b.fault == "missing is an error" {
			err = os.ErrNotExist
		}
		return nil, err
	}
	if b.fault == "rounds numbers" || b.fault == "drops timestamps" {
		text, _ := s.MarshalJSON()
		var all map[string]any
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, err
		}
		if b.fault == "drops timestamps" {
			delete(all, "timestamps")
		}
		if text, err = json.Marshal(all); err != nil {
			return nil, err
		}
		return room.ParseSnapshot(text)
	}
	return s, nil
}

func (b *broken) Save(ctx context.Context, id string, s *room.Snapshot) error {
	id = b.id(id)
	switch b.fault {
	case "ignores the context":
		ctx = context.Background()
	case "saves when cancelled":
		_ = b.pages.Save(context.Background(), id, s)
	case "merges":
		return b.pages.SaveChanges(ctx, id, s, -1)
	case "keeps the first":
		if old, err := b.pages.Load(ctx, id); old != nil || err != nil {
			return err
		}
	case "cuts large documents":
		err := b.pages.Save(ctx, id, s)
		if r := b.rooms[id]; err == nil && len(r.pages) > 2 {
			r.pages = r.pages[:2]
		}
		return err
	case "saves part by part":
		for i := range s.Pages(-1) {
			b.mu.Lock()
			r := b.rooms[id]
			b.mu.Unlock()
			if r == nil {
				break
			}
			text := []byte(nil)
			for j, page := range s.Pages(-1) {
				if j == i {
					text = page.AppendJSON(nil)
				}
			}
			b.mu.Lock()
			if i < len(r.pages) {
				r.pages[i], r.timestamp = text, s.Timestamp()
			}
			b.mu.Unlock()
			b.awaitLoads()
		}
	}
	return b.pages.Save(ctx, id, s)
}

func (b *broken) SaveChanges(ctx context.Context, id string, s *room.Snapshot, after int64) error {
	id = b.id(id)
	if b.fault == "ignores the context" {
		ctx = context.Background()
	}
	b.mu.Lock()
	old := b.rooms[id]
	b.mu.Unlock()
	err := b.pages.SaveChanges(ctx, id, s, after)
	if old == nil || err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[id]
	switch b.fault {
	case "skips the first page":
		r.pages[0] = old.pages[0]
	case "skips new pages":
		r.pages = r.pages[:len(old.pages)]
	case "forgets the timestamp":
		r.timestamp = old.timestamp
	}
	return nil
}

const faultVariable = "STORETEST_FAULT"

// TestSuiteFindsFaults runs the suite on broken stores, each in a process of
// its own, which is this test again with the fault in its environment.
func TestSuiteFindsFaults(t *testing.T) {
	if fault, ok := os.LookupEnv(faultVariable); ok {
		storetest.Run(t, func(*testing.T) room.Storage { return &broken{fault: fault, loads: make(chan struct{})} })
		return
	}
	for fault, subtest := range faults {
		t.Run(fault, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSuiteFindsFaults$/^"+subtest+"$", "-test.v")
			c.Env = append(os.Environ(), faultVariable+"="+fault)
			out, err := c.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(out, []byte("--- FAIL: TestSuiteFindsFaults/"+subtest+" ")) {
				t.Errorf("%s does not find it: %v\n%s", subtest, err, out)
			}
		})
	}
}
