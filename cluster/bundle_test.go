package cluster

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

func someBundle() bundle {
	return bundle{
		owner: "n.1", partition: 270, epoch: 1 << 50, upto: ID{1 << 41, 7}, confirmed: math.MaxUint64, expected: 3,
		outputs: []output{
			{id: ID{1, 2}, room: "日本", to: "s", joined: true, timestamp: 5},
			{id: ID{1, 2}, room: "r", except: "s", frame: protocol.NewFrame([]byte(`{"type":"patch"}`)), timestamp: 6},
			{id: ID{1, 3}, room: "r", frame: protocol.NewFrame([]byte(`{}`)).AsSoft()},
			{id: ID{1, 3}, room: "r", to: "s", close: &protocol.Close{Code: 1008, Reason: "no"}},
			{id: ID{1, 3}, room: "r", to: "s", grant: &room.Grant{Permission: room.ReadOnly, Metadata: json.RawMessage(`{"a":1}`)}},
			{id: ID{1, 4}, room: "r", reply: &reply{ask: 9, found: true, sessions: []room.SessionInfo{{ID: "s", Client: "c", Permission: room.ReadWrite, Metadata: json.RawMessage(`1`)}}}},
			{id: ID{1, 4}, room: "r", reply: &reply{ask: 10}},
			{id: ID{1, 5}, room: "r", to: "s", hold: true},
			{id: ID{1, 5}, room: "r", passed: true, passedFrom: 6, timestamp: 1 << 50},
			{room: "r", to: "s", late: true, frame: protocol.NewFrame([]byte(`{}`))},
		},
	}
}

func TestBundleRoundTrip(t *testing.T) {
	want := someBundle()
	data := encodeBundle(&want)
	got, err := parseBundle(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
	}
	for n := range data {
		if _, err := parseBundle(data[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a bundle", n, len(data))
		}
	}
	want.partition = partitions
	if _, err := parseBundle(encodeBundle(&want)); err == nil {
		t.Error("a partition that there is not")
	}
}

func FuzzParseBundle(f *testing.F) {
	b := someBundle()
	f.Add(encodeBundle(&b))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBundle(data)
		if err != nil {
			return
		}
		again, err := parseBundle(encodeBundle(&b))
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Errorf("%v: %+v, %+v", err, again, b)
		}
	})
}

func TestEdgesRoundTrip(t *testing.T) {
	want := map[string]edgeMark{"a.1": {number: 5}, "b.2": {number: math.MaxUint64, gone: 1700000000000}}
	data := appendEdges(nil, want)
	got, err := parseEdges(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parseEdges(nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseEdges(data[:len(data)-1]); err == nil {
		t.Error("a part of it can be read")
	}
}
