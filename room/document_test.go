package room

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/weftsync/weft/room/protocol"
)

// recount checks everything that a document keeps in step with something else.
func recount(t testing.TB, d *Document) {
	t.Helper()
	size, n := 0, 0
	for i, p := range d.pages {
		if len(p.components) > pageLen || i < len(d.pages)-1 && len(p.components) != pageLen {
			t.Fatalf("page %d has %d components", i, len(p.components))
		}
		for _, c := range p.components {
			if at, ok := d.index[c.key]; !ok || int(at) != n || d.at(at) != c {
				t.Fatalf("%s is not where the index has it", c.key)
			}
			n++
			size += 2*len(c.key) + perField
			for k := range c.fields {
				f := &c.fields[k]
				size += len(f.name) + perField + len(f.value.appendJSON(nil))
				if f.timestamp > p.latest {
					t.Fatalf("%s has %d, its page %d", c.key, f.timestamp, p.latest)
				}
				if at := c.find([]byte(f.name)); at != k {
					t.Fatalf("%s %s is at %d and found at %d", c.key, f.name, k, at)
				}
			}
		}
	}
	if n != d.Len() || size != d.Size() {
		t.Fatalf("%d keys of %d bytes; counted %d of %d", d.Len(), d.Size(), n, size)
	}
}

func parsed(t testing.TB, text string) *protocol.Message {
	t.Helper()
	m, err := protocol.NewParser(protocol.Limits{}).Parse([]byte(text))
	if err != nil {
		t.Fatalf("%.200s: %v", text, err)
	}
	return m
}

// edit applies the patches of one message.
func edit(t testing.TB, d *Document, patches string) {
	t.Helper()
	d.timestamp++
	for _, p := range parsed(t, `{"type":"patch","documentPatches":`+patches+`}`).Document.Patches {
		d.apply(p, d.timestamp)
	}
}

// many keeps snapshots of a document in the course of random edits, while
// others read them, and checks at the end that none has changed.
func TestSnapshotsNeverChange(t *testing.T) {
	type kept struct {
		s    *Snapshot
		text string
	}
	for seed := range uint64(6) {
		d, doc := seeded(seed, 20_000), newDocument()
		var all []kept
		var readers sync.WaitGroup
		for i := 0; !d.over(); i++ {
			if d.roll(4) > 0 {
				edit(t, doc, d.patches(d.roll(2) == 0))
				continue
			}
			s := doc.Snapshot()
			all = append(all, kept{s, snapshotText(t, s)})
			if len(all)%8 == 0 {
				mine := slices.Clone(all)
				readers.Go(func() {
					for _, k := range mine[max(0, len(mine)-10):] {
						if got, err := k.s.MarshalJSON(); err != nil || string(got) != k.text {
							t.Errorf("a snapshot changed while another was read")
						}
					}
				})
			}
			if d.roll(16) == 0 { // two documents of one snapshot know nothing of each other
				other := s.Document()
				readers.Go(func() {
					for at, c := range s.components() {
						w := other.writable(uint32(at), true, []byte(c.key), 1)
						w.merge(other, []protocol.Field{{Name: []byte(`"only here"`), Value: []byte("1")}}, 1)
					}
				})
			}
		}
		readers.Wait()
		recount(t, doc)
		for i, k := range all {
			if got := snapshotText(t, k.s); got != k.text {
				t.Fatalf("seed %d: snapshot %d changed from\n%s\nto\n%s", seed, i, k.text, got)
			}
		}
	}
}

func wide(fields int, name string) string {
	b := []byte(`[{"a/B":{"_exists":true`)
	for i := range fields {
		b = fmt.Appendf(b, `,"%s%d":%d`, name, i, i)
	}
	return string(b) + "}}]"
}

