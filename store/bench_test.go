package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

// largeRoom has 100 000 components, 35 MB as JSON.
func largeRoom(b *testing.B) *room.Snapshot {
	b.Helper()
	const components = 100_000
	var state, timestamps strings.Builder
	for i := range components {
		if i > 0 {
			state.WriteByte(',')
			timestamps.WriteByte(',')
		}
		fmt.Fprintf(&state, `"%032x/Block":{"_exists":true,"_version":"1","position":[%d,%d.5],"size":[120,80],"color":"#%06x","text":"%s"}`, i, i%1000, i/1000, i, strings.Repeat("text ", 20))
		fmt.Fprintf(&timestamps, `"%032x/Block":{"_exists":1,"_version":1,"position":%d,"size":1,"color":1,"text":2}`, i, i+3)
	}
	s, err := room.ParseSnapshot([]byte(fmt.Sprintf(`{"timestamp":%d,"state":{%s},"timestamps":{%s}}`, components+3, &state, &timestamps)))
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkFile(b *testing.B) {
	dir := b.TempDir()
	f, err := store.NewFile(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	ctx := context.Background()
	s := largeRoom(b)
	if err := f.Save(ctx, "room", s); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "room.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Save", func(b *testing.B) {
		b.SetBytes(info.Size())
		b.ReportAllocs()
		for b.Loop() {
			if err := f.Save(ctx, "room", s); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(info.Size()), "bytes/room")
	})
	b.Run("Load", func(b *testing.B) {
		b.SetBytes(info.Size())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Load(ctx, "room"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Read", func(b *testing.B) { // what of Load is the disk's
		b.SetBytes(info.Size())
		for b.Loop() {
			if _, err := os.ReadFile(filepath.Join(dir, "room.json")); err != nil {
				b.Fatal(err)
			}
		}
	})
}
