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

// storedPage is one page of a checkpoint.
type storedPage struct {
	version string
	parts   int // fields in Redis
}

const (
	// directoryLen is how many pages one field of the checkpoint tells of.
	directoryLen = 64
	// maxParts is more than the largest page has.
	maxParts = 1 << 17
)

// encodeDirectory encodes up to directoryLen pages: those that follow each other
// and are alike, as all that one save has written are, together.
func encodeDirectory(pages []storedPage) (b []byte) {
	for len(pages) > 0 {
		n := 1
		for n < len(pages) && pages[n] == pages[0] {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(pages[0].parts))
		b = appendText(b, pages[0].version)
		pages = pages[n:]
	}
	return b
}

// decodeDirectory reads what encodeDirectory wrote of n pages; ok is false if it
// did not.
func decodeDirectory(text string, n int) (pages []storedPage, ok bool) {
	r := textReader{rest: []byte(text)}
	for len(r.rest) > 0 {
		run, parts := r.number(), r.number()
		p := storedPage{version: r.text(), parts: int(parts)}
		if r.bad || run == 0 || run > uint64(n-len(pages)) || parts == 0 || parts > maxParts {
			return nil, false
		}
		for range run {
			pages = append(pages, p)
		}
	}
	return pages, !r.bad && len(pages) == n
}

func encodeForgotten(list []room.Forgotten) (b []byte) {
	for _, f := range list {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(f.After)), uint64(f.Before))
	}
	return b
}

// decodeForgotten reads what encodeForgotten wrote; ok is false if it did not.
func decodeForgotten(text []byte) (list []room.Forgotten, ok bool) {
	for len(text) > 0 {
		after, n := binary.Uvarint(text)
		before, m := binary.Uvarint(text[max(0, n):])
		if n <= 0 || m <= 0 || after >= before || before > maxTimestamp {
			return nil, false
		}
		list = append(list, room.Forgotten{After: int64(after), Before: int64(before)})
		text = text[n+m:]
	}
	return list, true
}

// textReader reads until something is wrong, and then nothing.
type textReader struct {
	rest []byte
	bad  bool
}

func (r *textReader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	text := r.rest[:n]
	r.rest = r.rest[n:]
	return text
}

func (r *textReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
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
