package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Credentials are a user and a password of Redis that may change while a node
// runs. It is safe for concurrent use.
type Credentials struct{ now atomic.Pointer[login] }

type login struct{ user, password string }

// NewCredentials makes the options of a Redis take what it returns, which begins
// with the user and the password that they have. They are used by the connections
// that are made after they were set; those that are there stay, which Redis
// allows. The login of Sentinels, which is another, cannot change.
func NewCredentials(o *redis.UniversalOptions) *Credentials {
	c := &Credentials{}
	c.Set(o.Username, o.Password)
	o.CredentialsProvider = c.get
	return c
}

// Set changes the user, which may be empty, and the password.
func (c *Credentials) Set(user, password string) { c.now.Store(&login{user, password}) }

func (c *Credentials) get() (user, password string) {
	l := c.now.Load()
	return l.user, l.password
}

// passwordOf is what must not be shown.
func passwordOf(ctx context.Context, o *redis.UniversalOptions) string {
	return password(ctx, o.Password, o.CredentialsProvider, o.CredentialsProviderContext)
}

func password(ctx context.Context, fixed string, get func() (string, string), getContext func(context.Context) (string, string, error)) string {
	switch {
	case getContext != nil:
		if _, now, err := getContext(ctx); err == nil {
			return now
		}
	case get != nil:
		_, now := get()
		return now
	}
	return fixed
}

// TrustOnly makes connections to Redis with TLS (rediss://) trust the
// certificates in PEM of one or more authorities, and no others.
func TrustOnly(o *redis.UniversalOptions, pem []byte) error {
	if o.TLSConfig == nil {
		return errors.New("means nothing without TLS: begin the URL of Redis with rediss://")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("has no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	o.TLSConfig.RootCAs = pool
	return nil
}
