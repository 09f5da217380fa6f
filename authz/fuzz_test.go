package authz

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func FuzzJWT(f *testing.F) {
	good := must(Mint(secret, MintConfig{Room: "r1", Write: true, TTL: time.Hour, Now: clock}))
	for _, seed := range []string{good, "", "..", "a.b.c", signRaw("null", "null"), signRaw(`{"alg":"HS256","kid":1}`, `{"roomId":"r1"}`)} {
		f.Add(seed, "r1")
	}
	local := newJWT(f, JWTConfig{Secret: secret})
	public := newJWT(f, JWTConfig{PublicKey: publicPEM(ecKey())})
	set := newJWT(f, JWTConfig{JWKSURL: "http://keys.invalid/", Transport: staticKeys(jwk("k1", ecKey(), nil))})
	f.Fuzz(func(t *testing.T, token, roomID string) {
		for _, j := range []*JWT{public, set} { // none of its tokens is known to the fuzzer
			_, err := authorize(j, roomID, token)
			refused(t, err, longer(token))
		}
		if _, err := authorize(local, roomID, token); err != nil {
			refused(t, err, longer(token))
			return
		}
		text, sig, _ := cutLast(token)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		if sig != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) {
			t.Errorf("granted with a signature that is not the secret's: %q", token)
		}
	})
}

// FuzzJWTClaims signs what it is given: the claims of a hostile issuer.
func FuzzJWTClaims(f *testing.F) {
	for _, seed := range []string{`{"roomId":"r1","canWrite":true}`, `null`, `{"roomId":"r1","exp":1e308,"nbf":-0}`, `{"roomId":"r1","exp":1.8e9,"aud":[null]}`, "{\"roomId\":\"\xff\"}"} {
		f.Add(seed)
	}
	j := newJWT(f, JWTConfig{Secret: secret, Audience: "a"})
	lax := newJWT(f, JWTConfig{Secret: secret})
	f.Fuzz(func(t *testing.T, payload string) {
		for _, j := range []*JWT{j, lax} {
			g, err := authorize(j, "r1", signRaw(`{"alg":"HS256"}`, payload))
			if err != nil {
				refused(t, err)
				continue
			}
			if !g.Permission.Valid() || g.Metadata != nil && !json.Valid(g.Metadata) || !strings.Contains(payload, "r") && !strings.Contains(payload, `\u`) {
				t.Errorf("granted %+v for %q", g, payload)
			}
			if !g.Expires.IsZero() && !g.Expires.After(now.Add(-defaultLeeway)) {
				t.Errorf("granted an expiry of %v at %v", g.Expires, now)
			}
		}
	})
}

// longer returns s if it is long enough not to be in a reason by chance.
func longer(s string) string {
	if len(s) < 12 || strings.ContainsAny(s, " ") {
		return ""
	}
	return s
}

func cutLast(token string) (text, sig string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", "", false
	}
	return token[:i], token[i+1:], true
}
