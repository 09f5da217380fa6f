package wsconn

import (
	"net/url"
	"strings"
)

// ConnectError is the error for a URL that does not say who wants to go where.
type ConnectError struct {
	// Code is for programs: invalid-url, missing-room-id, missing-client-id
	// or missing-token.
	Code    string
	message string
}

func (e *ConnectError) Error() string { return e.message }

const codeMissingToken = "missing-token"

// target is where a client wants to go.
type target struct{ room, client, token string }

// ParseURL returns the query parameters of a connect URL, or of its path and
// query: none of them is empty. The error is a [*ConnectError]; it never
// quotes the URL, which may hold a token.
func ParseURL(raw string) (roomID, clientID, token string, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", "", "", &ConnectError{"invalid-url", "Could not parse connect URL"}
	}
	t, err := parseQuery(u.RawQuery)
	return t.room, t.client, t.token, err
}

// parseQuery reads a query the way browsers write and the published server
// reads it: parts that cannot be decoded are taken as they stand.
func parseQuery(query string) (target, error) {
	t := target{first(query, "roomId"), first(query, "clientId"), first(query, "token")}
	switch {
	case t.room == "":
		return t, &ConnectError{"missing-room-id", "Missing roomId query parameter"}
	case t.client == "":
		return t, &ConnectError{"missing-client-id", "Missing clientId query parameter"}
	case t.token == "":
		return t, &ConnectError{codeMissingToken, "Missing token query parameter"}
	}
	return t, nil
}

func first(query, name string) string {
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		if unescape(key) == name {
			return unescape(value)
		}
	}
	return ""
}

func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return strings.ToValidUTF8(decoded, "\uFFFD")
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "+", " "), "\uFFFD")
}
