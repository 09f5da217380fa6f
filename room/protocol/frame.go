package protocol

import "encoding/binary"

// headerRoom is the longest header of an unmasked WebSocket frame.
const headerRoom = 10

// Frame is one server message, encoded once for all who receive it: the JSON
// text, and in front of it the header of an unmasked, unfragmented WebSocket
// text frame. Frames are immutable and may be shared; the zero Frame is no
// message.
type Frame struct {
	buf  []byte // headerRoom bytes, of which the last ones hold the header, then the text
	soft bool
}

// Text is the JSON text. The caller must not change it.
func (f Frame) Text() []byte { return f.buf[headerRoom:] }

// Wire is the whole WebSocket frame. The caller must not change it.
func (f Frame) Wire() []byte { return f.buf[headerRoom-headerLen(len(f.buf)-headerRoom):] }

// Len is the length of the text in bytes.
func (f Frame) Len() int { return max(0, len(f.buf)-headerRoom) }

// Soft reports whether the message is of presence only: a cursor that moved may
// wait a little longer than an edit.
func (f Frame) Soft() bool { return f.soft }

// AsSoft is the frame as one of presence only.
func (f Frame) AsSoft() Frame { return Frame{f.buf, true} }

// IsZero reports whether f is no message.
func (f Frame) IsZero() bool { return f.buf == nil }

// NewFrame frames a copy of text.
func NewFrame(text []byte) Frame {
	return Seal(append(Begin(len(text)), text...))
}

// Begin returns a buffer to which the text of a frame can be appended; size is
// a hint. [Seal] makes the frame.
func Begin(size int) []byte {
	return make([]byte, headerRoom, headerRoom+size)
}

// Seal makes a frame of a buffer that came from [Begin], which it keeps.
func Seal(buf []byte) Frame {
	const finalText = 0x81 // FIN, opcode 1
	n := len(buf) - headerRoom
	head := buf[headerRoom-headerLen(n) : headerRoom]
	head[0] = finalText
	switch len(head) {
	case 2:
		head[1] = byte(n)
	case 4:
		head[1] = 126
		binary.BigEndian.PutUint16(head[2:], uint16(n))
	default:
		head[1] = 127
		binary.BigEndian.PutUint64(head[2:], uint64(n))
	}
	return Frame{buf: buf}
}

func headerLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	default:
		return headerRoom
	}
}
