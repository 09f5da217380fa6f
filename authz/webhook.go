package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weftsync/weft/room"
)

// WebhookConfig says whom a Webhook asks.
type WebhookConfig struct {
	// URL is the http or https URL that is asked. It may hold credentials in
	// its user information or query: it is never printed.
	URL string
	// Timeout bounds the wait for an answer: for a turn, for the call, and for
	// the second try. Zero means 5 seconds.
	Timeout time.Duration
	// MaxInFlight bounds the calls at any one time; others wait their turn.
	// Zero means 64.
	MaxInFlight int
	// ForwardHeaders names the headers of the connecting request that are
	// passed on, such as "Cookie" or "X-Forwarded-For". Whether they can be
	// believed depends on the proxy in front.
	ForwardHeaders []string
	// Transport carries the calls; nil means a copy of http.DefaultTransport.
	// Close closes its idle connections.
	Transport http.RoundTripper
}

const (
	defaultWebhookTimeout  = 5 * time.Second
	defaultWebhookInFlight = 64
	webhookMaxBytes        = 64 << 10
	webhookRetryDelay      = 100 * time.Millisecond
	// minQuotable is the length in bytes from which a token is looked for in a
	// reason. A shorter one is no secret, and may be a word like "token".
	minQuotable = 8
)

// Webhook is an Authorizer that asks an HTTP endpoint. It posts
//
//	{"roomId":"…","clientId":"…","token":"…","refresh":false,
//	 "request":{"remoteAddress":"192.0.2.1:4711","origin":"https://…","path":"/…",
//	            "headers":{"Cookie":["…"]}}}
//
// where "request" is there at connect only, and understands these answers, of
// at most 64 KiB:
//
//   - any 2xx with {"permissions":"readonly" or "readwrite", "metadata":any JSON,
//     "expiresAt":Unix seconds}, the latter two optional, is the grant;
//   - 401 (the token is bad: [BadToken]) and 403 (it is good, and does not open
//     this room: [Refused]) are refusals; the client is told the "reason" of the
//     body {"reason":"…"}, cut to MaxReason bytes, if there is one and it does
//     not quote the token.
//
// Everything else is an error, of which the client is told nothing. Redirects
// are not followed. A 5xx answer or a broken connection is tried once more, so
// the endpoint may be asked the same thing twice.
type Webhook struct {
	url     endpoint
	client  *http.Client
	timeout time.Duration
	headers []string
	slots   chan struct{}
}

// Validate says, in a [room.ConfigError], what is wrong with the configuration;
// nil if nothing is. It calls nobody. [NewWebhook] calls it.
func (cfg WebhookConfig) Validate() error {
	_, err := cfg.check()
	return err
}

func (cfg WebhookConfig) check() (endpoint, error) {
	for _, name := range cfg.ForwardHeaders {
		if !isHeaderName(strings.TrimSpace(name)) {
			return endpoint{}, &room.ConfigError{Field: "authz.WebhookConfig.ForwardHeaders", Problem: errors.New("has something that is not a header's name")}
		}
	}
	return parseEndpoint("authz.WebhookConfig.URL", cfg.URL)
}

func isHeaderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

// NewWebhook returns an authorizer, or an error that says what is wrong with
// the configuration.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	url, err := cfg.check()
	if err != nil {
		return nil, err
	}
	w := &Webhook{url: url, timeout: cfg.Timeout}
	if w.timeout <= 0 {
		w.timeout = defaultWebhookTimeout
	}
	slots := cfg.MaxInFlight
	if slots <= 0 {
		slots = defaultWebhookInFlight
	}
	w.slots = make(chan struct{}, slots)
	w.client = newClient(cfg.Transport, slots)
	for _, name := range cfg.ForwardHeaders {
		w.headers = append(w.headers, http.CanonicalHeaderKey(strings.TrimSpace(name)))
	}
	return w, nil
}

// Close closes idle connections. It never fails, and calls under way go on.
func (w *Webhook) Close() error {
	w.client.CloseIdleConnections()
	return nil
}

type webhookQuestion struct {
	RoomID   string          `json:"roomId"`
	ClientID string          `json:"clientId"`
	Token    string          `json:"token"`
	Refresh  bool            `json:"refresh"`
	Request  *webhookRequest `json:"request,omitempty"`
}

type webhookRequest struct {
	RemoteAddress string              `json:"remoteAddress"`
	Origin        string              `json:"origin"`
	Path          string              `json:"path"`
	Headers       map[string][]string `json:"headers,omitempty"`
}

