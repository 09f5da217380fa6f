package authz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/weftsync/weft/room"
)

// JWTConfig says which tokens a JWT authorizer accepts. Exactly one of Secret,
// PublicKey and JWKSURL must be set, that is, not empty.
type JWTConfig struct {
	// Secret is the shared secret of HS256 tokens. Whoever can guess it can
	// write to every room, and guessing needs no server: use at least 32 random
	// bytes (fewer are accepted with a warning in the log).
	Secret []byte
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
)

// JWT is an Authorizer for signed tokens (JSON Web Tokens). A token is for one
// room, named exactly by its room claim: there is no wildcard. It may write if
// its write claim is true. Its exp, if it has one, is when the grant expires.
type JWT struct {
	parser *jwt.Parser
	names  ClaimNames
	key    any     // of the secret or the PEM
	remote *keySet // or the key set, then key is nil
}

// NewJWT returns an authorizer, or an error that says what is wrong with the
// configuration. With a JWKS URL it waits for the first reading of the set, as
// long as ctx and the timeout allow; if that fails it says so in the log, goes
// on trying, and Authorize returns an error until the set has been read.
// The authorizer must be closed.
func NewJWT(ctx context.Context, cfg JWTConfig) (*JWT, error) {
	names, err := cfg.Claims.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	log := orDiscard(cfg.Logger)
	j := &JWT{names: names}
	var algs []string
	switch given := [3]bool{len(cfg.Secret) > 0, len(cfg.PublicKey) > 0, cfg.JWKSURL != ""}; given {
	case [3]bool{true, false, false}:
		if err := checkSecret(cfg.Secret); err != nil {
			return nil, fmt.Errorf("authz: %w", err)
		}
		if len(cfg.Secret) < adviceSecretBytes {
			log.WarnContext(ctx, "the JWT secret is short and may be guessed: use at least 32 random bytes")
		}
		j.key, algs = bytes.Clone(cfg.Secret), []string{algHS256}
	case [3]bool{false, true, false}:
		key, alg, err := parsePublicKey(cfg.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("authz: %w", err)
		}
		j.key, algs = key, []string{alg}
	case [3]bool{false, false, true}:
		if j.remote, err = startKeySet(ctx, cfg, log); err != nil {
			return nil, fmt.Errorf("authz: %w", err)
		}
		algs = []string{algRS256, algES256, algEdDSA}
	case [3]bool{}:
		return nil, errors.New("authz: jwt needs a secret, a public key or a jwks url that is not empty")
	default:
		return nil, errors.New("authz: jwt needs one of a secret, a public key and a jwks url, not several")
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
		return room.Grant{}, Deny("token names no room; get a token for this room")
	case id != roomID:
		return room.Grant{}, Deny("token is for another room; get a token for this room")
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
		c, _, err := j.parse(token, func(*jwt.Token) (any, error) { return j.key, nil })
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
			return nil, Deny("token has a crit header, which this server does not understand")
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
		err = Deny("token is malformed; it must be a signed JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable) && tried:
		return nil, true, Deny("token is signed with a key that this server does not know")
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid) && !tried:
		err = Deny("token is not signed with an algorithm that this server accepts")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, true, Deny("token signature is not valid; it must be made with this server's key")
	case errors.Is(err, jwt.ErrTokenExpired):
		err = Deny("token expired; get a new one")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		err = Deny("token is not valid yet; wait, or check the issuer's clock")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		err = Deny("token is from another issuer; get one from this server's issuer")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		err = Deny("token is for another audience; get one for this server")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		err = Deny("token has no iss or aud claim, which this server needs")
	default:
		err = Deny("token claims are not valid")
	}
	return nil, false, err
}
