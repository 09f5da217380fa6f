// Package protocol is the wire protocol of canvas-store, version 2: what a
// client and a server say to each other over one WebSocket.
//
// Every message is one text frame of JSON. [Parser.Parse] reads a client's
// message in one pass: it validates the whole text, names the place of
// anything that has the wrong type, and leaves every value that a server need
// not understand as the bytes it came in. The functions that build what a
// server says ([Ack], [Broadcast], [Synced] and so on) return a [Frame], which
// carries the WebSocket framing too, so that a broadcast is encoded and framed
// once however many receive it.
//
// [Close] lists the reasons for which a server ends a socket.
//
// The package does no I/O and holds no state.
package protocol

// Version is the protocol version that this package speaks.
const Version = 2

// Limits bounds what one client message may ask for.
// The zero value means the defaults.
type Limits struct {
	// MaxMessageBytes is the longest text of one message, in bytes.
	// Default 32 MiB: a client may seed a whole document in one message.
	// The socket enforces it before a message is parsed.
	MaxMessageBytes int
	// MaxBufferLength is the largest `len` of a buffer delta, in elements.
	// Default 1 000 000.
	MaxBufferLength int
}

// Defaults of [Limits].
const (
	DefaultMaxMessageBytes = 32 << 20
	DefaultMaxBufferLength = 1_000_000
)

// WithDefaults returns l with its zero fields replaced.
func (l Limits) WithDefaults() Limits {
	if l.MaxMessageBytes <= 0 {
		l.MaxMessageBytes = DefaultMaxMessageBytes
	}
	if l.MaxBufferLength <= 0 {
		l.MaxBufferLength = DefaultMaxBufferLength
	}
	return l
}
