package authz

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func expectKind(t *testing.T, what string, err error, want Kind) {
	t.Helper()
	var denied *Denied
	if !errors.As(err, &denied) || denied.Kind != want {
		t.Errorf("%s: %v, want a refusal of kind %s", what, err, want)
	}
}

// The kind decides the HTTP status, and so what a client does about it.
func TestKinds(t *testing.T) {
	j := newJWT(t, JWTConfig{Secret: secret, Audience: "weft"})
	token := func(key []byte, roomID any, exp int64, aud string) string {
		return sign(jwt.SigningMethodHS256, key, jwt.MapClaims{"roomId": roomID, "exp": now.Unix() + exp, "aud": aud})
	}
	for name, c := range map[string]struct {
		token string
		kind  Kind
	}{
		"missing":         {"", BadToken},
		"long":            {strings.Repeat("x", maxToken+1), BadToken},
		"malformed":       {"abc", BadToken},
		"another key":     {token([]byte(strings.Repeat("x", 32)), "r", 60, "weft"), BadToken},
		"expired":         {token(secret, "r", -60, "weft"), ExpiredToken},
		"expired, forged": {token([]byte(strings.Repeat("x", 32)), "r", -60, "weft"), BadToken},
		"another room":    {token(secret, "s", 60, "weft"), WrongRoom},
		"no room":         {token(secret, nil, 60, "weft"), BadToken},
		"audience":        {token(secret, "r", 60, "else"), BadToken},
	} {
		_, err := authorize(j, "r", c.token)
		expectKind(t, name, err, c.kind)
	}
	_, err := authorize(Insecure{}, "r", "")
	expectKind(t, "insecure", err, BadToken)
	expectKind(t, "deny", Deny("no"), Refused)

	for status, kind := range map[int]Kind{http.StatusUnauthorized: BadToken, http.StatusForbidden: Refused} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		_, err := authorize(newWebhook(t, WebhookConfig{URL: server.URL}), "r", "t")
		expectKind(t, http.StatusText(status), err, kind)
		server.Close()
	}
}

// A secret is replaced without a moment in which a token is refused.
func TestSecretRotation(t *testing.T) {
	older, newer := secret, []byte("fedcba9876543210fedcba9876543210")
	by := func(key []byte) string { return sign(jwt.SigningMethodHS256, key, jwt.MapClaims{"roomId": "r"}) }
	j := newJWT(t, JWTConfig{Secret: older})
	expect := func(key []byte, ok bool) {
		t.Helper()
		_, err := authorize(j, "r", by(key))
		if ok && err != nil {
			t.Error(err)
		}
		if !ok {
			expectKind(t, "an unknown secret", err, BadToken)
		}
	}
	expect(older, true)
	expect(newer, false)
	set := func(ok bool, secrets ...[]byte) {
		t.Helper()
		err := j.SetSecrets(secrets...)
		if (err == nil) != ok {
			t.Errorf("SetSecrets: %v", err)
		}
		if err != nil {
			quotesNone(t, err, string(older), string(newer))
		}
	}
	set(true, newer, older)
	expect(older, true)
	expect(newer, true)
	set(false)
	set(false, older, nil)
	set(false, older, []byte("-----BEGIN PUBLIC KEY-----"))
	set(false, make([][]byte, maxSecrets+1)...)
	expect(newer, true)
	set(true, newer)
	expect(older, false)
	expect(newer, true)

	j = newJWT(t, JWTConfig{Secrets: [][]byte{older, newer}})
	expect(older, true)
	expect(newer, true)
	j = newJWT(t, JWTConfig{PublicKey: publicPEM(edKey())})
	set(false, older)
}
