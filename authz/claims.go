package authz

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/weftsync/weft/room"
)

// ClaimNames says which claims of a token speak to Weft. A name left empty is
// the default. The three must differ from each other and from the claims that
// the JWT standard registers (iss, sub, aud, exp, nbf, iat, jti), except that
// Room may be "sub" or "aud".
type ClaimNames struct {
	Room     string // "roomId": a string, the one room that the token is for
	Write    string // "canWrite": a boolean; absent means readonly
	Metadata string // "metadata": any JSON value; absent or null means none
}

func (n ClaimNames) withDefaults() (ClaimNames, error) {
	n.Room = cmp.Or(n.Room, "roomId")
	n.Write = cmp.Or(n.Write, "canWrite")
	n.Metadata = cmp.Or(n.Metadata, "metadata")
	fields := []struct{ field, name string }{{"Room", n.Room}, {"Write", n.Write}, {"Metadata", n.Metadata}}
	registered := []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}
	for i, f := range fields {
		var problem error
		switch {
		case f.field == "Room" && (f.name == "sub" || f.name == "aud"):
		case slices.Contains(registered, f.name):
			problem = errors.New("is taken by the JWT standard")
		case slices.ContainsFunc(fields[:i], func(other struct{ field, name string }) bool { return other.name == f.name }):
			problem = errors.New("is also the name of another claim that is read, and they must differ")
		}
		if problem != nil {
			return n, &room.ConfigError{Field: "authz.ClaimNames." + f.field, Problem: problem}
		}
	}
	return n, nil
}

// claims are a token's claims by their exact names, values undecoded: only
// those that matter are looked at, and metadata stays the bytes it was.
// Its methods make it a jwt.Claims; their errors are *Denied.
type claims map[string]json.RawMessage

func (c claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.time("exp") }
func (c claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.time("nbf") }
func (c claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.time("iat") }
func (c claims) GetIssuer() (string, error)                   { return c.text("iss") }
func (c claims) GetSubject() (string, error)                  { return c.text("sub") }

func (c claims) GetAudience() (jwt.ClaimStrings, error) {
	raw, ok := c["aud"]
	if !ok {
		return nil, nil
	}
	var aud jwt.ClaimStrings
	if err := json.Unmarshal(raw, &aud); err != nil {
		return nil, denyType("aud", "a string or a list of strings")
	}
	return aud, nil
}

// year10000 is the first second that RFC 3339, and so JSON, cannot write.
var year10000 = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// time reads a NumericDate. jwt.NumericDate would turn 1e300 into some time or
// other; a number that is no time must not become an expiry.
func (c claims) time(name string) (*jwt.NumericDate, error) {
	raw, ok := c[name]
	if !ok {
		return nil, nil
	}
	t, ok := unixSeconds(raw)
	if !ok {
		return nil, denyType(name, "a time in Unix seconds")
	}
	return &jwt.NumericDate{Time: t}, nil
}

// unixSeconds reads a JSON number between 0 and the year 10000 as a time,
// fractions down to the microsecond.
func unixSeconds(raw json.RawMessage) (time.Time, bool) {
	var s *float64
	if json.Unmarshal(raw, &s) != nil || s == nil || *s < 0 || *s >= float64(year10000.Unix()) {
		return time.Time{}, false
	}
	whole, frac := math.Modf(*s)
	return time.Unix(int64(whole), int64(frac*1e6)*1e3), true
}

func (c claims) text(name string) (string, error) {
	raw, ok := c[name]
	if !ok {
		return "", nil
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", denyType(name, "a string")
	}
	return *s, nil
}

func (c claims) bool(name string) (bool, error) {
	raw, ok := c[name]
	if !ok {
		return false, nil
	}
	var b *bool
	if json.Unmarshal(raw, &b) != nil || b == nil {
		return false, denyType(name, "true or false")
	}
	return *b, nil
}

// raw returns the claim's value as it was written, nil if absent or null.
func (c claims) raw(name string) json.RawMessage { return notNull(c[name]) }

func notNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	return raw
}

// denyType names the claim, not its value: names are the server's settings.
func denyType(name, want string) error {
	if len(name) > 40 {
		name = name[:40] + "…"
	}
	return badToken(fmt.Sprintf("token claim %q must be %s", name, want))
}
