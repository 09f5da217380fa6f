package settings

import (
	"slices"
	"time"

	"github.com/weftsync/weft/authz"
)

// Auth says who may connect: the one of JWT and Webhook that is set, or nobody.
type Auth struct {
	JWT         authz.JWTConfig
	Webhook     authz.WebhookConfig
	NegativeTTL time.Duration // how long a refusal is remembered

	secretFile, publicKeyFile string
}

func (a *Auth) settings() []*Setting {
	return append([]*Setting{
		a.secretSetting("accept JWTs signed with this shared secret (HS256), best 32 random bytes or more"),
		{Name: secretFileName, Kind: Text(&a.secretFile, "FILE"), Field: "authz.JWTConfig.Secrets",
			Usage: "accept JWTs signed with one of the shared secrets in this file, one a line, at most 16. It is read again when it changes, so that a secret can be replaced while weft runs"},
		{Name: "auth-jwks-url", Kind: Text(&a.JWT.JWKSURL, "URL"), Secret: true, Field: "authz.JWTConfig.JWKSURL",
			Usage: "accept JWTs signed by a key of this JSON Web Key Set (RS256, ES256, EdDSA)"},
		{Name: "auth-public-key-file", Kind: Text(&a.publicKeyFile, "FILE"), Field: "authz.JWTConfig.PublicKey",
			Usage: "accept JWTs signed by the private half of the public key in this PEM file (RS256, ES256, EdDSA). Read at the start only"},
		{Name: "auth-webhook-url", Kind: Text(&a.Webhook.URL, "URL"), Secret: true, Field: "authz.WebhookConfig.URL",
			Usage: "ask this URL about every client"},
		{Name: "auth-webhook-headers", Kind: List(&a.Webhook.ForwardHeaders, "NAME,…"), Only: ByWebhook, Field: "authz.WebhookConfig.ForwardHeaders",
			Usage: "headers of the client's request that are passed on to the webhook, such as Cookie"},
	}, append(a.claimSettings(), &Setting{
		Name: "auth-negative-ttl", Kind: Duration(&a.NegativeTTL, 0), Default: "10s",
		Usage: "how long a refusal is remembered, and repeated to whoever comes with the same token for the same room; 0 turns this off",
	})...)
}

const (
	secretName     = "auth-jwt-secret"
	secretFileName = "auth-jwt-secret-file"
)

// authorizers are the settings one of which says who may connect.
var authorizers = []string{secretName, secretFileName, "auth-jwks-url", "auth-public-key-file", "auth-webhook-url"}

// secretSetting is the shared secret of tokens, which other commands than the
// server sign with.
func (a *Auth) secretSetting(usage string) *Setting {
	return &Setting{Name: secretName, Kind: Parsed(&a.JWT.Secret, "SECRET", bytesOrNone), Secret: true, Field: "authz.JWTConfig.Secret",
		Usage: usage + "; other users of the machine can see flags, so prefer the variable or the file"}
}

// MintGroup is what a command needs to make tokens by itself.
func (a *Auth) MintGroup(usage string) Group {
	return Group{"Tokens", append([]*Setting{
		a.secretSetting(usage),
		{Name: secretFileName, Kind: Text(&a.secretFile, "FILE"), Field: "authz.JWTConfig.Secrets",
			Usage: "file with the server's secrets, one a line, of which the first signs"},
	}, a.claimSettings()...)}
}

// MintSecret is the secret that signs, once the table t with the MintGroup has
// been read; empty if none is set.
func (a *Auth) MintSecret(t Table) ([]byte, error) {
	if a.secretFile == "" {
		return a.JWT.Secret, nil
	}
	f := &File{Setting: t.find(secretFileName), Path: a.secretFile}
	content, err := f.Read()
	secrets := Secrets(content)
	if err == nil {
		err = atLeastOne(secrets)
	}
	if err == nil {
		err = authz.JWTConfig{Secrets: secrets}.Validate()
	}
	if err != nil {
		return nil, f.Refuse(err)
	}
	return secrets[0], nil
}

func bytesOrNone(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	return []byte(text), nil
}

// claimSettings say what is in a JWT.
func (a *Auth) claimSettings() []*Setting {
	c := &a.JWT.Claims
	return []*Setting{
		{Name: "auth-room-claim", Kind: Filled(&c.Room, "NAME"), Default: "roomId", Only: ByJWT, Field: "authz.ClaimNames.Room",
			Usage: "claim that names the room"},
		{Name: "auth-write-claim", Kind: Filled(&c.Write, "NAME"), Default: "canWrite", Only: ByJWT, Field: "authz.ClaimNames.Write",
			Usage: "claim that is true if the client may write"},
		{Name: "auth-metadata-claim", Kind: Filled(&c.Metadata, "NAME"), Default: "metadata", Only: ByJWT, Field: "authz.ClaimNames.Metadata",
			Usage: "claim that becomes the session's metadata"},
		{Name: "auth-issuer", Kind: Text(&a.JWT.Issuer, "TEXT"), Only: ByJWT,
			Usage: "required value of the claim iss"},
		{Name: "auth-audience", Kind: Text(&a.JWT.Audience, "TEXT"), Only: ByJWT,
			Usage: "value that the claim aud must be or contain"},
	}
}

// chosen lists those of the authorizers that are set.
func (t Table) chosen() []*Setting {
	return slices.DeleteFunc(t.All(), func(s *Setting) bool {
		return !slices.Contains(authorizers, s.Name) || s.text == ""
	})
}

// chosenMode is the mode of the first of them; Always if there is none.
func (t Table) chosenMode() Mode {
	chosen := t.chosen()
	switch {
	case len(chosen) == 0:
		return Always
	case chosen[0].Name == "auth-webhook-url":
		return ByWebhook
	}
	return ByJWT
}
