package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/load"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// loadOptions are the settings of `weft load` beside those of load.Config.
type loadOptions struct {
	config        load.Config
	workload      string
	token         string
	auth          settings.Auth
	json          bool
	writeSnapshot string
}

func (o *loadOptions) table() settings.Table {
	c := &o.config
	var workloads []string
	for _, w := range load.Workloads() {
		workloads = append(workloads, string(w))
	}
	own := []*settings.Setting{
		{Name: "url", Kind: settings.Filled(&c.URL, "URL"), Default: "ws://127.0.0.1:8080", Secret: true, Usage: "server to put under load, ws://… or wss://…, any path and query"},
		{Name: "allow-remote", Kind: settings.Switch(&c.AllowRemote), Default: "false", Usage: "allow a server that is not on this machine"},
		{Name: "workload", Kind: settings.Choice(&o.workload, workloads...), Default: string(load.Document), Usage: "what the writers do: move blocks, move cursors, draw strokes, nothing, or move blocks in a large room that others join"},
		{Name: "rooms", Kind: settings.Count(&c.Rooms, 1), Default: "1", Usage: "rooms"},
		{Name: "clients", Kind: settings.Count(&c.Clients, 1), Default: "10", Usage: "clients in each room"},
		{Name: "writers", Kind: settings.Count(&c.Writers, 0), Default: "0", Usage: "how many of the clients of a room write; 0 for all"},
		{Name: "rate", Kind: settings.Number(&c.Rate), Default: "10", Usage: "patches a second from each writer, up to 500"},
		{Name: "warmup", Kind: settings.Duration(&c.Warmup, 0), Default: "2s", Usage: "time under load before the measurement"},
		{Name: "duration", Kind: settings.Duration(&c.Duration, time.Millisecond), Default: "10s", Usage: "length of the measurement"},
		{Name: "drain", Kind: settings.Duration(&c.Drain, 0), Default: "5s", Usage: "longest wait afterwards for what is under way"},
		{Name: "components", Kind: settings.Count(&c.Components, 0), Default: "0", Usage: "components that a room holds before the writers start; 0 for 100, or 100000 in a large room"},
		{Name: "no-seed", Kind: settings.Switch(&c.NoSeed), Default: "false", Usage: "the rooms hold their components already: see --write-snapshot"},
		{Name: "stroke-points", Kind: settings.Count(&c.StrokePoints, 1), Default: "4000", Usage: "length of a stroke, after which its writer begins another"},
		{Name: "points-per-patch", Kind: settings.Count(&c.PointsPerPatch, 1), Default: "4", Usage: "points that one patch appends to a stroke"},
		{Name: "join-interval", Kind: settings.Duration(&c.JoinInterval, 10*time.Millisecond), Default: "2s", Usage: "time between two joins of a large room"},
		{Name: "join-timeout", Kind: settings.Duration(&c.JoinTimeout, time.Millisecond), Default: "30s", Usage: "longest time in which a client must be in its room"},
		{Name: "ramp-timeout", Kind: settings.Duration(&c.RampTimeout, time.Millisecond), Default: "2m", Usage: "longest time in which all clients must be in their rooms"},
		{Name: "dials", Kind: settings.Count(&c.Dials, 1), Default: "32", Usage: "connections that are being made at once"},
		{Name: "room-prefix", Kind: settings.Filled(&c.RoomPrefix, "TEXT"), Default: "load", Usage: "the rooms are called TEXT-0, TEXT-1, …"},
		{Name: "token", Kind: settings.Text(&o.token, "TOKEN"), Secret: true, Usage: "token of every client; without it and without a secret it is a word that `serve --dev` takes"},
		{Name: "pid", Kind: settings.Count(&c.PID, 0), Default: "0", Usage: "process of the server, to measure its CPU and memory; 0 for none"},
		{Name: "children", Kind: settings.Switch(&c.Children), Default: "false", Usage: "measure the processes that it has started, too"},
		{Name: "json", Kind: settings.Switch(&o.json), Default: "false", Usage: "print the report as JSON"},
		{Name: "write-snapshot", Kind: settings.Text(&o.writeSnapshot, "FILE"), Usage: "write a room of --components as the file store keeps it, and do nothing else"},
	}
	for _, s := range own {
		s.FlagOnly = true
	}
	return settings.Table{{Settings: own}, o.auth.MintGroup("the server's secret, which signs a token for every client (HS256)")}
}

func (p *program) load() command {
	o := &loadOptions{}
	table := o.table()
	return command{name: "load", usage: "put a server under load and measure it", table: table, inFile: inServerFile(), run: func(ctx context.Context, from settings.Sources) error {
		if err := flagsOnly(table, from); err != nil {
			return err
		}
		if o.writeSnapshot != "" {
			return o.snapshot()
		}
		return table.Translate(p.runLoad(ctx, o, table))
	}}
}

func (p *program) runLoad(ctx context.Context, o *loadOptions, table settings.Table) error {
	c := o.config
	c.Workload = load.Workload(o.workload)
	// There, 0 is the default and less is none.
	if c.Warmup == 0 {
		c.Warmup = -1
	}
	if c.Drain == 0 {
		c.Drain = -1
	}
	if err := o.tokens(&c, table); err != nil {
		return err
	}
	report, err := load.Run(ctx, c)
	if errors.Is(err, load.ErrConfig) || errors.Is(err, load.ErrRemote) {
		return settings.Misused("%w", err)
	}
	if report.Connected > 0 {
		write := report.WriteText
		if o.json {
			write = report.WriteJSON
		}
		err = errors.Join(err, write(p.stdout))
	}
	return err
}

// tokens sets what the clients connect with: the token that is set, or one
// minted for each.
func (o *loadOptions) tokens(c *load.Config, table settings.Table) error {
	secret, err := o.auth.MintSecret(table)
	if err != nil {
		return err
	}
	switch {
	case o.token != "":
		c.Token = func(string, string) string { return o.token }
	case len(secret) > 0:
		mint := func(room, _ string) (string, error) {
			return authz.Mint(secret, authz.MintConfig{
				Room: room, Write: true, TTL: longestLoad,
				Issuer: o.auth.JWT.Issuer, Audience: o.auth.JWT.Audience, Claims: o.auth.JWT.Claims,
			})
		}
		if _, err := mint("any", ""); err != nil {
			return err
		}
		c.Token = func(room, client string) string {
			token, _ := mint(room, client) // the one above has shown that it can be done
			return token
		}
	}
	return nil
}

// longestLoad outlasts every run.
const longestLoad = 48 * time.Hour

func (o *loadOptions) snapshot() error {
	n := o.config.Components
	if n == 0 {
		n = 100
		if o.workload == string(load.Large) {
			n = 100_000
		}
	}
	file, err := os.Create(o.writeSnapshot)
	if err != nil {
		return err
	}
	err = errors.Join(load.WriteSnapshot(file, n), file.Close())
	if errors.Is(err, load.ErrConfig) {
		return settings.Misused("%w", err)
	}
	if err != nil {
		return fmt.Errorf("%s is not written: %w", o.writeSnapshot, err)
	}
	return nil
}
