package room

import (
	"encoding/json"
	"time"
)

// Permission says what a session may do to its room.
type Permission string

const (
	// ReadOnly sessions see everything; what they send is acknowledged and not applied.
	ReadOnly Permission = "readonly"
	// ReadWrite sessions may change the document and announce presence.
	ReadWrite Permission = "readwrite"
)

// Valid reports whether p is one of the two permissions.
func (p Permission) Valid() bool { return p == ReadOnly || p == ReadWrite }

// Grant is what an authorizer lets a session do, and for how long.
type Grant struct {
	Permission Permission
	// Metadata is whatever the application wants to know about the session,
	// as JSON: a user id, a display name. Nil means none; on a refresh it
	// means that the session keeps what it has.
	Metadata json.RawMessage
	// Expires is when the grant ends; zero means never. Who holds the socket
	// closes it some time after, unless the client has sent a newer token.
	Expires time.Time
}
