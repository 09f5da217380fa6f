package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/weftsync/weft/room"
)

// MintConfig describes a token to make.
type MintConfig struct {
	// Room is the room that the token is for; it must not be empty.
	Room string
	// Write lets the bearer change the room.
	Write bool
	// TTL is how long from now the token is valid, rounded down to whole
	// seconds; it must be at least one.
	TTL time.Duration
	// Metadata is a JSON value for the session; nil means none.
	Metadata json.RawMessage
	// Issuer and Audience are left out if empty.
	Issuer, Audience string
	// Claims must be those of the JWTConfig.
	Claims ClaimNames
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Mint returns an HS256 token that a JWT authorizer with the same secret and
// claim names accepts. It is what an application does, in its own language, for
// a user whom it has let in.
func Mint(secret []byte, cfg MintConfig) (string, error) {
	if err := checkSecret(secret); err != nil {
		return "", &room.ConfigError{Field: "authz.JWTConfig.Secret", Problem: err}
	}
	names, err := cfg.Claims.withDefaults()
	if err != nil {
		return "", err
	}
	switch {
	case cfg.Room == "":
		return "", errors.New("authz: token needs a room")
	case cfg.TTL < time.Second:
		return "", errors.New("authz: token must be valid for a second at least")
	case cfg.Metadata != nil && !json.Valid(cfg.Metadata):
		return "", errors.New("authz: token metadata is not JSON")
	}
	now := time.Now
	if cfg.Now != nil {
		now = cfg.Now
	}
	issued := now()
	c := jwt.MapClaims{
		"iat":       issued.Unix(),
		"exp":       issued.Add(cfg.TTL).Unix(),
		names.Write: cfg.Write,
	}
	if cfg.Metadata != nil {
		c[names.Metadata] = cfg.Metadata
	}
	if cfg.Issuer != "" {
		c["iss"] = cfg.Issuer
	}
	if cfg.Audience != "" {
		c["aud"] = cfg.Audience
	}
	c[names.Room] = cfg.Room
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("authz: sign token: %w", err)
	}
	return token, nil
}
