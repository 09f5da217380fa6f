package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// authorizer makes the authorizer that is set, or one that lets everyone in if
// none is. The settings have been checked. closeIt ends it.
func authorizer(ctx context.Context, o *settings.Server, h *health, files *rotation, log *slog.Logger) (a authz.Authorizer, closeIt func(), err error) {
	if o.Dev {
		return authz.Insecure{}, func() {}, nil
	}
	if o.Auth.Webhook.URL != "" {
		hook, err := authz.NewWebhook(o.Auth.Webhook)
		if err != nil {
			return nil, nil, err
		}
		return authz.RememberRefusals(hook, o.Auth.NegativeTTL), func() { _ = hook.Close() }, nil
	}
	config := o.Auth.JWT
	config.Logger = log
	if config.JWKSURL != "" {
		h.wait(errors.New("the key set that tokens are verified with is being read"))
	}
	jwt, err := authz.NewJWT(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	files.add(o.SecretFile, func(content []byte) error { return jwt.SetSecrets(settings.Secrets(content)...) })
	return authz.RememberRefusals(jwt, o.Auth.NegativeTTL), func() { _ = jwt.Close() }, nil
}
