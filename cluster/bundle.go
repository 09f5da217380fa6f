package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

const bundleVersion = 1

// What an output has, as bits.
const (
	outTo uint64 = 1 << iota
	outExcept
	outFrame
	outSoft
	outClose
	outGrant
	outJoined
	outReply
	outHold
	outLate
	outPassed
)

// encodeBundle returns the bundle's encoding. Diffs must have become frames.
func encodeBundle(x *bundle) []byte {
	b := append([]byte(nil), bundleVersion)
	b = appendText(b, x.owner)
	b = binary.AppendUvarint(b, uint64(x.partition))
	b = binary.AppendUvarint(b, x.epoch)
	b = appendID(b, x.upto)
	b = binary.AppendUvarint(b, x.confirmed)
	b = binary.AppendUvarint(b, x.expected)
	b = binary.AppendUvarint(b, uint64(len(x.outputs)))
	for i := range x.outputs {
		b = appendOutput(b, &x.outputs[i])
	}
	return b
}

func appendOutput(b []byte, o *output) []byte {
	b = binary.AppendUvarint(b, o.has())
	b = appendID(b, o.id)
	b = appendText(b, o.room)
	b = binary.AppendUvarint(b, uint64(o.timestamp))
	if o.to != "" {
		b = appendText(b, o.to)
	}
	if o.except != "" {
		b = appendText(b, o.except)
	}
	if !o.frame.IsZero() {
		b = appendText(b, o.frame.Text())
	}
	if o.close != nil {
		b = appendClose(b, *o.close)
	}
	if o.grant != nil {
		b = appendGrant(b, *o.grant)
	}
	if o.reply != nil {
		b = appendReply(b, o.reply)
	}
	if o.passed {
		b = binary.AppendUvarint(b, uint64(o.passedFrom))
	}
	return b
}

// has is what an output has, as bits.
func (o *output) has() (bits uint64) {
	set := func(bit uint64, is bool) {
		if is {
			bits |= bit
		}
	}
	set(outTo, o.to != "")
	set(outExcept, o.except != "")
	set(outFrame, !o.frame.IsZero())
	set(outSoft, o.frame.Soft())
	set(outClose, o.close != nil)
	set(outGrant, o.grant != nil)
	set(outJoined, o.joined)
	set(outReply, o.reply != nil)
	set(outHold, o.hold)
	set(outLate, o.late)
	set(outPassed, o.passed)
	return bits
}

func appendReply(b []byte, r *reply) []byte {
	b = binary.AppendUvarint(b, r.ask)
	found := byte(0)
	if r.found {
		found = 1
	}
	b = append(b, found)
	b = binary.AppendUvarint(b, uint64(len(r.sessions)))
	for _, s := range r.sessions {
		b = appendText(b, s.ID)
		b = appendText(b, s.Client)
		b = appendGrant(b, room.Grant{Permission: s.Permission, Metadata: s.Metadata})
	}
	return b
}

func appendID(b []byte, id ID) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, id.MS), id.Seq)
}

// parseBundle reads what encodeBundle wrote. What it returns does not keep data.
func parseBundle(data []byte) (x bundle, err error) {
	r := reader{data: data}
	if v := r.byte(); v != bundleVersion && r.err == nil {
		return x, fmt.Errorf("%w: version %d", errEncoding, v)
	}
	x.owner = string(r.text())
	partition := r.uint()
	if partition >= partitions {
		r.fail()
	}
	x.partition = int(partition)
	x.epoch = r.uint()
	x.upto = r.id()
	x.confirmed = r.uint()
	x.expected = r.uint()
	n := r.uint()
	for i := uint64(0); i < n && r.err == nil; i++ {
		x.outputs = append(x.outputs, r.output())
	}
	if r.err == nil && len(r.data) > 0 {
		r.fail()
	}
	return x, r.err
}

func (r *reader) output() (o output) {
	has := r.uint()
	o.id = r.id()
	o.room = string(r.text())
	o.timestamp = int64(r.uint())
	if has&outTo != 0 {
		o.to = string(r.text())
	}
	if has&outExcept != 0 {
		o.except = string(r.text())
	}
	if has&outFrame != 0 {
		o.frame = protocol.NewFrame(r.text())
		if has&outSoft != 0 {
			o.frame = o.frame.AsSoft()
		}
	}
	if has&outClose != 0 {
		c := r.close()
		o.close = &c
	}
	if has&outGrant != 0 {
		g := r.grant()
		o.grant = &g
	}
	o.joined, o.hold, o.late = has&outJoined != 0, has&outHold != 0, has&outLate != 0
	if has&outReply != 0 {
		o.reply = r.reply()
	}
	if has&outPassed != 0 {
		o.passed, o.passedFrom = true, int64(r.uint())
	}
	return o
}

func (r *reader) reply() *reply {
	x := &reply{ask: r.uint(), found: r.byte() == 1}
	n := r.uint()
	for i := uint64(0); i < n && r.err == nil; i++ {
		s := room.SessionInfo{ID: string(r.text()), Client: string(r.text())}
		g := r.grant()
		s.Permission, s.Metadata = g.Permission, g.Metadata
		x.sessions = append(x.sessions, s)
	}
	return x
}

func (r *reader) id() ID { return ID{r.uint(), r.uint()} }

// appendEdges appends the encoding of the edges of a partition's checkpoint.
func appendEdges(b []byte, edges map[string]edgeMark) []byte {
	b = binary.AppendUvarint(b, uint64(len(edges)))
	for _, edge := range slices.Sorted(maps.Keys(edges)) {
		b = appendText(b, edge)
		b = binary.AppendUvarint(b, edges[edge].number)
		b = binary.AppendUvarint(b, edges[edge].gone)
	}
	return b
}

// parseEdges reads what appendEdges wrote; nothing at all is no edges.
func parseEdges(data []byte) (map[string]edgeMark, error) {
	edges := map[string]edgeMark{}
	if len(data) == 0 {
		return edges, nil
	}
	r := reader{data: data}
	n := r.uint()
	for i := uint64(0); i < n && r.err == nil; i++ {
		edge := string(r.text())
		edges[edge] = edgeMark{number: r.uint(), gone: r.uint()}
	}
	return edges, r.err
}
