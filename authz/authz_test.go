package authz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weftsync/weft/room"
)

// refused checks that err is a refusal that fits a close frame and quotes none
// of the secrets, and returns its reason.
func refused(t *testing.T, err error, secrets ...string) string {
	t.Helper()
	var d *Denied
	if !errors.As(err, &d) {
		t.Fatalf("got error %v, want a *Denied", err)
	}
	if d.Reason == "" || len(d.Reason) > MaxReason || !utf8.ValidString(d.Reason) {
		t.Errorf("reason %q does not fit a close frame", d.Reason)
	}
	quotesNone(t, err, secrets...)
	return d.Reason
}

// failed checks that err is an error that is no refusal and quotes no secret.
func failed(t *testing.T, err error, secrets ...string) {
	t.Helper()
	var d *Denied
	if err == nil || errors.As(err, &d) {
		t.Fatalf("got %v, want an error that is no *Denied", err)
	}
	quotesNone(t, err, secrets...)
}

func quotesNone(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
			for _, secret := range secrets {
				if secret != "" && strings.Contains(text, secret) {
					t.Errorf("error text %q quotes %q", text, secret)
				}
			}
		}
	}
}

func TestDenyFitsACloseFrame(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"short", "ask the owner", "ask the owner"},
		{"exact", strings.Repeat("a", 123), strings.Repeat("a", 123)},
		{"long", strings.Repeat("a", 124), strings.Repeat("a", 123)},
		{"cut between characters", strings.Repeat("a", 122) + "é", strings.Repeat("a", 122)},
		{"four byte characters", strings.Repeat("🧵", 40), strings.Repeat("🧵", 30)},
		{"very long", strings.Repeat("é", 1<<20), strings.Repeat("é", 61)},
		{"control characters", "a\r\nb\x00c", "a  b c"},
		{"invalid", "a\xffb", "a\uFFFDb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := refused(t, Deny(tc.in)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestInfoPrintsNoToken(t *testing.T) {
	info := Info{RoomID: "r1", ClientID: "c1", Token: "s3cr3t", Request: httptest.NewRequest("GET", "/?token=s3cr3t", nil)}
	var out bytes.Buffer
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&out, f+"\n", info)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "info", info)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "info", info)
	if text := out.String(); strings.Contains(text, "s3cr3t") || !strings.Contains(text, "r1") {
		t.Errorf("printed:\n%s", text)
	}
}

func TestInsecure(t *testing.T) {
	g, err := Insecure{}.Authorize(context.Background(), Info{RoomID: "r", ClientID: "c", Token: "x"})
	if err != nil || g.Permission != room.ReadWrite || g.Metadata != nil || !g.Expires.IsZero() {
		t.Errorf("got %+v, %v", g, err)
	}
	_, err = Insecure{}.Authorize(context.Background(), Info{RoomID: "r", ClientID: "c"})
	refused(t, err)
}

func TestDeniedIsFoundInAChain(t *testing.T) {
	var a Authorizer = AuthorizerFunc(func(context.Context, Info) (room.Grant, error) {
		return room.Grant{}, fmt.Errorf("member list: %w", Deny("ask the owner"))
	})
	_, err := a.Authorize(context.Background(), Info{})
	if got := refused(t, err); got != "ask the owner" {
		t.Errorf("got %q", got)
	}
}
