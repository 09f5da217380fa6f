package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/weftsync/weft/authz"
)

func (p *program) token() *cli.Command {
	var (
		auth     authOptions
		roomID   string
		metadata string
		write    bool
		ttl      time.Duration
	)
	own := []*setting{
		textSetting("room", &roomID, "", "ID", "room that the token is for"),
		switchSetting("write", &write, "let the bearer change the room"),
		durationSetting("ttl", &ttl, time.Hour, time.Second, "how long the token is good for"),
		jsonSetting("metadata", &metadata, "what the server's callbacks get to know about the session"),
	}
	for _, s := range own {
		s.flagOnly = true
	}
	settings := append(own, auth.secretSetting("the server's secret, which signs the token (HS256)"))
	settings = append(settings, auth.claimSettings()...)
	return p.command("token", "print a token for a room, signed with the server's secret", &configFile{known: known()}, settings, func(context.Context) error {
		if roomID == "" {
			return badSetting("room", "say which room the token is for: --room ID")
		}
		if auth.jwtSecret == "" {
			return badSetting("auth-jwt-secret", "is not set: the server's secret signs the token (WEFT_AUTH_JWT_SECRET, --auth-jwt-secret, or the file)")
		}
		token, err := authz.Mint([]byte(auth.jwtSecret), authz.MintConfig{
			Room: roomID, Write: write, TTL: ttl, Metadata: json.RawMessage(orNil(metadata)),
			Issuer: auth.issuer, Audience: auth.audience, Claims: auth.claims,
		})
		if err != nil {
			return settingError{err}
		}
		_, err = fmt.Fprintln(p.stdout, token)
		return err
	})
}

func jsonSetting(name string, p *string, usage string) *setting {
	return &setting{name: name, metavar: "JSON", usage: usage, set: func(text string) error {
		if !json.Valid([]byte(text)) {
			return errors.New("is not JSON")
		}
		*p = text
		return nil
	}}
}

func orNil(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
