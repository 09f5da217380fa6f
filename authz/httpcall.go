package authz

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/weftsync/weft/room"
)

var (
	errTooLarge = errors.New("answer is too large")
	errBroken   = errors.New("connection broke, or the answer is not HTTP")
)

// endpoint is a URL that is called and must not be printed: it may hold
// credentials in its user information, its path or its query.
type endpoint struct {
	raw   string
	place string // scheme and host, for messages
}

func parseEndpoint(field, raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return endpoint{}, &room.ConfigError{Field: field, Problem: errors.New("is not an http or https URL")} // err would quote it
	}
	return endpoint{raw: raw, place: u.Scheme + "://" + u.Host}, nil
}

// newClient returns a client that follows no redirect: what is sent is meant
// for one address. conns is how many idle connections are kept.
func newClient(transport http.RoundTripper, conns int) *http.Client {
	if transport == nil {
		if t, ok := http.DefaultTransport.(*http.Transport); ok {
			t = t.Clone()
			t.MaxIdleConnsPerHost = conns
			t.MaxResponseHeaderBytes = 64 << 10
			transport = t
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// call sends req and returns the answer's status and body, which has at most
// limit bytes. Its errors quote neither the URL nor anything of the answer.
func call(client *http.Client, req *http.Request, limit int64) (status int, body []byte, err error) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, plainError(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return resp.StatusCode, nil, plainError(err)
	case int64(len(body)) > limit:
		return resp.StatusCode, nil, errTooLarge
	}
	return resp.StatusCode, body, nil
}

// plainError keeps of a transport's error what is known to be harmless. The
// rest may quote the URL (as *url.Error does) or what the other side sent back,
// which can be the very request.
func plainError(err error) error {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return context.DeadlineExceeded
	case errors.As(err, &op):
		return op
	case errors.As(err, &cert):
		return cert
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	}
	return errBroken
}
