package protocol

import "strconv"

// Ack tells the sender of a patch that it is applied. id is the patch's
// messageId as it came (JSON), nil if it had none.
func Ack(id []byte, timestamp int64) Frame {
	b := Begin(len(id) + 48)
	b = append(b, `{"type":"ack"`...)
	if id != nil {
		b = append(b, `,"messageId":`...)
		b = append(b, id...)
	}
	b = append(b, `,"timestamp":`...)
	b = strconv.AppendInt(b, timestamp, 10)
	return Seal(append(b, '}'))
}

// Synced ends the answer to a reconnect.
func Synced(timestamp int64) Frame {
	return number(`{"type":"synced","timestamp":`, timestamp)
}

// Resync tells a client that the room has lost what came after since.
func Resync(since int64) Frame {
	return number(`{"type":"resync","since":`, since)
}

// ClientCount tells how many sessions the room has.
func ClientCount(n int) Frame {
	return number(`{"type":"clientCount","count":`, int64(n))
}

// VersionMismatch answers a reconnect of another protocol version.
func VersionMismatch() Frame {
	return number(`{"type":"version-mismatch","serverProtocolVersion":`, Version)
}

func number(head string, n int64) Frame {
	b := append(Begin(len(head)+21), head...)
	b = strconv.AppendInt(b, n, 10)
	return Seal(append(b, '}'))
}

// Broadcast is what the others of a room get of one client's patches.
// clientID is JSON (see [AppendQuoted]); document and presence are the lists
// as they came, nil where there is none. timestamp is sent only with a
// document list.
func Broadcast(clientID, document, presence []byte, timestamp int64) Frame {
	b := BeginPatch(clientID, len(document)+len(presence))
	if document != nil {
		b = append(b, `,"documentPatches":`...)
		b = append(b, document...)
		b = AppendTimestamp(b, timestamp)
	}
	if presence != nil {
		b = append(b, `,"ephemeralPatches":`...)
		b = append(b, presence...)
	}
	f := Seal(append(b, '}'))
	f.soft = document == nil
	return f
}

// BeginPatch begins a patch message: the caller appends its members, each
// after a comma, the closing brace, and calls [Seal]. size is a hint for what
// the members take.
func BeginPatch(clientID []byte, size int) []byte {
	b := Begin(size + len(clientID) + 96)
	b = append(b, `{"type":"patch","clientId":`...)
	return append(b, clientID...)
}

// AppendTimestamp appends the timestamp member of a patch message.
func AppendTimestamp(b []byte, timestamp int64) []byte {
	b = append(b, `,"timestamp":`...)
	return strconv.AppendInt(b, timestamp, 10)
}
