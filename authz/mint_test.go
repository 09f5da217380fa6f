package authz

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/weftsync/weft/room"
)

func TestMint(t *testing.T) {
	j := newJWT(t, JWTConfig{Secret: secret, Issuer: "i", Audience: "a"})
	token := must(Mint(secret, MintConfig{Room: "räum/1", TTL: 90 * time.Minute, Issuer: "i", Audience: "a", Now: clock}))
	g, err := authorize(j, "räum/1", token)
	if err != nil || g.Permission != room.ReadOnly || g.Metadata != nil || !g.Expires.Equal(now.Add(90*time.Minute)) {
		t.Errorf("got %+v, %v", g, err)
	}
	for _, tc := range []struct {
		name   string
		secret []byte
		cfg    MintConfig
	}{
		{"no secret", nil, MintConfig{Room: "r", TTL: time.Hour}},
		{"no room", secret, MintConfig{TTL: time.Hour}},
		{"no TTL", secret, MintConfig{Room: "r"}},
		{"TTL below zero", secret, MintConfig{Room: "r", TTL: -time.Hour}},
		{"metadata", secret, MintConfig{Room: "r", TTL: time.Hour, Metadata: json.RawMessage("{")}},
		{"claim names", secret, MintConfig{Room: "r", TTL: time.Hour, Claims: ClaimNames{Write: "iat"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			token, err := Mint(tc.secret, tc.cfg)
			failed(t, err, string(secret))
			if token != "" {
				t.Error("a token came with the error")
			}
		})
	}
}
