package authz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/weftsync/weft/room"
)

// JWTConfig says which tokens a JWT authorizer accepts. Shared secrets, PublicKey
// or JWKSURL must be set, that is, not empty, and no two of them.
type JWTConfig struct {
	// Secret is the shared secret of HS256 tokens. Whoever can guess it can
	// write to every room, and guessing needs no server: use at least 32 random
	// bytes (fewer are accepted with a warning in the log).
	Secret []byte
	// Secrets are further ones, up to 16 in all: a token may be signed with any
	// of them, so that one takes the place of another without a moment in which
	// somebody is refused. [JWT.SetSecrets] changes them.
	Secrets [][]byte
	// PublicKey is a PEM text with one public key (or certificate, of which
	// only the key counts): RSA of at least 2048 bits for RS256, P-256 for
	// ES256, Ed25519 for EdDSA. Tokens by any other algorithm are refused.
	PublicKey []byte
	// JWKSURL is an http or https URL of a JSON Web Key Set. Its RSA, P-256 and
	// Ed25519 signature keys are used, each with its own algorithm; other keys,
	// symmetric ones above all, are skipped. The set is read at the start, every
	// JWKSInterval, and when a token's signature fits no key that is known, the
	// last at most once in 10 seconds. While it cannot be read, the keys that
	// are known stay in use.
	JWKSURL string
	// JWKSInterval is the time between two readings of the set; zero means
	// 15 minutes. A key that was taken out of the set works that much longer.
	JWKSInterval time.Duration
	// JWKSTimeout bounds one reading; zero means 5 seconds.
	JWKSTimeout time.Duration
	// Transport carries the requests for the set; nil means a copy of
	// http.DefaultTransport. Close closes its idle connections.
	Transport http.RoundTripper

	// Claims names the claims that are read.
	Claims ClaimNames
	// Issuer, if not empty, must be the token's iss.
	Issuer string
	// Audience, if not empty, must be the token's aud or one of them.
	Audience string
	// Leeway is how far the clocks of issuer and server may differ: a token is
	// accepted that much after its exp and before its nbf. Zero means
	// 10 seconds, less than zero none. The grant expires at exp regardless.
	Leeway time.Duration

	// Logger hears of trouble with the key set; nil means nobody does.
	Logger *slog.Logger
	// Now is the clock for exp and nbf; nil means time.Now.
	Now func() time.Time
}

const (
	defaultLeeway       = 10 * time.Second
	defaultJWKSInterval = 15 * time.Minute
	defaultJWKSTimeout  = 5 * time.Second
	adviceSecretBytes   = 32
	maxSecrets          = 16
)

// JWT is an Authorizer for signed tokens (JSON Web Tokens). A token is for one
// room, named exactly by its room claim: there is no wildcard. It may write if
// its write claim is true. Its exp, if it has one, is when the grant expires.
type JWT struct {
	parser *jwt.Parser
	names  ClaimNames
	log    *slog.Logger

	// One of these is set.
	secrets atomic.Pointer[jwt.VerificationKeySet]
	key     any     // of the PEM
	remote  *keySet // the key set of a URL

	changes atomic.Uint64 // how often the secrets have changed
}

// Validate says, in a [room.ConfigError], what is wrong with the configuration;
// nil if nothing is. It reads no key set. [NewJWT] calls it.
func (cfg JWTConfig) Validate() error {
	_, _, err := cfg.check()
	return err
}

// check returns the public key that tokens are verified with, or the endpoint of
// a key set, or neither where there are secrets; and the algorithms.
func (cfg JWTConfig) check() (key any, algs []string, err error) {
	if _, err := cfg.Claims.withDefaults(); err != nil {
		return nil, nil, err
	}
	field, secrets := "Secret", cfg.secrets()
	switch given := [3]bool{len(secrets) > 0, len(cfg.PublicKey) > 0, cfg.JWKSURL != ""}; given {
	case [3]bool{true, false, false}:
		return nil, []string{algHS256}, cfg.checkSecrets()
	case [3]bool{false, true, false}:
		field, algs = "PublicKey", []string{""}
		key, algs[0], err = parsePublicKey(cfg.PublicKey)
	case [3]bool{false, false, true}:
		key, err = parseEndpoint("authz.JWTConfig.JWKSURL", cfg.JWKSURL)
		return key, []string{algRS256, algES256, algEdDSA}, err
	case [3]bool{}:
		err = errors.New("is not set, nor are PublicKey and JWKSURL: one of them must be")
	default:
		err = errors.New("cannot be set together with PublicKey or JWKSURL, nor can those two")
	}
	if err != nil {
		return nil, nil, &room.ConfigError{Field: "authz.JWTConfig." + field, Problem: err}
	}
	return key, algs, nil
}

