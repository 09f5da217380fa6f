package store

import (
	"encoding/binary"
	"encoding/json"

	"github.com/weftsync/weft/room"
)

// Ids and presence may have bytes that are not UTF-8, and presence must come
// back as it was, so sessions are kept as texts with their lengths before them
// and not as JSON.

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendJSON(b []byte, text json.RawMessage) []byte {
	if text == nil {
		return append(b, 0)
	}
	return appendText(append(b, 1), text)
}

// encodeSession leaves out the session's id, which is the field's name.
func encodeSession(x *room.SessionState, home string) []byte {
	b := appendText(nil, x.Client)
	b = appendText(b, x.Grant.Permission)
	b = appendJSON(b, x.Grant.Metadata)
	b = appendJSON(b, x.Presence)
	return appendText(b, home)
}

// decodeSession reads what encodeSession wrote; ok is false if it did not.
func decodeSession(id string, text []byte) (x room.SessionState, home string, ok bool) {
	r := textReader{rest: text}
	x.ID = id
	x.Client = r.text()
	x.Grant.Permission = room.Permission(r.text())
	x.Grant.Metadata = r.json()
	x.Presence = r.json()
	home = r.text()
	return x, home, !r.bad && len(r.rest) == 0 && (x.Presence == nil || json.Valid(x.Presence))
}

func encodeOrder(sessions []room.SessionState) []byte {
	b := []byte{}
	for i := range sessions {
		b = appendText(b, sessions[i].ID)
	}
	return b
}

// decodeOrder reads what encodeOrder wrote; ok is false if it did not.
func decodeOrder(text []byte) (ids []string, ok bool) {
	r := textReader{rest: text}
	for len(r.rest) > 0 {
		ids = append(ids, r.text())
	}
	return ids, !r.bad
}

// textReader reads until something is wrong, and then nothing.
type textReader struct {
	rest []byte
	bad  bool
}

func (r *textReader) bytes() []byte {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > uint64(len(r.rest)-size) {
		r.bad, r.rest = true, nil
		return nil
	}
	text := r.rest[size : size+int(n)]
	r.rest = r.rest[size+int(n):]
	return text
}

func (r *textReader) text() string { return string(r.bytes()) }

func (r *textReader) json() json.RawMessage {
	if len(r.rest) == 0 || r.rest[0] > 1 {
		r.bad, r.rest = true, nil
		return nil
	}
	some := r.rest[0] == 1
	r.rest = r.rest[1:]
	if !some {
		return nil
	}
	return append(json.RawMessage{}, r.bytes()...)
}
