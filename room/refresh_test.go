package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// authorizer answers refreshes after a while, each by its token.
type authorizer struct {
	takes time.Duration
	mu    sync.Mutex
	asked []string
	last  TokenRefresh
	busy  int
	clash bool // two asked at once
}

type toldError struct{ reason string }

func (e *toldError) Error() string        { return "internal: " + e.reason }
func (e *toldError) ClientReason() string { return e.reason }

func (a *authorizer) authorize(r TokenRefresh) (Grant, error) {
	a.mu.Lock()
	a.asked, a.last = append(a.asked, r.Token), r
	a.busy++
	a.clash = a.clash || a.busy > 1
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.busy--
		a.mu.Unlock()
	}()
	select {
	case <-time.After(a.takes):
	case <-r.Context.Done():
		return Grant{}, r.Context.Err()
	}
	switch r.Token {
	case "read":
		return Grant{Permission: ReadOnly}, nil
	case "write":
		return Grant{Permission: ReadWrite, Metadata: json.RawMessage(`{"m":2}`)}, nil
	case "nothing":
		return Grant{}, nil
	case "panic":
		panic("secret")
	case "told":
		return Grant{}, fmt.Errorf("secret: %w", &toldError{"you were let go"})
	}
	return Grant{}, errors.New("secret")
}

func token(token string) string { return `{"type":"auth-refresh","token":"` + token + `"}` }

func TestTokenRefresh(t *testing.T) {
	a := &authorizer{}
	managed(t, Config{OnTokenRefresh: a.authorize}, func(t *testing.T, m *Manager) {
		socket := &fakeSocket{}
		s, err := m.Connect(t.Context(), "r", ConnectOptions{Socket: socket, Client: "c", Grant: Grant{ReadWrite, json.RawMessage(`{"m":1}`), time.Time{}}})
		if err != nil {
			t.Fatal(err)
		}
		want := func(p Permission, metadata string) {
			t.Helper()
			synctest.Wait()
			if info, err := s.Info(); err != nil || info.Permission != p || string(info.Metadata) != metadata {
				t.Errorf("%+v %s %v, want %s %s", info, info.Metadata, err, p, metadata)
			}
		}
		receive(s, token("read"))
		want(ReadOnly, `{"m":1}`)
		receive(s, token("write"))
		want(ReadWrite, `{"m":2}`)
		if a.last.Room != "r" || a.last.Client != "c" || a.last.Session != s.ID() {
			t.Errorf("asked %+v", a.last)
		}
		wantSent(t, socket, one)
	})
}

func TestRefusedTokenClosesTheSession(t *testing.T) {
	for token1, want := range map[string]string{"told": "you were let go", "no": "authorization failed", "nothing": "authorization failed", "panic": "authorization failed", "slow": "authorization failed"} {
		t.Run(token1, func(t *testing.T) {
			out := &logs{}
			a := &authorizer{}
			if token1 == "slow" {
				a.takes = time.Hour
			}
			managed(t, Config{OnTokenRefresh: a.authorize, Logger: out.logger()}, func(t *testing.T, m *Manager) {
				s, socket := connect(t, m, "r", "alice", ReadWrite)
				_, other := connect(t, m, "r", "bob", ReadWrite)
				other.take()
				receive(s, token(token1))
				pass(10 * time.Second)
				wantClosed(t, socket, protocol.PolicyViolation(want))
				wantSent(t, other, one)
				if _, err := s.Info(); !errors.Is(err, ErrNoSession) {
					t.Errorf("the session is still there: %v", err)
				}
			})
			if strings.Contains(out.String(), "secret") || !strings.Contains(out.String(), "refused") {
				t.Errorf("logged %s", out)
			}
		})
	}
}

