package authz

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/room"
)

const webhookToken = "t0ken-of-the-test"

func newWebhook(t *testing.T, cfg WebhookConfig) *Webhook {
	t.Helper()
	w, err := NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestWebhookAsks(t *testing.T) {
	var got map[string]any
	var user, query string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = nil
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("asked by %s of %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		user, _, _ = r.BasicAuth()
		query = r.URL.RawQuery
		_, _ = io.WriteString(w, `{"permissions":"readwrite","metadata":{"n":1.0},"expiresAt":1900000000.5}`)
	}))
	defer srv.Close()
	a := newWebhook(t, WebhookConfig{
		URL:            strings.Replace(srv.URL, "http://", "http://weft:pw@", 1) + "/ask?key=k",
		ForwardHeaders: []string{"cookie", " X-Forwarded-For ", "X-Absent", "host"},
	})

	r := httptest.NewRequest("GET", "http://weft.example/ws?token="+webhookToken, nil)
	r.RemoteAddr = "192.0.2.1:4711"
	r.Header.Set("Origin", "https://app.example")
	r.Header.Set("Authorization", "not asked for")
	r.Header.Set("Cookie", "a=b")
	r.Header.Add("X-Forwarded-For", "198.51.100.1")
	r.Header.Add("X-Forwarded-For", "198.51.100.2")
	g, err := a.Authorize(context.Background(), Info{RoomID: "räum", ClientID: "c1", Token: webhookToken, Request: r})
	if err != nil {
		t.Fatal(err)
	}
	if g.Permission != room.ReadWrite || string(g.Metadata) != `{"n":1.0}` || !g.Expires.Equal(time.Unix(1_900_000_000, 5e8)) {
		t.Errorf("got %+v", g)
	}
	want := map[string]any{
		"roomId": "räum", "clientId": "c1", "token": webhookToken, "refresh": false,
		"request": map[string]any{
			"remoteAddress": "192.0.2.1:4711", "origin": "https://app.example", "path": "/ws",
			"headers": map[string]any{
				"Cookie":          []any{"a=b"},
				"X-Forwarded-For": []any{"198.51.100.1", "198.51.100.2"},
				"Host":            []any{"weft.example"},
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asked %v\nwant %v", got, want)
	}
	if user != "weft" || query != "key=k" {
		t.Errorf("user %q, query %q", user, query)
	}

	if _, err := authorize(a, "r1", webhookToken); err != nil {
		t.Fatal(err)
	}
	want = map[string]any{"roomId": "r1", "clientId": "c1", "token": webhookToken, "refresh": true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asked on refresh %v\nwant %v", got, want)
	}
}

func TestWebhookAnswers(t *testing.T) {
	const fallback = "access to this room was refused; sign in again or ask for access"
	for _, tc := range []struct {
		name   string
		status int
		body   string
		grant  *room.Grant // else
		reason string      // else an error
	}{
		{"readonly", 200, `{"permissions":"readonly"}`, &room.Grant{Permission: room.ReadOnly}, ""},
		{"201", 201, `{"permissions":"readwrite","metadata":null,"expiresAt":null}`, &room.Grant{Permission: room.ReadWrite}, ""},
		{"no permissions", 200, `{}`, nil, ""},
		{"unknown permissions", 200, `{"permissions":"admin"}`, nil, ""},
		{"permissions in other case", 200, `{"permissions":"ReadWrite"}`, nil, ""},
		{"permissions no string", 200, `{"permissions":true}`, nil, ""},
		{"null", 200, `null`, nil, ""},
		{"empty", 204, ``, nil, ""},
		{"not JSON", 200, `readwrite ` + webhookToken, nil, ""},
		{"two values", 200, `{"permissions":"readonly"}{"permissions":"readwrite"}`, nil, ""},
		{"expires a string", 200, `{"permissions":"readonly","expiresAt":"1900000000"}`, nil, ""},
		{"expires zero", 200, `{"permissions":"readonly","expiresAt":0}`, nil, ""},
		{"expires in milliseconds", 200, `{"permissions":"readonly","expiresAt":1900000000000}`, nil, ""},
		{"too large", 200, `{"permissions":"readonly","metadata":"` + strings.Repeat("x", webhookMaxBytes) + `"}`, nil, ""},
		{"401", 401, ``, nil, fallback},
		{"403", 403, `{"reason":"ask ada for access"}`, nil, "ask ada for access"},
		{"reason too long", 403, `{"reason":"` + strings.Repeat("é", 100) + `"}`, nil, strings.Repeat("é", 61)},
		{"reason not UTF-8", 403, "{\"reason\":\"a\xffb\"}", nil, "a\uFFFDb"},
		{"reason half a surrogate", 403, `{"reason":"\ud800"}`, nil, "\uFFFD"},
		{"reason blank", 403, `{"reason":" \n"}`, nil, fallback},
		{"reason no string", 403, `{"reason":5}`, nil, fallback},
		{"reason quotes the token", 403, `{"reason":"no session ` + webhookToken + `"}`, nil, fallback},
		{"refusal not JSON", 401, `<html>` + webhookToken, nil, fallback},
		{"refusal too large", 403, `{"reason":"` + strings.Repeat("x", webhookMaxBytes) + `"}`, nil, fallback},
		{"404", 404, webhookToken, nil, ""},
		{"429", 429, webhookToken, nil, ""},
		{"500", 500, webhookToken, nil, ""},
		{"redirect", 307, ``, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var calls atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer srv.Close()
			g, err := authorize(newWebhook(t, WebhookConfig{URL: srv.URL + "/?key=hunter2"}), "r1", webhookToken)
			switch {
			case tc.grant != nil:
				if err != nil || !reflect.DeepEqual(g, *tc.grant) {
					t.Errorf("got %+v, %v", g, err)
				}
			case tc.reason != "":
				if got := refused(t, err, webhookToken, "hunter2"); got != tc.reason {
					t.Errorf("got reason %q", got)
				}
			default:
				failed(t, err, webhookToken, "hunter2")
			}
			want := int64(1)
			if tc.status >= 500 {
				want = 2
			}
			if n := calls.Load(); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		})
	}
}

