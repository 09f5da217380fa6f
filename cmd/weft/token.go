package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

func (p *program) token() command {
	var (
		auth     settings.Auth
		roomID   string
		metadata json.RawMessage
		write    bool
		ttl      time.Duration
	)
	table := settings.Table{{Settings: []*settings.Setting{
		{Name: "room", FlagOnly: true, Kind: settings.Text(&roomID, "ID"), Usage: "room that the token is for"},
		{Name: "write", FlagOnly: true, Kind: settings.Switch(&write), Default: "false", Usage: "let the bearer change the room"},
		{Name: "ttl", FlagOnly: true, Kind: settings.Duration(&ttl, time.Second), Default: "1h", Usage: "how long the token is good for"},
		{Name: "metadata", FlagOnly: true, Kind: settings.JSON(&metadata), Usage: "metadata of the session, for the server's callbacks"},
	}}, auth.MintGroup("the server's secret, which signs the token (HS256)")}
	return command{name: "token", usage: "print a token for a room, signed with the server's secret", table: table, inFile: inServerFile(), run: func(_ context.Context, from settings.Sources) error {
		if err := flagsOnly(table, from); err != nil {
			return err
		}
		if roomID == "" {
			return settings.Wrong("room", "say which room the token is for: --room ID")
		}
		secret, err := auth.MintSecret(table)
		if err != nil {
			return err
		}
		if len(secret) == 0 {
			return settings.Wrong("auth-jwt-secret", "is not set: the server's secret signs the token (WEFT_AUTH_JWT_SECRET, --auth-jwt-secret, --auth-jwt-secret-file, or the file)")
		}
		token, err := authz.Mint(secret, authz.MintConfig{
			Room: roomID, Write: write, TTL: ttl, Metadata: metadata,
			Issuer: auth.JWT.Issuer, Audience: auth.JWT.Audience, Claims: auth.JWT.Claims,
		})
		if err != nil {
			return table.Translate(err)
		}
		_, err = fmt.Fprintln(p.stdout, token)
		return err
	}}
}