func TestNewestTokenWins(t *testing.T) {
	a := &authorizer{takes: time.Second}
	managed(t, Config{OnTokenRefresh: a.authorize}, func(t *testing.T, m *Manager) {
		s, _ := connect(t, m, "r", "c", ReadWrite)
		for _, text := range []string{"write", "no", "told", "write", "read"} {
			receive(s, token(text))
		}
		pass(1500 * time.Millisecond) // in the midst of the second
		receive(s, token("write"))
		receive(s, token("read"))
		pass(10 * time.Second)
		if !slices.Equal(a.asked, []string{"write", "read", "read"}) || a.clash {
			t.Errorf("asked for %q, two at once: %v", a.asked, a.clash)
		}
		if info, err := s.Info(); err != nil || info.Permission != ReadOnly {
			t.Errorf("%+v %v", info, err)
		}
	})
}

func TestSessionLeavesWhileItIsAuthorized(t *testing.T) {
	for _, text := range []string{"read", "no"} {
		a := &authorizer{takes: time.Second}
		managed(t, Config{OnTokenRefresh: a.authorize}, func(t *testing.T, m *Manager) {
			s, socket := connect(t, m, "r", "c", ReadWrite)
			receive(s, token(text))
			receive(s, token("write"))
			s.Leave()
			other, _ := connect(t, m, "r", "c", ReadWrite)
			pass(10 * time.Second)
			wantClosed(t, socket)
			if info, err := other.Info(); err != nil || info.Permission != ReadWrite || m.Stats().Sessions != 1 {
				t.Errorf("%+v %v", info, err)
			}
			if len(a.asked) != 1 {
				t.Errorf("asked for %q though the session had left", a.asked)
			}
		})
	}
}

func TestSessionsOwnAuthorizer(t *testing.T) {
	rooms, own := &authorizer{}, &authorizer{}
	managed(t, Config{OnTokenRefresh: rooms.authorize}, func(t *testing.T, m *Manager) {
		s, err := m.Connect(t.Context(), "r", ConnectOptions{Socket: &fakeSocket{}, Grant: Grant{Permission: ReadWrite}, OnTokenRefresh: own.authorize})
		if err != nil {
			t.Fatal(err)
		}
		receive(s, token("read"))
		synctest.Wait()
		if len(rooms.asked) != 0 || len(own.asked) != 1 {
			t.Errorf("asked %q and %q", rooms.asked, own.asked)
		}
	})
	managed(t, Config{}, func(t *testing.T, m *Manager) { // nobody to ask: passed over
		s, socket := connect(t, m, "r", "c", ReadWrite)
		receive(s, token("no"))
		synctest.Wait()
		wantClosed(t, socket)
	})
}

func TestCloseAllEndsAnAuthorization(t *testing.T) {
	a := &authorizer{takes: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{OnTokenRefresh: a.authorize, AuthorizeTimeout: time.Hour})
		s, socket := connect(t, m, "r", "c", ReadWrite)
		receive(s, token("write"))
		start := time.Now()
		if err := m.CloseAll(context.Background(), protocol.CloseRestart); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		wantClosed(t, socket, protocol.CloseRestart)
	})
}

// An authorizer that does not heed its context keeps its session waiting no
// longer than the time for it, and the manager's end not at all.
func TestNobodyWaitsForAnAuthorizerThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		defer close(hangs)
		m := NewManager(Config{OnTokenRefresh: func(TokenRefresh) (Grant, error) {
			<-hangs
			return Grant{Permission: ReadWrite}, nil
		}})
		s, socket := connect(t, m, "r", "c", ReadWrite)
		_, other := connect(t, m, "r", "d", ReadWrite)
		receive(s, token("write"))
		pass(m.config.AuthorizeTimeout)
		wantClosed(t, socket, protocol.PolicyViolation("authorization failed"))

		again, _ := connect(t, m, "r", "c", ReadWrite)
		receive(again, token("write"))
		synctest.Wait()
		start := time.Now()
		if err := m.CloseAll(context.Background(), protocol.CloseRestart); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		wantClosed(t, other, protocol.CloseRestart)
	})
}
