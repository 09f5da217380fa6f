package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftsync/weft/room"
)

func nothing(t *testing.T, store room.Storage) {
	for _, id := range []string{"never saved", "", "../never"} {
		if s, err := store.Load(context.Background(), id); s != nil || err != nil {
			t.Errorf("room %q: %v, %v; want nil, nil", id, s, err)
		}
	}
	save(t, store, "another", small(t, "another", 1))
	if s, err := store.Load(context.Background(), "never saved"); s != nil || err != nil {
		t.Errorf("beside another room: %v, %v; want nil, nil", s, err)
	}
}

func roundTrip(t *testing.T, store room.Storage) {
	wide := make([]string, 40)
	for i := range wide {
		wide[i] = fmt.Sprintf(`"field%d":%d`, i, i)
	}
	for _, test := range []struct {
		name    string
		patches []string
	}{
		{"empty", nil},
		{"counted, not changed", []string{`{}`, `{}`}},
		{"no fields but one", []string{`{"a/b":{"_exists":true}}`}},
		{"keys", []string{`{"":{"_exists":true,"":1},"日本/ブロック":{"_exists":true,"名":"値"},"a\"\\\u0000\n/b":{"_exists":true,"\t":"\u0000"},"😀":{"_exists":true,"😀":"😀"},"__proto__":{"_exists":true,"constructor":1}}`}},
		{"lone surrogates", []string{`{"\ud83d/x":{"_exists":true,"\ude00":"a\ud83dz"},"\ude00/x":{"_exists":true,"f":"\uDBFF"}}`}},
		{"numbers", []string{`{"n":{"_exists":true,"a":0.1,"b":1.10,"c":1E400,"d":-0,"e":-0.0,"f":123456789012345678901234567890,"g":1e-400,"h":9007199254740993,"i":5E-324}}`}},
		{"values", []string{`{"v":{"_exists":true,"null":null,"no":false,"text":"\u0041\/","list":[ 1, [2 , {"a" : 3}] ],"object":{"b":1,"a":2, "b":3},"empty":{},"none":[]}}`}},
		{"later fields", []string{`{"a":{"_exists":true,"x":1,"y":1}}`, `{"a":{"y":2}}`, `{"a":{"z":3}}`}},
		{"tombstones", []string{`{"a":{"_exists":true,"x":1},"b":{"_exists":true,"x":1},"c":{"_exists":true}}`, `{"b":{"_exists":false,"why":1},"never":{"_exists":false}}`}},
		{"created again", []string{`{"a":{"_exists":true,"x":1,"y":1}}`, `{"a":{"y":0,"_exists":false}}`, `{"a":{"_exists":true,"z":1}}`}},
		{"buffers", []string{
			`{"pen":{"_exists":true,"points":[0.5,1.50,null,"x"],"other":[]}}`,
			`{"pen":{"points":{"__buf":1,"len":900,"runs":[[3,[7,8.250]],[890,[1,2,3]]]}}}`,
			`{"pen":{"points":{"__buf":1,"len":300,"runs":[[299,[9]]]},"new":{"__buf":1,"len":2,"runs":[[0,[1]]]},"gone":{"__buf":1,"len":0,"runs":[]}}}`,
		}},
		{"many fields", []string{`{"wide":{"_exists":true,` + strings.Join(wide, ",") + `}}`, `{"wide":{"field33":"new"}}`}},
		{"long text", []string{`{"text":{"_exists":true,"all":"` + strings.Repeat("long ünï ", 30_000) + `"}}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDocument(nil)
			for _, p := range test.patches {
				d.edit(t, p)
			}
			s := d.snapshot()
			save(t, store, test.name, s)
			wantLoaded(t, store, test.name, s)
		})
	}
}

// severalPages is a document of five pages, with tombstones and buffers.
func severalPages(t *testing.T) *document {
	d := newDocument(nil)
	d.editMany(t, "first", 700, `"text":"one"`)
	d.editMany(t, "second", 500, `"points":[1,2,3]`)
	d.edit(t, `{"first0/block":{"_exists":false},"first699/block":{"_exists":false},"second250/block":{"_exists":false}}`)
	d.edit(t, `{"second3/block":{"points":{"__buf":1,"len":2000,"runs":[[1990,[5]]]}}}`)
	return d
}

func bigDocument(t *testing.T, store room.Storage) {
	s := severalPages(t).snapshot()
	save(t, store, "big", s)
	wantLoaded(t, store, "big", s)
}

// overwrite saves, in place of a large snapshot, a small one that knows nothing
// of it, as after a return to a backup.
func overwrite(t *testing.T, store room.Storage) {
	s := severalPages(t).snapshot()
	for _, s := range []*room.Snapshot{s, small(t, "lesser", 1), small(t, "later", 3), small(t, "empty", 0), s} {
		save(t, store, "room", s)
		wantLoaded(t, store, "room", s)
	}
}

// goesOnAfterLoad edits what was loaded, as a room does after a restart.
func goesOnAfterLoad(t *testing.T, store room.Storage) {
	d := severalPages(t)
	for range 3 {
		s := d.snapshot()
		save(t, store, "room", s)
		d = newDocument(load(t, store, "room"))
		d.edit(t, `{"first5/block":{"text":"two"},"second9/block":{"_exists":false},"new":{"_exists":true}}`)
		wantLoaded(t, store, "room", s)
	}
}

// immutable keeps editing while the store has a snapshot.
func immutable(t *testing.T, store room.Storage) {
	d := severalPages(t)
	saved := d.snapshot()
	text, err := saved.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	save(t, store, "room", saved)
	d.edit(t, `{"first5/block":{"text":"two"},"first6/block":{"_exists":false},"first0/block":{"_exists":true,"back":1},"new":{"_exists":true}}`)
	d.edit(t, `{"second3/block":{"points":{"__buf":1,"len":1995,"runs":[[1990,[6]]]}}}`)
	wantLoaded(t, store, "room", saved)
	if after, err := saved.MarshalJSON(); err != nil || string(after) != string(text) {
		t.Fatalf("the store, or the document, changed the snapshot: %v", err)
	}
}