// A component with many fields finds them by an index, which two documents made
// of one snapshot must not share.
func TestDocumentsOfOneSnapshotShareNoIndex(t *testing.T) {
	doc := newDocument()
	edit(t, doc, wide(2*fewFields, "f"))
	s := doc.Snapshot()
	one, two := s.Document(), s.Document()
	edit(t, one, `[{"a/B":{"new":1,"newer":2}}]`)
	edit(t, two, `[{"a/B":{"newer":"two's"}}]`)
	edit(t, doc, `[{"a/B":{"newest":"doc's","newer":3}}]`)
	recount(t, one)
	recount(t, two)
	recount(t, doc)
}

func TestPagesAreThoseWithChanges(t *testing.T) {
	doc := newDocument()
	key := func(i int) string { return fmt.Sprintf("k%d/C", i) }
	for i := range 3*pageLen + 10 {
		edit(t, doc, fmt.Sprintf(`[{%q:{"_exists":true,"v":%d}}]`, key(i), i))
	}
	numbers := func(s *Snapshot, after int64) (list []int) {
		for i := range s.Pages(after) {
			list = append(list, i)
		}
		return list
	}
	s := doc.Snapshot()
	if got := numbers(s, -1); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Errorf("all pages: %v", got)
	}
	if got := numbers(s, s.Timestamp()); got != nil {
		t.Errorf("no change, pages %v", got)
	}
	before := s.Timestamp()
	edit(t, doc, fmt.Sprintf(`[{%q:{"v":"new"},"unknown":{"v":1}}]`, key(pageLen)))                   // page 1; a dropped patch is no change
	edit(t, doc, fmt.Sprintf(`[{%q:{"_exists":false},"more/C":{"_exists":true}}]`, key(2*pageLen-1))) // page 1 and the last
	s = doc.Snapshot()
	if got := numbers(s, before); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("pages %v, want 1 and 3", got)
	}
	if got := numbers(s, before+2); got != nil {
		t.Errorf("pages %v after the last change", got)
	}
	// All pages together are the snapshot.
	state, stamps := object{}, object{}
	for _, p := range s.Pages(-1) {
		page := decode(t, p.AppendJSON(nil)).(object)
		for k, v := range page["state"].(object) {
			state[k] = v
		}
		for k, v := range page["timestamps"].(object) {
			stamps[k] = v
		}
	}
	compare(t, "pages", any(object{"timestamp": num(s.Timestamp()), "state": state, "timestamps": stamps}), decode(t, []byte(snapshotText(t, s))))
	for range s.Pages(-1) {
		break // may be left
	}
	if s.Len() != doc.Len() || doc.Timestamp() != s.Timestamp() || doc.Size() != s.Size() {
		t.Errorf("a document of %d keys, a snapshot of %d", doc.Len(), s.Len())
	}
}

func TestSizeAfter(t *testing.T) {
	doc := newDocument()
	for i := range 3 * pageLen {
		edit(t, doc, fmt.Sprintf(`[{"k%d/C":{"_exists":true,"v":"some text"}}]`, i))
	}
	all := doc.Size()
	if got := doc.SizeAfter(-1, all); got != all {
		t.Errorf("all is %d bytes, and the document %d", got, all)
	}
	if got := doc.SizeAfter(doc.Timestamp(), all); got != 0 {
		t.Errorf("%d bytes have changed since now", got)
	}
	edit(t, doc, `[{"k1/C":{"v":"other text"}}]`)
	edit(t, doc, `[{"k2/C":{"_exists":false}}]`)
	if got := doc.SizeAfter(doc.Timestamp()-2, all); got <= 0 || got > all/3 {
		t.Errorf("a page of three has %d bytes of %d", got, all)
	}
	if got := doc.SizeAfter(-1, doc.Size()); got != doc.Size() {
		t.Errorf("all is %d bytes, and the document %d", got, doc.Size())
	}
	if got := doc.SizeAfter(-1, 10); got <= 10 || got > all/3 {
		t.Errorf("%d bytes are counted though 10 are enough", got)
	}
}
