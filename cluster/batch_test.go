package cluster

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/weftsync/weft/room"
)

func TestBatchRoundTrip(t *testing.T) {
	want := batch{edge: "node.1", number: 300, limits: room.Limits{MaxDocumentBytes: 1 << 40, MaxPresenceBytes: 1 << 20, MaxSessions: 1}, items: []item{
		{kind: itemJoin, room: "r", session: "s", client: "c", grant: room.Grant{Permission: room.ReadWrite, Metadata: json.RawMessage(`{"a":1}`)}},
		{kind: itemMessage, room: "日本", session: "s", text: []byte(`{"type":"patch"}`)},
		{kind: itemRegrant, room: "r", session: "s", grant: room.Grant{Permission: room.ReadOnly}},
		{kind: itemLeave, room: "r", session: "s"},
		{kind: itemEdgeGone, session: "node.0"},
	}}
	data := encodeBatch(&want)
	got, err := parseBatch(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
	}
	for n := range data {
		if _, err := parseBatch(data[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a batch", n, len(data))
		}
	}
	if _, err := parseBatch(append(data, 0)); err == nil {
		t.Error("a batch may be followed by more")
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add(encodeBatch(&batch{edge: "e", number: 1, items: []item{{kind: itemLeave, room: "r", session: "s"}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBatch(data)
		if err != nil {
			return
		}
		again, err := parseBatch(encodeBatch(&b))
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Errorf("%v: %+v, %+v", err, again, b)
		}
	})
}

func TestIDs(t *testing.T) {
	for _, id := range []ID{{}, {1, 2}, {1 << 60, 9}} {
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Errorf("%v: %v, %v", id, got, err)
		}
	}
	for _, s := range []string{"", "1", "-", "1-", "-1", "a-1", "1-1-1", "$"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q is %v", s, id)
		}
	}
	if (ID{1, 2}).After(ID{1, 2}) || !(ID{2, 0}).After(ID{1, 9}) || !(ID{1, 3}).After(ID{1, 2}) {
		t.Error("ids are out of order")
	}
}