func (cfg JWTConfig) secrets() [][]byte {
	if len(cfg.Secret) > 0 {
		return append([][]byte{cfg.Secret}, cfg.Secrets...)
	}
	return cfg.Secrets
}

func (cfg JWTConfig) checkSecrets() error {
	if len(cfg.Secret) > 0 {
		if err := checkSecret(cfg.Secret); err != nil {
			return &room.ConfigError{Field: "authz.JWTConfig.Secret", Problem: err}
		}
	}
	for i, secret := range cfg.Secrets {
		if err := checkSecret(secret); err != nil {
			return &room.ConfigError{Field: "authz.JWTConfig.Secrets", Problem: fmt.Errorf("has a secret, number %d of %d, which %w", i+1, len(cfg.Secrets), err)}
		}
	}
	if n := len(cfg.secrets()); n > maxSecrets {
		return &room.ConfigError{Field: "authz.JWTConfig.Secrets", Problem: fmt.Errorf("has more than %d secrets: %d", maxSecrets, n)}
	}
	return nil
}

// NewJWT returns an authorizer, or an error that says what is wrong with the
// configuration. With a JWKS URL it waits for the first reading of the set, as
// long as ctx and the timeout allow; if that fails it says so in the log, goes
// on trying, and Authorize returns an error until the set has been read.
// The authorizer must be closed.
func NewJWT(ctx context.Context, cfg JWTConfig) (*JWT, error) {
	key, algs, err := cfg.check()
	if err != nil {
		return nil, err
	}
	log := orDiscard(cfg.Logger)
	j := &JWT{log: log}
	j.names, _ = cfg.Claims.withDefaults() // checked
	if from, ok := key.(endpoint); ok {
		j.remote = startKeySet(ctx, from, cfg, log)
	} else if secrets := cfg.secrets(); len(secrets) > 0 {
		j.useSecrets(secrets)
	} else {
		j.key = key
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(algs),
		jwt.WithStrictDecoding(),
		jwt.WithLeeway(leeway(cfg.Leeway)),
	}
	if cfg.Now != nil {
		opts = append(opts, jwt.WithTimeFunc(cfg.Now))
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		opts = append(opts, jwt.WithAudience(cfg.Audience))
	}
	j.parser = jwt.NewParser(opts...)
	return j, nil
}

// SetSecrets changes the shared secrets of an authorizer that was made with
// some. From then on tokens are accepted that are signed with one of these, and
// no others; sessions that are there already stay. If it returns an error,
// nothing has changed.
func (j *JWT) SetSecrets(secrets ...[]byte) error {
	if j.secrets.Load() == nil {
		return errors.New("authz: the jwt authorizer has no secrets to change: it was made with public keys")
	}
	if len(secrets) == 0 {
		return &room.ConfigError{Field: "authz.JWTConfig.Secrets", Problem: errors.New("has no secret")}
	}
	if err := (JWTConfig{Secrets: secrets}).checkSecrets(); err != nil {
		return err
	}
	j.useSecrets(secrets)
	return nil
}

// useSecrets takes secrets that have been checked.
func (j *JWT) useSecrets(secrets [][]byte) {
	keys := make([]jwt.VerificationKey, len(secrets))
	for i, secret := range secrets {
		if len(secret) < adviceSecretBytes {
			j.log.Warn("a JWT secret is short and may be guessed: use at least 32 random bytes", "secret", i+1, "of", len(secrets))
		}
		keys[i] = bytes.Clone(secret)
	}
	j.secrets.Store(&jwt.VerificationKeySet{Keys: keys})
	j.changes.Add(1)
}

// decidedBy is what a refusal may depend on beside the token and the room; see
// [RememberRefusals].
func (j *JWT) decidedBy(Info) []string {
	changes := j.changes.Load()
	if j.remote != nil {
		changes = j.remote.changes.Load()
	}
	return []string{strconv.FormatUint(changes, 10)}
}

