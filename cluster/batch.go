package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// itemKind tells the items of a log apart.
type itemKind byte

const (
	itemJoin       itemKind = iota + 1 // Client, Grant
	itemLeave                          //
	itemMessage                        // Text
	itemRegrant                        // Grant, of which an empty permission changes none; Ask
	itemEdgeGone                       // Session holds the edge's incarnation; no room
	itemSessions                       // Ask; no session
	itemDisconnect                     // Close, Ask
)

// item is one thing that an edge tells a room.
type item struct {
	kind    itemKind
	room    string
	session string
	client  string
	grant   room.Grant // without Expires: the edge sees to that
	text    []byte
	close   protocol.Close
	ask     uint64 // a question's number at its edge, which waits for a reply; 0: none
}

// itemOverhead is about what an item takes in memory beside its texts.
const itemOverhead = 128

// size is how many bytes an item keeps while it waits.
func (it *item) size() int {
	return itemOverhead + len(it.room) + len(it.session) + len(it.client) + len(it.text) + len(it.grant.Metadata)
}

// batch is one entry of a partition's log: what one edge had to tell since its
// last. Batches of an edge are numbered from 1 for each partition, so that an
// owner can tell one that comes twice, and one that is missing.
type batch struct {
	edge   string // incarnation
	number uint64
	// limits is what the edge lets its sessions make of a room: MaxDocumentBytes,
	// MaxPresenceBytes and MaxSessions. Whoever applies the batch judges by these
	// and not by limits of its own.
	limits room.Limits
	items  []item
}

const batchVersion = 1

// encodeBatch returns the batch's encoding.
func encodeBatch(x *batch) []byte {
	b := append([]byte(nil), batchVersion)
	b = appendText(b, x.edge)
	b = binary.AppendUvarint(b, x.number)
	for _, limit := range []int{x.limits.MaxDocumentBytes, x.limits.MaxPresenceBytes, x.limits.MaxSessions} {
		b = binary.AppendUvarint(b, uint64(limit))
	}
	b = binary.AppendUvarint(b, uint64(len(x.items)))
	for i := range x.items {
		it := &x.items[i]
		b = append(b, byte(it.kind))
		b = appendText(b, it.room)
		b = appendText(b, it.session)
		switch it.kind {
		case itemJoin:
			b = appendText(b, it.client)
			b = appendGrant(b, it.grant)
		case itemRegrant:
			b = appendGrant(b, it.grant)
			b = binary.AppendUvarint(b, it.ask)
		case itemMessage:
			b = appendText(b, it.text)
		case itemSessions:
			b = binary.AppendUvarint(b, it.ask)
		case itemDisconnect:
			b = appendClose(b, it.close)
			b = binary.AppendUvarint(b, it.ask)
		}
	}
	return b
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendGrant(b []byte, g room.Grant) []byte {
	b = appendText(b, string(g.Permission))
	if g.Metadata == nil {
		return append(b, 0)
	}
	return appendText(append(b, 1), []byte(g.Metadata))
}

func appendClose(b []byte, c protocol.Close) []byte {
	return appendText(binary.AppendUvarint(b, uint64(c.Code)), c.Reason)
}

var errEncoding = errors.New("unreadable encoding")

// parseBatch reads what encodeBatch wrote. The texts of the messages are parts
// of data.
func parseBatch(data []byte) (x batch, err error) {
	r := reader{data: data}
	if v := r.byte(); v != batchVersion && r.err == nil {
		return x, fmt.Errorf("%w: version %d", errEncoding, v)
	}
	x.edge = string(r.text())
	x.number = r.uint()
	x.limits.MaxDocumentBytes, x.limits.MaxPresenceBytes, x.limits.MaxSessions = r.int(), r.int(), r.int()
	n := r.uint()
	for i := uint64(0); i < n && r.err == nil; i++ {
		it := item{kind: itemKind(r.byte()), room: string(r.text()), session: string(r.text())}
		switch it.kind {
		case itemJoin:
			it.client = string(r.text())
			it.grant = r.grant()
		case itemRegrant:
			it.grant = r.grant()
			it.ask = r.uint()
		case itemSessions:
			it.ask = r.uint()
		case itemDisconnect:
			it.close = r.close()
			it.ask = r.uint()
		case itemMessage:
			it.text = r.text()
		case itemLeave, itemEdgeGone:
		default:
			r.fail()
		}
		x.items = append(x.items, it)
	}
	if r.err == nil && len(r.data) > 0 {
		r.fail()
	}
	return x, r.err
}

// reader takes an encoding apart; after the first fault everything is zero.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errEncoding
	}
	r.data = nil
}

func (r *reader) byte() byte {
	if len(r.data) == 0 {
		r.fail()
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.data)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[size:]
	return n
}

func (r *reader) int() int {
	n := r.uint()
	if n > math.MaxInt {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) text() []byte {
	n := r.uint()
	if n > uint64(len(r.data)) {
		r.fail()
		return nil
	}
	s := r.data[:n:n]
	r.data = r.data[n:]
	return s
}

func (r *reader) close() protocol.Close {
	return protocol.Close{Code: uint16(r.uint()), Reason: string(r.text())}
}

func (r *reader) grant() room.Grant {
	g := room.Grant{Permission: room.Permission(r.text())}
	if r.byte() == 1 {
		g.Metadata = append([]byte{}, r.text()...)
	}
	return g
}
