package protocol

// Kind tells the client messages apart.
type Kind uint8

const (
	// Ignored is anything that the protocol passes over: text that is not
	// JSON, JSON that is not an object, an unknown type.
	Ignored Kind = iota
	Patch
	Reconnect
	AuthRefresh
)

// Message is one client message. Its byte slices point into the text that was
// parsed: the message is good for as long as that text is left alone, and
// until its Parser parses the next one.
type Message struct {
	Kind Kind
	// ID is a patch's messageId as JSON, nil if it has none.
	ID []byte
	// LastTimestamp and ProtocolVersion are a reconnect's; NaN if absent.
	LastTimestamp   float64
	ProtocolVersion float64
	// Token is an auth-refresh's; empty if absent. It must not be logged.
	Token string
	// Document and Presence are the lists of a patch or a reconnect.
	Document List
	Presence List
}

// HasPatches reports whether the message changes anything.
func (m *Message) HasPatches() bool {
	return len(m.Document.Patches) > 0 || len(m.Presence.Patches) > 0
}

// List is a list of patches.
type List struct {
	// Raw is the list as it came; nil if the message has none.
	Raw []byte
	// Patches is the same, taken apart.
	Patches []ComponentPatches
	// Growth is by how many elements the list's buffer deltas could at most
	// make stored arrays grow.
	Growth int
}

// RawOrNil is the list as it came, or nil if it has no patch.
func (l *List) RawOrNil() []byte {
	if len(l.Patches) == 0 {
		return nil
	}
	return l.Raw
}

// ComponentPatches is one patch: what it says of each component, every key once.
type ComponentPatches []ComponentPatch

// Existence is what a component patch says by its field _exists.
type Existence uint8

const (
	Updates Existence = iota // nothing, or neither true nor false
	Creates                  // true
	Deletes                  // false
)

// ComponentPatch is what a patch says of one component.
type ComponentPatch struct {
	// Key is the canonical JSON string (see [Canonical]), quotes included.
	Key    []byte
	Exists Existence
	// Fields holds every field once, _exists among them.
	Fields []Field
}

// Field is a field's new value.
type Field struct {
	// Name is the canonical JSON string, quotes included.
	Name []byte
	// Value is the value as it came.
	Value []byte
	// IsDelta says that Value is a buffer delta, and Delta holds it.
	IsDelta bool
	Delta   Delta
}

// Delta says how to make a new array of the old one: cut or zero-fill it to
// Len, then overwrite each run.
type Delta struct {
	Len  int
	Runs []Run
}

// Run overwrites elements from Offset on; those that fall outside the array
// are skipped.
type Run struct {
	Offset int64
	Values [][]byte // each a JSON value as it came
}

// Violation is the error for a message that has the shape of no protocol
// message: something of the wrong type, or beyond a limit.
type Violation struct {
	// Member is the message's member that is at fault, with the index of the
	// patch where it is a list: "documentPatches[0]". It holds no document
	// content, so it may be logged.
	Member string
	// Place is the full path within the message, which may quote keys and
	// names of the document.
	Place string
	// Problem says what is wrong there.
	Problem string
}

func (v *Violation) Error() string { return v.Place + " " + v.Problem }

// Close is the close that tells the client.
func (v *Violation) Close() Close { return PolicyViolation(v.Error()) }
