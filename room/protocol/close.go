package protocol

import "unicode/utf8"

// Close is why a server ends a socket: the WebSocket close code and a reason
// that a person can read. Clients of canvas-store reconnect after every close
// by themselves; what a code tells is whether that can help.
type Close struct {
	Code   uint16
	Reason string
}

// MaxCloseReason is the longest reason, in bytes, that fits a close frame.
const MaxCloseReason = 123

// WebSocket close codes (RFC 6455, section 7.4, and the IANA registry).
const (
	CodeNormal          = 1000 // the application closed the session
	CodeGoingAway       = 1001 // the peer does not answer pings, or writes do not get through
	CodeProtocolError   = 1002 // not WebSocket; a retry fails alike
	CodeUnsupportedData = 1003 // a binary message; a retry fails alike
	CodeInvalidText     = 1007 // text that is not UTF-8; a retry fails alike
	CodePolicy          = 1008 // refused: wrong query, token, or a malformed message; fix it first
	CodeTooBig          = 1009 // longer than the message limit; a retry fails alike
	CodeInternal        = 1011 // the server failed; a retry may help
	CodeRestart         = 1012 // the server goes away; come back at once
	CodeTryLater        = 1013 // too slow, or the server is full; come back, get a diff
)

// The closes that need no further words.
var (
	CloseNormal       = Close{CodeNormal, "closed by the server"}
	CloseRestart      = Close{CodeRestart, "server is restarting"}
	CloseSlowConsumer = Close{CodeTryLater, "slow consumer"}
	CloseRoomFull     = Close{CodeTryLater, "room is full"}
	CloseInternal     = Close{CodeInternal, "internal error"}
	CloseDeadPeer     = Close{CodeGoingAway, "no answer to pings"}
	CloseTokenExpired = Close{CodePolicy, "token expired"}
	CloseBinary       = Close{CodeUnsupportedData, "binary messages are not part of the protocol"}
	CloseInvalidText  = Close{CodeInvalidText, "text is not UTF-8"}
	CloseTooBig       = Close{CodeTooBig, "message is too big"}
)

// PolicyViolation is a close with code 1008 and the given reason, cut to what
// a close frame can carry.
func PolicyViolation(reason string) Close {
	return Close{CodePolicy, CutReason(reason)}
}

// CutReason cuts s at a character boundary so that it fits a close frame.
func CutReason(s string) string {
	if len(s) <= MaxCloseReason {
		return s
	}
	n := MaxCloseReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
