package load

import (
	"encoding/binary"
	"errors"

	"github.com/gobwas/ws"
)

// maxInspect is how much of one message is kept for inspection when the message does not arrive
// in one piece. A join of a big room answers with tens of megabytes of which nothing is needed.
const maxInspect = 64 << 10

var errFrame = errors.New("malformed frame")

// frames cuts a byte stream of unmasked server frames into messages. It is fed whatever a read
// returned: many frames in one piece are handled where they lie, without a copy; only what is cut
// off at the end of a piece is kept, so that an idle connection holds no buffer at all.
type frames struct {
	head    []byte // an incomplete frame header
	left    int64  // payload bytes of the current frame that are still to come
	message []byte // what has come of the current message, at most maxInspect of it
	inside  bool   // a data message has begun, whose last frame has not come
	op      ws.OpCode
	fin     bool
	control []byte // what has come of the current control frame
	ctrlOp  ws.OpCode
}

// feed hands every message that ends in b to handle, which must not keep the payload. whole is
// false for a message longer than maxInspect that came in pieces: payload is then its beginning.
func (f *frames) feed(b []byte, handle func(op ws.OpCode, payload []byte, whole bool)) error {
	if len(f.head) > 0 {
		// A header is at most 10 bytes: complete it in its own small buffer.
		had := len(f.head)
		f.head = append(f.head, b[:min(len(b), 10-min(had, 10))]...)
		n, err := f.begin(f.head)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		b = b[n-had:]
		f.head = f.head[:0]
		b = f.payload(b, handle)
	} else if f.left > 0 {
		b = f.payload(b, handle)
	}
	for len(b) > 0 {
		n, err := f.begin(b)
		if err != nil {
			return err
		}
		if n == 0 {
			f.head = append(f.head, b...)
			return nil
		}
		b = f.payload(b[n:], handle)
	}
	return nil
}

// begin reads a frame header from the start of b and returns its length, or 0 if b has not all of it.
func (f *frames) begin(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	op, fin := ws.OpCode(b[0]&0x0f), b[0]&0x80 != 0
	n, size := 2, int64(b[1]&0x7f)
	switch size {
	case 126:
		if n = 4; len(b) >= n {
			size = int64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if n = 10; len(b) >= n {
			size = int64(binary.BigEndian.Uint64(b[2:]) & (1<<63 - 1))
		}
	}
	if len(b) < n {
		return 0, nil
	}
	masked, reserved := b[1]&0x80 != 0, b[0]&0x70 != 0
	badControl := op.IsControl() && (!fin || size > 125)
	if masked || reserved || op.IsReserved() || badControl || (op == ws.OpContinuation) != (f.inside && !op.IsControl()) {
		return 0, errFrame
	}
	f.left = size
	if op.IsControl() {
		f.ctrlOp, f.control = op, f.control[:0]
		return n, nil
	}
	f.ctrlOp = 0
	if op != ws.OpContinuation {
		f.op = op
	}
	f.fin, f.inside = fin, true
	return n, nil
}

// payload takes the current frame's bytes from b and returns the rest.
func (f *frames) payload(b []byte, handle func(ws.OpCode, []byte, bool)) []byte {
	n := int(min(int64(len(b)), f.left))
	part, rest := b[:n], b[n:]
	ended := f.left == int64(n)
	f.left -= int64(n)
	if f.ctrlOp != 0 {
		f.control = append(f.control, part...)
		if ended {
			handle(f.ctrlOp, f.control, true)
			f.ctrlOp = 0
		}
		return rest
	}
	if ended && f.fin && len(f.message) == 0 {
		f.inside = false
		handle(f.op, part, true)
		return rest
	}
	f.message = append(f.message, part[:min(len(part), maxInspect-len(f.message))]...)
	if ended && f.fin {
		f.inside = false
		handle(f.op, f.message, len(f.message) < maxInspect)
		if f.message = f.message[:0]; cap(f.message) > 4<<10 {
			f.message = nil
		}
	}
	return rest
}
