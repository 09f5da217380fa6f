package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/weftsync/weft/room"
)

func saveChanges(t *testing.T, store room.ChangeStorage, s *room.Snapshot, after int64) {
	t.Helper()
	if err := store.SaveChanges(context.Background(), "room", s, after); err != nil {
		t.Fatalf("save what changed after %d: %v", after, err)
	}
	wantLoaded(t, store, "room", s)
}

// edits change one page, several, none, and add some.
func edits(t *testing.T, d *document, round int) {
	d.edit(t, fmt.Sprintf(`{"first5/block":{"text":"round %d"}}`, round))
	d.edit(t, `{"first300/block":{"_exists":false},"second400/block":{"_exists":false}}`)
	d.edit(t, `{"second3/block":{"points":{"__buf":1,"len":2010,"runs":[[2005,[1,2,3]]]}}}`)
	d.edit(t, `{}`)
	d.editMany(t, fmt.Sprintf("round%d-", round), 300, `"new":true`)
	d.edit(t, `{"first300/block":{"_exists":true,"again":1}}`)
}

// changes saves partial changes, each of which must leave what a whole save
// would have.
func changes(t *testing.T, store room.ChangeStorage) {
	d := severalPages(t)
	saveChanges(t, store, d.snapshot(), 0) // the first save of a new room
	saved := d.state.Document().Timestamp()
	for round := range 3 {
		before := saved
		edits(t, d, round)
		saveChanges(t, store, d.snapshot(), saved)
		saved = d.state.Document().Timestamp()
		saveChanges(t, store, d.snapshot(), saved)  // nothing has changed
		saveChanges(t, store, d.snapshot(), before) // again, as after a save that failed late
	}
	d.edit(t, `{}`) // nothing has changed but the timestamp
	saveChanges(t, store, d.snapshot(), saved)

	// Whole and partial saves may take turns.
	save(t, store, "room", d.snapshot())
	saved = d.state.Document().Timestamp()
	edits(t, d, 3)
	saveChanges(t, store, d.snapshot(), saved)
	if s, err := store.Load(context.Background(), "another"); s != nil || err != nil {
		t.Errorf("another room: %v, %v", s, err)
	}
}

// changesAfterLoad saves the changes of a room that was loaded, as after a
// restart.
func changesAfterLoad(t *testing.T, store room.ChangeStorage) {
	d := severalPages(t)
	saveChanges(t, store, d.snapshot(), 0)
	for round := range 3 {
		d = newDocument(load(t, store, "room"))
		saved := d.state.Document().Timestamp()
		edits(t, d, round)
		saveChanges(t, store, d.snapshot(), saved)
	}
}
