package store_test

import (
	"testing"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
	"github.com/weftsync/weft/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) room.Storage { return new(store.Memory) })
}

func TestFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) room.Storage {
		f, err := store.NewFile(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		return f
	})
}
