package authz_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
)

// oracle answers as the token says and counts who asks.
type oracle struct {
	asked atomic.Int64
	takes time.Duration
}

func (o *oracle) Authorize(ctx context.Context, info authz.Info) (room.Grant, error) {
	o.asked.Add(1)
	select {
	case <-time.After(o.takes):
	case <-ctx.Done():
		return room.Grant{}, ctx.Err()
	}
	switch info.Token {
	case "good":
		return room.Grant{Permission: room.ReadOnly}, nil
	case "broken":
		return room.Grant{}, errors.New("the database is away")
	case "often":
		return room.Grant{}, authz.DenyAs(authz.Limited, "not so often")
	}
	return room.Grant{}, fmt.Errorf("rule 7: %w", authz.DenyAs(authz.ExpiredToken, "token expired"))
}

func ask(a authz.Authorizer, roomID, token string) error {
	_, err := a.Authorize(context.Background(), authz.Info{RoomID: roomID, ClientID: "c", Token: token})
	return err
}

func expectExpired(t *testing.T, err error) {
	t.Helper()
	var denied *authz.Denied
	if !errors.As(err, &denied) || denied.Kind != authz.ExpiredToken || denied.Reason != "token expired" {
		t.Errorf("the answer is %v", err)
	}
}

func TestRememberRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &oracle{}
		a := authz.RememberRefusals(inner, 10*time.Second)
		expect := func(asked int64) {
			t.Helper()
			if n := inner.asked.Swap(0); n != asked {
				t.Errorf("asked %d times, want %d", n, asked)
			}
		}
		for range 5 {
			expectExpired(t, ask(a, "r", "old"))
		}
		expect(1)
		expectExpired(t, ask(a, "s", "old"))
		expectExpired(t, ask(a, "r", "older"))
		expectExpired(t, ask(a, "ro", "ld")) // which together are as many letters
		expect(3)
		time.Sleep(10*time.Second - 1)
		expectExpired(t, ask(a, "r", "old"))
		expect(0)
		time.Sleep(time.Nanosecond)
		expectExpired(t, ask(a, "r", "old"))
		expect(1)
		for _, token := range []string{"good", "broken", "often"} {
			first, second := ask(a, "r", token), ask(a, "r", token)
			if fmt.Sprint(first) != fmt.Sprint(second) {
				t.Errorf("%s: %v, then %v", token, first, second)
			}
			expect(2)
		}
	})
}

func TestRememberRefusalsOff(t *testing.T) {
	inner := &oracle{}
	if a := authz.RememberRefusals(inner, 0); a != authz.Authorizer(inner) {
		t.Errorf("it is a %T", a)
	}
}

// The oldest goes when there are too many.
func TestRememberRefusalsBound(t *testing.T) {
	inner := &oracle{}
	a := authz.RememberRefusals(inner, time.Hour)
	for i := range 10_001 {
		expectExpired(t, ask(a, "r", fmt.Sprint("old", i)))
	}
	expectExpired(t, ask(a, "r", "old1"))
	if n := inner.asked.Load(); n != 10_001 {
		t.Errorf("asked %d times", n)
	}
	expectExpired(t, ask(a, "r", "old0"))
	if n := inner.asked.Load(); n != 10_002 {
		t.Errorf("the oldest was remembered: asked %d times", n)
	}
}

// Those who come at once share a refusal. A grant or an error is for who asked.
func TestRememberRefusalsAtOnce(t *testing.T) {
	for token, want := range map[string]int64{"old": 1, "good": 1000, "broken": 1000} {
		synctest.Test(t, func(t *testing.T) {
			inner := &oracle{takes: time.Second}
			a := authz.RememberRefusals(inner, 10*time.Second)
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					if err := ask(a, "r", token); token == "old" {
						expectExpired(t, err)
					} else if (err == nil) != (token == "good") {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := inner.asked.Load(); n != want {
				t.Errorf("%s: asked %d times, want %d", token, n, want)
			}
		})
	}
}

// Who is asking may go away: the next asks. Nobody waits longer than he wants.
func TestRememberRefusalsAskerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &oracle{takes: time.Minute}
		a := authz.RememberRefusals(inner, 10*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				info := authz.Info{RoomID: "r", Token: "old"}
				if i == 0 {
					if _, err := a.Authorize(ctx, info); !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					return
				}
				time.Sleep(time.Millisecond)
				if i == 1 {
					brief, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					defer cancel()
					if _, err := a.Authorize(brief, info); !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					return
				}
				expectExpired(t, ask(a, "r", "old"))
			})
		}
		all.Wait()
		if n := inner.asked.Load(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
	})
}

// A panic of who asks does not leave the others waiting.
func TestRememberRefusalsPanic(t *testing.T) {
	calls := 0
	a := authz.RememberRefusals(authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
		if calls++; calls == 1 {
			panic("broken")
		}
		return room.Grant{}, authz.Deny("no")
	}), time.Minute)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = ask(a, "r", "t")
	}()
	if err := ask(a, "r", "t"); err == nil || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// A webhook may decide by a cookie: one who is refused for his does not keep out
// another who has the same token.
func TestRememberRefusalsOfAWebhook(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	hook, err := authz.NewWebhook(authz.WebhookConfig{URL: server.URL, ForwardHeaders: []string{"Cookie"}})
	if err != nil {
		t.Fatal(err)
	}
	defer hook.Close()
	a := authz.RememberRefusals(hook, time.Minute)
	for i, cookie := range []string{"who=ada", "who=bob", "who=ada", ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:4711", i)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		var denied *authz.Denied
		_, err := a.Authorize(t.Context(), authz.Info{RoomID: "r", ClientID: fmt.Sprint(i), Token: "t", Request: r})
		if !errors.As(err, &denied) || denied.Kind != authz.Refused {
			t.Errorf("answer %d is %v", i, err)
		}
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("the webhook was called %d times, want 3", n)
	}
}

// A thousand clients with a token each that has expired, which come back like
// the published client: after 500 ms, then twice as long, up to 10 s.
func TestRememberRefusalsHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &oracle{takes: 20 * time.Millisecond}
		a := authz.RememberRefusals(inner, 10*time.Second)
		var all sync.WaitGroup
		end := time.Now().Add(40 * time.Second)
		var settled int64
		time.AfterFunc(10*time.Second, func() { settled = inner.asked.Load() })
		for i := range 1000 {
			all.Go(func() {
				for wait := 500 * time.Millisecond; time.Now().Before(end); wait = min(2*wait, 10*time.Second) {
					expectExpired(t, ask(a, "r", fmt.Sprint("old", i)))
					time.Sleep(wait)
				}
			})
		}
		all.Wait()
		if perSecond := (inner.asked.Load() - settled) / 30; perSecond > 120 {
			t.Errorf("%d questions a second", perSecond)
		}
	})
}

// Who was refused for a secret that has come meanwhile is not kept out by what is
// remembered of the old ones.
func TestRememberRefusalsUntilSecretsChange(t *testing.T) {
	before, after := []byte("secret number one, 32 bytes long"), []byte("secret number two, 32 bytes long")
	j, err := authz.NewJWT(t.Context(), authz.JWTConfig{Secret: before})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	token, err := authz.Mint(after, authz.MintConfig{Room: "r", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	a := authz.RememberRefusals(j, time.Hour)
	if err := ask(a, "r", token); err == nil {
		t.Fatal("a token of another secret is accepted")
	}
	if err := j.SetSecrets(after, before); err != nil {
		t.Fatal(err)
	}
	if err := ask(a, "r", token); err != nil {
		t.Error("after the secrets have changed:", err)
	}
}