// Authorize asks the endpoint.
func (w *Webhook) Authorize(ctx context.Context, info Info) (room.Grant, error) {
	if err := checkToken(info.Token); err != nil {
		return room.Grant{}, err
	}
	// JSON would turn every invalid byte into the same character, and so let
	// a grant for one room open another.
	if !utf8.ValidString(info.RoomID) || !utf8.ValidString(info.ClientID) || !utf8.ValidString(info.Token) {
		return room.Grant{}, Deny("roomId, clientId and token must be valid UTF-8")
	}
	question, err := json.Marshal(w.question(info))
	if err != nil {
		return room.Grant{}, errors.New("authz: webhook request cannot be encoded")
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return room.Grant{}, fmt.Errorf("authz: webhook %s: waiting for a turn: %w", w.url.place, ctx.Err())
	}
	status, answer, err := w.post(ctx, question)
	switch status {
	case http.StatusUnauthorized:
		return room.Grant{}, webhookDenied(BadToken, answer, info.Token)
	case http.StatusForbidden:
		return room.Grant{}, webhookDenied(Refused, answer, info.Token)
	}
	if err != nil {
		return room.Grant{}, fmt.Errorf("authz: webhook %s: %w", w.url.place, err)
	}
	if status < 200 || status > 299 {
		return room.Grant{}, fmt.Errorf("authz: webhook %s: answered with status %d", w.url.place, status)
	}
	g, err := webhookGrant(answer)
	if err != nil {
		return room.Grant{}, fmt.Errorf("authz: webhook %s: %w", w.url.place, err)
	}
	return g, nil
}

// decidedBy is what a refusal may depend on beside the token and the room; see
// [RememberRefusals].
func (w *Webhook) decidedBy(info Info) []string {
	if info.Request == nil {
		return nil
	}
	var values []string
	for _, name := range w.headers {
		values = append(values, name)
		values = append(values, forwarded(info.Request, name)...)
	}
	return values
}

// forwarded are the values of a header that is passed on.
func forwarded(r *http.Request, name string) []string {
	if name == "Host" && r.Host != "" { // net/http keeps it apart
		return []string{r.Host}
	}
	return r.Header[name]
}

func (w *Webhook) question(info Info) webhookQuestion {
	q := webhookQuestion{RoomID: info.RoomID, ClientID: info.ClientID, Token: info.Token, Refresh: info.Request == nil}
	r := info.Request
	if r == nil {
		return q
	}
	q.Request = &webhookRequest{RemoteAddress: r.RemoteAddr, Origin: r.Header.Get("Origin")}
	if r.URL != nil {
		q.Request.Path = r.URL.Path // without the query, which holds the token
	}
	for _, name := range w.headers {
		values := forwarded(r, name)
		if len(values) == 0 {
			continue
		}
		if q.Request.Headers == nil {
			q.Request.Headers = make(map[string][]string, len(w.headers))
		}
		q.Request.Headers[name] = values
	}
	return q
}

// post sends the question, a second time if the first got no answer or a 5xx
// one.
func (w *Webhook) post(ctx context.Context, question []byte) (status int, answer []byte, err error) {
	for try := 1; ; try++ {
		req, reqErr := http.NewRequestWithContext(ctx, http.MethodPost, w.url.raw, bytes.NewReader(question))
		if reqErr != nil {
			return 0, nil, errors.New("request cannot be made")
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		status, answer, err = call(w.client, req, webhookMaxBytes)
		broken := err != nil && !errors.Is(err, errTooLarge)
		if try == 2 || ctx.Err() != nil || !broken && status < 500 {
			return status, answer, err
		}
		select {
		case <-ctx.Done():
			return status, answer, err
		case <-time.After(webhookRetryDelay):
		}
	}
}

func webhookDenied(kind Kind, answer []byte, token string) error {
	var body struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(answer, &body) // no reason is the default reason
	reason := fitReason(body.Reason)
	quotes := len(token) >= minQuotable && strings.Contains(body.Reason, token)
	if reason == "" || quotes {
		reason = "access to this room was refused; sign in again or ask for access"
	}
	return DenyAs(kind, reason)
}

// webhookGrant reads a 2xx answer. Its errors quote nothing of it.
func webhookGrant(answer []byte) (room.Grant, error) {
	var body struct {
		Permissions room.Permission `json:"permissions"`
		Metadata    json.RawMessage `json:"metadata"`
		ExpiresAt   json.RawMessage `json:"expiresAt"`
	}
	if json.Unmarshal(answer, &body) != nil {
		return room.Grant{}, errors.New("answer is not a JSON object with permissions")
	}
	if !body.Permissions.Valid() {
		return room.Grant{}, errors.New(`answer's permissions must be "readonly" or "readwrite"`)
	}
	g := room.Grant{Permission: body.Permissions, Metadata: notNull(body.Metadata)}
	if raw := notNull(body.ExpiresAt); raw != nil {
		expires, ok := unixSeconds(raw)
		if !ok || expires.Unix() <= 0 {
			return room.Grant{}, errors.New("answer's expiresAt must be a time in Unix seconds")
		}
		g.Expires = expires
	}
	return g, nil
}
