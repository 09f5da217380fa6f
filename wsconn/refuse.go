package wsconn

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// refusalReason is why a request was not upgraded.
type refusalReason int

const (
	badRequest     refusalReason = iota // no WebSocket handshake, or a parameter is missing
	badToken                            // the token is missing or not good
	expiredToken                        // the token was good once
	wrongRoom                           // the token is for another room
	refused                             // by the authorizer, or for the page's origin
	roomFull                            // the room has as many sessions as it takes
	limited                             // by the authorizer, which may grant it later
	draining                            // the server goes away, or the room moves
	overloaded                          // as many connections as the server takes, or more at a time
	authorizerDown                      // the authorizer failed, or took too long
	refusalReasons
)

// refusalTable says what each reason is called, as a metric's label and in the
// Weft-Reason header, its HTTP status, and after how many seconds it may be
// otherwise; 0: not by itself.
var refusalTable = [refusalReasons]struct {
	label  string
	status int
	retry  int
}{
	badRequest:     {"bad_request", http.StatusBadRequest, 0},
	badToken:       {"bad_token", http.StatusUnauthorized, 0},
	expiredToken:   {"expired_token", http.StatusUnauthorized, 0},
	wrongRoom:      {"wrong_room", http.StatusForbidden, 0},
	refused:        {"refused", http.StatusForbidden, 0},
	roomFull:       {"room_full", http.StatusTooManyRequests, 10},
	limited:        {"limited", http.StatusTooManyRequests, 10},
	draining:       {"draining", http.StatusServiceUnavailable, 1},
	overloaded:     {"overloaded", http.StatusServiceUnavailable, 2},
	authorizerDown: {"authorizer_down", http.StatusServiceUnavailable, 5},
}

// refusal is an answer instead of an upgrade.
type refusal struct {
	reason refusalReason
	status int    // 0: the reason's
	text   string // a sentence, for the client
	cause  error  // for the operator; nil: the text says all
}

func refusedDraining() *refusal {
	return &refusal{reason: draining, text: protocol.CloseRestart.Reason}
}

var kindReasons = map[authz.Kind]refusalReason{
	authz.BadToken: badToken, authz.ExpiredToken: expiredToken, authz.WrongRoom: wrongRoom, authz.Limited: limited,
}

const notInTime = "the session was not ready in time"

// refusalFor says how a request is answered whose client did not get to its
// room; nil: with an upgrade, and then a close.
func refusalFor(err error) *refusal {
	var query *ConnectError
	var unauthorized *errAuthorization
	var told interface{ CloseSocket() protocol.Close }
	switch {
	case err == nil, errors.Is(err, ErrConnectionClosed):
		return nil
	case errors.As(err, &query):
		reason := badRequest
		if query.Code == codeMissingToken {
			reason = badToken
		}
		return &refusal{reason: reason, text: query.Error()}
	case errors.As(err, &unauthorized):
		return unauthorizedFor(unauthorized.err)
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{reason: overloaded, text: notInTime, cause: err}
	case errors.Is(err, room.ErrFull):
		return &refusal{reason: roomFull, text: protocol.CloseRoomFull.Reason}
	case errors.Is(err, room.ErrClosed):
		return refusedDraining()
	case errors.As(err, &told):
		return toldFor(told.CloseSocket(), err)
	}
	return nil
}

// unauthorizedFor is refusalFor for an authorizer's error. What the client gets
// to know is what was made for it; see [room.ClientReason].
func unauthorizedFor(err error) *refusal {
	text := room.ClientReason(err)
	var denied *authz.Denied
	var told interface{ ClientReason() string }
	switch {
	case errors.As(err, &denied):
		reason, ok := kindReasons[denied.Kind]
		if !ok {
			reason = refused
		}
		return &refusal{reason: reason, text: text}
	case errors.As(err, &told):
		return &refusal{reason: refused, text: text}
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{reason: authorizerDown, text: notInTime, cause: err}
	}
	return &refusal{reason: authorizerDown, text: text, cause: err}
}

// toldFor is refusalFor for an error that knows how it closes a socket.
func toldFor(why protocol.Close, err error) *refusal {
	no := &refusal{text: why.Reason, cause: err}
	switch {
	case why == protocol.CloseRoomFull:
		no.reason = roomFull
	case why.Code == protocol.CodeRestart:
		no.reason = draining
	case why.Code == protocol.CodeTryLater:
		no.reason = overloaded
	case why.Code == protocol.CodePolicy:
		no.reason = refused
	default:
		return nil
	}
	return no
}

// refuse answers a request that is not upgraded.
func (s *Server) refuse(w http.ResponseWriter, no *refusal, t target) {
	s.metrics.refusals[no.reason].Inc()
	s.refusals.note(no, t)
	row := refusalTable[no.reason]
	h := w.Header()
	body := no.text + "\n"
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Weft-Reason", row.label)
	h.Set("Connection", "close") // frames that came with the request are no next request
	if row.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(row.retry))
	}
	status := row.status
	if no.status != 0 {
		status = no.status
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer") // which every 401 must name a way by
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	// On its way before the request counts as answered, for which alone the end of
	// a server waits.
	_ = http.NewResponseController(w).Flush()
}
