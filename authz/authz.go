// Package authz decides who may open a room and what they may do in it.
//
// An [Authorizer] is asked once when a session connects and again each time
// the session sends a newer token. It answers with a [room.Grant], with a
// [*Denied] whose reason the client is told, or with any other error, of which
// the client learns only that authorization failed.
//
// There are three of them here, and any function is a fourth:
//
//   - [JWT] verifies tokens signed with a shared secret, with the private half
//     of a given public key, or with a key from a JWKS URL. [Mint] makes tokens
//     that it accepts.
//   - [Webhook] asks an HTTP endpoint of the application.
//   - [Insecure] lets everyone write: for development only.
//   - [AuthorizerFunc] turns a function into an Authorizer.
//
// [RememberRefusals] keeps clients that are refused, and come back again and
// again, from asking any of them each time.
//
// No error and no log line of this package holds a token, a claim's value, or
// the user information, path or query of a URL.
package authz

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"unicode"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// MaxReason is the greatest length in bytes of a reason that fits into a
// WebSocket close frame.
const MaxReason = protocol.MaxCloseReason

// maxToken bounds the tokens that are looked at, in bytes. A browser's request
// line carries half of it at most; a refresh could carry far more.
const maxToken = 16 << 10

// Info is what an Authorizer gets to know about a session.
//
// It holds the token, so printing and logging it shows the room and the client
// only. The request's URL holds the token too: do not log it.
type Info struct {
	// RoomID, ClientID and Token are as the client sent them; only the server
	// in front has made sure that they are not empty.
	RoomID, ClientID, Token string
	// Request is the HTTP request that opened the connection, without a body
	// to read. It is nil on a refresh.
	Request *http.Request
}

// LogValue leaves the token and the request out.
func (i Info) LogValue() slog.Value {
	return slog.GroupValue(slog.String("room", i.RoomID), slog.String("client", i.ClientID))
}

// String leaves the token and the request out.
func (i Info) String() string { return "room " + i.RoomID + ", client " + i.ClientID }

// GoString leaves the token and the request out.
func (i Info) GoString() string { return "authz.Info{" + i.String() + "}" }

// Authorizer decides what a session may do.
type Authorizer interface {
	// Authorize is called when a session connects and at each refresh, by many
	// sessions at once. It must return soon after ctx ends. A refusal is a
	// *Denied, anywhere in the error's chain; any other error means that no
	// answer was to be had. Either way the grant is ignored.
	Authorize(ctx context.Context, info Info) (room.Grant, error)
}

// AuthorizerFunc lets a function be an Authorizer.
type AuthorizerFunc func(ctx context.Context, info Info) (room.Grant, error)

// Authorize calls f.
func (f AuthorizerFunc) Authorize(ctx context.Context, info Info) (room.Grant, error) {
	return f(ctx, info)
}

// Kind is what a refusal is about. Before a WebSocket is open it decides the
// HTTP status, of which a client's own code can tell whether a new token helps.
type Kind string

const (
	// Refused: whoever this is may not do that. 403. The zero Kind means it, too.
	Refused Kind = "refused"
	// BadToken: the token is missing, malformed, or not genuine. 401.
	BadToken Kind = "bad_token"
	// ExpiredToken: the token was good once. 401.
	ExpiredToken Kind = "expired_token"
	// WrongRoom: the token is good, but for another room. 403.
	WrongRoom Kind = "wrong_room"
	// Limited: too many of a client, an address or a session; it may work
	// later. 429. Such a refusal is not remembered by [RememberRefusals].
	Limited Kind = "limited"
)

// Denied is a refusal that the client is told about.
type Denied struct {
	// Kind is what it is about; empty means Refused.
	Kind Kind
	// Reason is a sentence for the person at the other end. It becomes the
	// reason of a close frame: at most MaxReason bytes of valid UTF-8, as Deny
	// makes sure.
	Reason string
}

// Error returns the reason, marked as a refusal.
func (d *Denied) Error() string { return "authorization denied: " + d.Reason }

// ClientReason is what the client is told: the reason.
func (d *Denied) ClientReason() string { return d.Reason }

// Deny returns a *Denied of kind Refused with the reason made fit for a close
// frame: valid UTF-8 without control characters, cut between characters to
// MaxReason bytes.
func Deny(reason string) error { return DenyAs(Refused, reason) }

// DenyAs is [Deny] for a refusal of another kind.
func DenyAs(kind Kind, reason string) error { return &Denied{Kind: kind, Reason: fitReason(reason)} }

func badToken(reason string) error { return DenyAs(BadToken, reason) }

func fitReason(s string) string {
	if len(s) > 4*MaxReason { // what follows need not look at a megabyte
		s = s[:4*MaxReason]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimSpace(protocol.CutReason(strings.TrimSpace(s)))
}

// Insecure lets every session with a token that is not empty read and write
// every room. It is for development on one's own machine.
type Insecure struct{}

// Authorize grants read and write unless the token is empty.
func (Insecure) Authorize(_ context.Context, info Info) (room.Grant, error) {
	if info.Token == "" {
		return room.Grant{}, badToken(reasonNoToken)
	}
	return room.Grant{Permission: room.ReadWrite}, nil
}

const (
	reasonNoToken   = "token is missing; send any token that this server accepts"
	reasonLongToken = "token is too long; send one of at most 16 KiB"
)

// checkToken refuses what no authorizer needs to look at.
func checkToken(token string) error {
	switch {
	case token == "":
		return badToken(reasonNoToken)
	case len(token) > maxToken:
		return badToken(reasonLongToken)
	}
	return nil
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
