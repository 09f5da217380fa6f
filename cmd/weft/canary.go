package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/canary"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

func (p *program) canary() command {
	var (
		room, token string
		timeout     time.Duration
		every       bool
		auth        settings.Auth
	)
	table := settings.Table{{Settings: []*settings.Setting{
		{Name: "room", FlagOnly: true, Kind: settings.Filled(&room, "ID"), Default: "weft-canary", Usage: "room that is joined"},
		{Name: "token", FlagOnly: true, Kind: settings.Text(&token, "TOKEN"), Secret: true, Usage: "token that may write to that room; without it, one is made with the server's secret"},
		{Name: "timeout", FlagOnly: true, Kind: settings.Duration(&timeout, time.Millisecond), Default: "10s", Usage: "how long all of it may take"},
		{Name: "every-address", FlagOnly: true, Kind: settings.Switch(&every), Default: "false", Usage: "join through every address that the name in a URL stands for, such as all pods behind a headless service, instead of one of them; those where nobody listens are passed over. For ws:// and http:// only"},
	}}, auth.MintGroup("the server's secret, which signs the token (HS256)")}
	return command{name: "canary", args: "URL…", usage: "join a room through each URL, edit through the first, see it through the others", table: table, inFile: inServerFile(), run: func(ctx context.Context, from settings.Sources) error {
		urls, problems := table.Read(from)
		if err := first(problems); err != nil {
			return err
		}
		if token == "" {
			secret, err := auth.MintSecret(table)
			if err != nil {
				return err
			}
			if len(secret) == 0 {
				return settings.Wrong("token", "is not set, nor is auth-jwt-secret or auth-jwt-secret-file, with which one could be made")
			}
			token, err = authz.Mint(secret, authz.MintConfig{
				Room: room, Write: true, TTL: timeout + time.Minute,
				Issuer: auth.JWT.Issuer, Audience: auth.JWT.Audience, Claims: auth.JWT.Claims,
			})
			if err != nil {
				return table.Translate(err)
			}
		}
		ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the timeout of %s is over", settings.ShortDuration(timeout)))
		defer cancel()
		if every {
			var err error
			if urls, err = canary.EveryAddress(ctx, urls, p.stdout); err != nil {
				return misused(err)
			}
		}
		err := canary.Run(ctx, canary.Config{URLs: urls, Room: room, Token: token, Report: p.stdout})
		return misused(err)
	}}
}

// misused tells errors about the arguments from those about the servers.
func misused(err error) error {
	if errors.Is(err, canary.ErrConfig) {
		return settings.Misused("canary: %w: see weft canary --help", err)
	}
	return err
}
