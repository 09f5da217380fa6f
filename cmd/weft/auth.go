package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weftsync/weft/authz"
)

// authOptions say who may connect.
type authOptions struct {
	jwtSecret, jwksURL, publicKeyFile string
	webhookURL                        string
	webhookHeaders                    []string
	claims                            authz.ClaimNames
	issuer, audience                  string

	kinds       []authKind // of which one is to be set
	jwtOnly     []*setting // what means something with a JWT only
	webhookOnly []*setting // what means something with a webhook only
}

// authKind is a setting that chooses a kind of authorization.
type authKind struct {
	*setting
	value *string
}

func (o *authOptions) settings() []*setting {
	o.kinds = []authKind{
		{o.secretSetting("accept JWTs signed with this shared secret (HS256), best 32 random bytes or more"), &o.jwtSecret},
		{secret(textSetting("auth-jwks-url", &o.jwksURL, "", "URL", "accept JWTs signed by a key of this JSON Web Key Set (RS256, ES256, EdDSA)")), &o.jwksURL},
		{textSetting("auth-public-key-file", &o.publicKeyFile, "", "FILE", "accept JWTs signed by the private half of the public key in this PEM file (RS256, ES256, EdDSA)"), &o.publicKeyFile},
		{secret(textSetting("auth-webhook-url", &o.webhookURL, "", "URL", "ask this URL about every client")), &o.webhookURL},
	}
	o.webhookOnly = []*setting{
		listSetting("auth-webhook-headers", &o.webhookHeaders, "NAME,…", "headers of the client's request that the webhook gets to see, such as Cookie", checkHeaderName),
	}
	o.jwtOnly = o.claimSettings()
	var kinds []*setting
	for _, k := range o.kinds {
		kinds = append(kinds, k.setting)
	}
	return in("Authorization (one of the first four)", slices.Concat(kinds, o.webhookOnly, o.jwtOnly)...)
}

// minSecretBytes is the shortest shared secret: one that is shorter can be
// guessed from a token, without the server. One of less than 32 random bytes
// still gets a warning.
const minSecretBytes = 16

func (o *authOptions) secretSetting(usage string) *setting {
	s := secret(textSetting("auth-jwt-secret", &o.jwtSecret, "", "SECRET",
		usage+"; other users of the machine can see flags, so prefer the variable or the file"))
	s.set = func(text string) error {
		if text != "" && len(text) < minSecretBytes {
			return fmt.Errorf("has less than %d bytes and can be guessed: use 32 random ones", minSecretBytes)
		}
		o.jwtSecret = text
		return nil
	}
	return s
}

// claimSettings say what is in a JWT. `weft token` has them too.
func (o *authOptions) claimSettings() []*setting {
	return []*setting{
		textSetting("auth-room-claim", &o.claims.Room, "roomId", "NAME", "claim that names the room"),
		textSetting("auth-write-claim", &o.claims.Write, "canWrite", "NAME", "claim that is true if the client may write"),
		textSetting("auth-metadata-claim", &o.claims.Metadata, "metadata", "NAME", "claim that becomes the session's metadata"),
		textSetting("auth-issuer", &o.issuer, "", "TEXT", "what the claim iss must be"),
		textSetting("auth-audience", &o.audience, "", "TEXT", "what the claim aud must be or hold"),
	}
}

// chosen lists the kinds of authorization that are set.
func (o *authOptions) chosen() []authKind {
	return slices.DeleteFunc(slices.Clone(o.kinds), func(k authKind) bool { return *k.value == "" })
}

// check makes sure that there is one kind of authorization, and not two: it
// would be a guess which of them was meant.
func (o *authOptions) check(dev bool) error {
	chosen := o.chosen()
	switch {
	case dev && len(chosen) > 0:
		return chosen[0].wrong("cannot be set together with dev, which lets everyone in")
	case len(chosen) == 0 && !dev:
		return badSetting("authorization", "nothing says who may connect: set --auth-jwt-secret, --auth-jwks-url, --auth-public-key-file or --auth-webhook-url, or --dev to let everyone in on your own machine")
	case len(chosen) > 1:
		return chosen[0].wrong("cannot be set together with %s", chosen[1].name)
	}
	kind := "dev"
	if !dev {
		kind = chosen[0].name
	}
	hook := kind == "auth-webhook-url"
	for _, s := range o.webhookOnly {
		if s.isSet() && !hook {
			return s.wrong("means nothing with %s", kind)
		}
	}
	for _, s := range o.jwtOnly {
		if s.isSet() && (hook || dev) {
			return s.wrong("means nothing with %s", kind)
		}
	}
	if hook || dev {
		return nil
	}
	return o.checkClaims()
}

// checkClaims tries the names of the claims on a token that nobody sees, so
// that an error about them is not taken for one about a key.
func (o *authOptions) checkClaims() error {
	_, err := authz.Mint(make([]byte, 32), authz.MintConfig{Room: "any", TTL: time.Minute, Claims: o.claims})
	if err != nil {
		return badSetting("auth-room-claim, auth-write-claim, auth-metadata-claim", "%w", err)
	}
	return nil
}

func checkHeaderName(name string) error {
	for _, c := range name {
		if !strings.ContainsRune("-_", c) && !('0' <= c && c <= '9') && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') {
			return fmt.Errorf("has something that is not a header's name")
		}
	}
	return nil
}

// closingAuthorizer is an authorizer with something to end.
type closingAuthorizer interface {
	authz.Authorizer
	io.Closer
}

type insecure struct{ authz.Insecure }

func (insecure) Close() error { return nil }

// authorizer makes the authorizer that is set, or one that lets everyone in if
// none is. The options have been checked.
func (o *authOptions) authorizer(ctx context.Context, log *slog.Logger) (a closingAuthorizer, err error) {
	chosen := o.chosen()
	if len(chosen) == 0 {
		return insecure{}, nil
	}
	kind := chosen[0]
	jwt := authz.JWTConfig{Claims: o.claims, Issuer: o.issuer, Audience: o.audience, Logger: log}
	switch kind.value {
	case &o.webhookURL:
		a, err = authz.NewWebhook(authz.WebhookConfig{URL: o.webhookURL, ForwardHeaders: o.webhookHeaders})
	case &o.publicKeyFile:
		if jwt.PublicKey, err = os.ReadFile(o.publicKeyFile); err == nil {
			a, err = authz.NewJWT(ctx, jwt)
		}
	case &o.jwksURL:
		jwt.JWKSURL = o.jwksURL
		a, err = authz.NewJWT(ctx, jwt)
	default:
		jwt.Secret = []byte(o.jwtSecret)
		a, err = authz.NewJWT(ctx, jwt)
	}
	if err != nil {
		return nil, kind.wrong("%w", err)
	}
	return a, nil
}
