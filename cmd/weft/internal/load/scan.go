package load

import "bytes"

// kind is a server message's type, as far as the load needs to tell them apart.
type kind byte

const (
	kindOther kind = iota
	kindPatch
	kindAck
	kindSynced
	kindMismatch
)

var (
	typeField = []byte(`"type":"`)
	ackField  = []byte(`"messageId":"`)
	// tagField holds, in every patch of the load, the time for which its sending was planned. The
	// servers pass patches on byte for byte, or as the same JSON numbers.
	tagField = []byte(`"sentAt":`)
)

// kindOf finds a message's type without decoding it. It takes the first "type" member that it
// meets, which is the right one: the load writes no such field into a document.
func kindOf(message []byte) kind {
	i := bytes.Index(message, typeField)
	if i < 0 {
		return kindOther
	}
	name := message[i+len(typeField):]
	switch {
	case bytes.HasPrefix(name, []byte(`patch"`)):
		return kindPatch
	case bytes.HasPrefix(name, []byte(`ack"`)):
		return kindAck
	case bytes.HasPrefix(name, []byte(`synced"`)):
		return kindSynced
	case bytes.HasPrefix(name, []byte(`version-mismatch"`)):
		return kindMismatch
	}
	return kindOther
}

// tags appends every tag in message to dst. There is one for each patch that the message carries.
func tags(dst []int64, message []byte) []int64 {
	for {
		i := bytes.Index(message, tagField)
		if i < 0 {
			return dst
		}
		message = message[i+len(tagField):]
		if v, ok := number(message); ok {
			dst = append(dst, v)
		}
	}
}

// ackTag returns the tag of the patch that an ack answers; false if it answers a seeding patch.
func ackTag(message []byte) (int64, bool) {
	i := bytes.Index(message, ackField)
	if i < 0 {
		return 0, false
	}
	return number(message[i+len(ackField):])
}

// number reads the decimal digits at the start of b. It takes no sign, fraction or exponent: a tag
// is a whole number of nanoseconds below 2^53, which every JSON encoder writes in digits.
func number(b []byte) (int64, bool) {
	var v int64
	i := 0
	for ; i < len(b) && i < 18 && b[i] >= '0' && b[i] <= '9'; i++ {
		v = v*10 + int64(b[i]-'0')
	}
	return v, i > 0
}