func TestWebhookRefusesWithoutAsking(t *testing.T) {
	a := newWebhook(t, WebhookConfig{URL: "https://hook.invalid/", Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("asked")
		return answer(200, `{"permissions":"readwrite"}`), nil
	})})
	for name, info := range map[string]Info{
		"no token":   {RoomID: "r", ClientID: "c"},
		"long token": {RoomID: "r", ClientID: "c", Token: strings.Repeat("a", maxToken+1)},
		"room":       {RoomID: "r\xff", ClientID: "c", Token: webhookToken},
		"client":     {RoomID: "r", ClientID: "c\xff", Token: webhookToken},
		"token":      {RoomID: "r", ClientID: "c", Token: "secret\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Authorize(context.Background(), info)
			refused(t, err, info.Token)
		})
	}
}

func TestWebhookTriesABrokenConnectionTwice(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first func() (*http.Response, error)
	}{
		{"connection", func() (*http.Response, error) { return nil, errors.New("reset " + webhookToken) }},
		{"5xx", func() (*http.Response, error) { return answer(502, ""), nil }},
		{"body", func() (*http.Response, error) {
			res := answer(200, "")
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"perm`), badReader{}))
			return res, nil
		}},
	} {
		for _, recovers := range []bool{true, false} {
			t.Run(fmt.Sprint(tc.name, " recovers ", recovers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls := 0
					a := newWebhook(t, WebhookConfig{URL: "https://hook.invalid/", Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
						calls++
						if body, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(body), webhookToken) {
							t.Errorf("try %d has the body %q, %v", calls, body, err)
						}
						if calls > 1 && recovers {
							return answer(200, `{"permissions":"readonly"}`), nil
						}
						return tc.first()
					})})
					_, err := authorize(a, "r1", webhookToken)
					if recovers && err != nil {
						t.Error(err)
					}
					if !recovers {
						failed(t, err, webhookToken)
					}
					if calls != 2 {
						t.Errorf("%d calls", calls)
					}
				})
			})
		}
	}
}

type badReader struct{}

func (badReader) Read([]byte) (int, error) { return 0, errors.New("broken " + webhookToken) }

func TestWebhookTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWebhook(t, WebhookConfig{URL: "https://user:hunter2@hook.invalid/", Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		start := time.Now()
		_, err := authorize(a, "r1", webhookToken)
		failed(t, err, webhookToken, "hunter2")
		if d := time.Since(start); d != defaultWebhookTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", d, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = a.Authorize(ctx, Info{RoomID: "r", ClientID: "c", Token: webhookToken})
		failed(t, err, webhookToken, "hunter2")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

func TestWebhookBoundsCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		release := make(chan struct{})
		a := newWebhook(t, WebhookConfig{URL: "https://hook.invalid/", MaxInFlight: 2, Timeout: time.Minute, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			calls.Add(1)
			<-release
			return answer(200, `{"permissions":"readonly"}`), nil
		})})
		done := make(chan error, 5)
		for range 5 {
			go func() {
				_, err := authorize(a, "r1", webhookToken)
				done <- err
			}()
		}
		synctest.Wait()
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls at once", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.Authorize(ctx, Info{RoomID: "r1", ClientID: "c", Token: webhookToken})
		failed(t, err, webhookToken) // no turn in time
		close(release)
		for range 5 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestWebhookErrorsQuoteNothing has servers that send back what they were sent,
// which net/http quotes in its errors.
func TestWebhookErrorsQuoteNothing(t *testing.T) {
	for name, reply := range map[string]func(net.Conn, *http.Request){
		"echo": func(c net.Conn, r *http.Request) {
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nAuthorization: %s\r\n\r\n", r.RequestURI, r.Header.Get("Authorization"))
		},
		"header": func(c net.Conn, r *http.Request) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s hunter2\r\n\r\n", r.RequestURI)
		},
		"status":  func(c net.Conn, r *http.Request) { fmt.Fprintf(c, "HTTP/1.1 hunter2 %s\r\n\r\n", r.RequestURI) },
		"nothing": func(net.Conn, *http.Request) {},
		"length": func(c net.Conn, _ *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: hunter2\r\n\r\n")
		},
		"cut short": func(c net.Conn, _ *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln := must(net.Listen("tcp", "127.0.0.1:0"))
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						_, _ = io.Copy(io.Discard, r.Body)
						reply(c, r)
					}
					_ = c.Close()
				}
			}()
			a := newWebhook(t, WebhookConfig{URL: "http://user:hunter2@" + ln.Addr().String() + "/hunter2?key=hunter2"})
			_, err := authorize(a, "r1", webhookToken)
			failed(t, err, webhookToken, "hunter2")
			_ = ln.Close()
			<-served
			_, err = authorize(a, "r1", webhookToken) // nobody listens
			failed(t, err, webhookToken, "hunter2")
			if !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("the error does not help: %v", err)
			}
		})
	}
}

func TestNewWebhookRefusesURLs(t *testing.T) {
	for _, u := range []string{"", "hunter2", "/hunter2", "ftp://hunter2/", "http://", "http://user:hunter2@[::1", "http://hunter2\x7f/"} {
		_, err := NewWebhook(WebhookConfig{URL: u})
		failed(t, err, "hunter2")
	}
}
