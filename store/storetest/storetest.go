// Package storetest is the suite that every [room.Storage] passes: those that
// come with Weft, and yours if you run it:
//
//	func TestMyStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) room.Storage {
//			s := openMyStore(t.TempDir())
//			t.Cleanup(s.Close)
//			return s
//		})
//	}
//
// What it asks of a store beyond the words of the interface: any string is a
// room id, NUL and bytes that are not UTF-8 included; a field's value comes back
// byte for byte (a column of type jsonb will not do: it rounds numbers and
// refuses lone surrogates); a call whose context is over fails with the
// context's error and changes nothing; and a load during a save sees the old
// snapshot or the new one. It does not restart the store: that what was saved is
// on disk is for the store's own tests to show.
//
// It does not tell whether a store takes ids that differ only in case for the
// same; a store should not, but some file systems do.
package storetest

import (
	"context"
	"testing"

	"github.com/weftsync/weft/room"
)

// Run runs the suite as subtests of t. open is called once in each of them, for
// a store without rooms that it closes by t.Cleanup. If the store is a
// [room.ChangeStorage], that side of it is tested too.
func Run(t *testing.T, open func(t *testing.T) room.Storage) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, room.Storage)
	}{
		{"Nothing", nothing},
		{"RoundTrip", roundTrip},
		{"BigDocument", bigDocument},
		{"Overwrite", overwrite},
		{"GoesOnAfterLoad", goesOnAfterLoad},
		{"Immutable", immutable},
		{"RoomIDs", roomIDs},
		{"ManyRoomsAtOnce", manyRoomsAtOnce},
		{"OneRoomAtOnce", oneRoomAtOnce},
		{"LoadDuringSaves", loadDuringSaves},
		{"Cancelled", cancelled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	t.Run("Changes", func(t *testing.T) {
		if s, ok := open(t).(room.ChangeStorage); ok {
			changes(t, s)
			return
		}
		t.Log("the store saves whole snapshots only")
	})
	t.Run("ChangesAfterLoad", func(t *testing.T) {
		if s, ok := open(t).(room.ChangeStorage); ok {
			changesAfterLoad(t, s)
			return
		}
		t.Log("the store saves whole snapshots only")
	})
}

func save(t *testing.T, store room.Storage, id string, s *room.Snapshot) {
	t.Helper()
	if err := store.Save(context.Background(), id, s); err != nil {
		t.Fatalf("save room %q: %v", id, err)
	}
}

func load(t *testing.T, store room.Storage, id string) *room.Snapshot {
	t.Helper()
	s, err := store.Load(context.Background(), id)
	if err != nil {
		t.Fatalf("load room %q: %v", id, err)
	}
	if s == nil {
		t.Fatalf("room %q is not there", id)
	}
	return s
}

// wantLoaded fails the test unless the room means what was saved.
func wantLoaded(t *testing.T, store room.Storage, id string, saved *room.Snapshot) {
	t.Helper()
	if difference := compare(load(t, store, id), saved); difference != "" {
		t.Fatalf("room %q is not what was saved: %s", id, difference)
	}
}