func leeway(d time.Duration) time.Duration {
	if d == 0 {
		return defaultLeeway
	}
	return max(d, 0)
}

// Close ends the reading of the key set and waits until it has ended. Calls of
// Authorize that wait for the set return an error. It never fails.
func (j *JWT) Close() error {
	if j.remote != nil {
		j.remote.close()
	}
	return nil
}

// Authorize verifies the token. It is refused (*Denied) for what is wrong with
// the token; other errors mean that the key set could not be read.
func (j *JWT) Authorize(ctx context.Context, info Info) (room.Grant, error) {
	if err := checkToken(info.Token); err != nil {
		return room.Grant{}, err
	}
	c, err := j.verify(ctx, info.Token)
	if err != nil {
		return room.Grant{}, err
	}
	return j.grant(c, info.RoomID)
}

// grant reads what a token that is genuine and current says about the room.
func (j *JWT) grant(c claims, roomID string) (room.Grant, error) {
	id, err := c.text(j.names.Room)
	if err != nil {
		return room.Grant{}, err
	}
	switch {
	case id == "":
		return room.Grant{}, badToken("token names no room; get a token for this room")
	case id != roomID:
		return room.Grant{}, DenyAs(WrongRoom, "token is for another room; get a token for this room")
	}
	write, err := c.bool(j.names.Write)
	if err != nil {
		return room.Grant{}, err
	}
	g := room.Grant{Permission: room.ReadOnly, Metadata: c.raw(j.names.Metadata)}
	if write {
		g.Permission = room.ReadWrite
	}
	exp, err := c.GetExpirationTime()
	if err != nil {
		return room.Grant{}, err
	}
	if exp != nil {
		g.Expires = exp.Time
	}
	return g, nil
}

// verify checks signature, times, issuer and audience.
func (j *JWT) verify(ctx context.Context, token string) (claims, error) {
	if j.remote == nil {
		c, _, err := j.parse(token, func(*jwt.Token) (any, error) {
			if secrets := j.secrets.Load(); secrets != nil {
				return *secrets, nil
			}
			return j.key, nil
		})
		return c, err
	}
	keys, err := j.remote.current(ctx)
	if err != nil {
		return nil, err
	}
	c, noKey, err := j.parse(token, keys.KeyfuncCtx(ctx))
	if !noKey {
		return c, err
	}
	// The issuer may have a new key.
	switch newer, refreshErr := j.remote.refreshed(ctx, keys); {
	case errors.Is(refreshErr, errFresh):
		return nil, err
	case refreshErr != nil:
		return nil, refreshErr
	default:
		c, _, err = j.parse(token, newer.KeyfuncCtx(ctx))
		return c, err
	}
}

// parse returns the token's claims or why it is refused. noKey says that it
// was refused because no key of those tried fits its signature.
func (j *JWT) parse(token string, keys jwt.Keyfunc) (c claims, noKey bool, err error) {
	c = claims{}
	tried := false // the parser asks for keys only if it likes the algorithm
	_, err = j.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok {
			return nil, badToken("token has a crit header, which this server does not understand")
		}
		tried = true
		return keys(t)
	})
	var denied *Denied
	switch {
	case err == nil:
		return c, false, nil
	case errors.As(err, &denied):
		// Raised by the claims' own methods.
	case errors.Is(err, jwt.ErrTokenMalformed):
		err = badToken("token is malformed; it must be a signed JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable) && tried:
		return nil, true, badToken("token is signed with a key that this server does not know")
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid) && !tried:
		err = badToken("token is not signed with an algorithm that this server accepts")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, true, badToken("token signature is not valid; it must be made with this server's key")
	case errors.Is(err, jwt.ErrTokenExpired):
		err = DenyAs(ExpiredToken, "token expired; get a new one")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		err = badToken("token is not valid yet; wait, or check the issuer's clock")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		err = badToken("token is from another issuer; get one from this server's issuer")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		err = badToken("token is for another audience; get one for this server")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		err = badToken("token has no iss or aud claim, which this server needs")
	default:
		err = badToken("token claims are not valid")
	}
	return nil, false, err
}
