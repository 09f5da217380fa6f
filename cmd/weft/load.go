package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/load"
)

// loadOptions are the settings of `weft load` beside those of load.Config.
type loadOptions struct {
	config        load.Config
	workload      string
	token         string
	auth          authOptions
	json          bool
	writeSnapshot string
}

func (o *loadOptions) settings() []*setting {
	c := &o.config
	var workloads []string
	for _, w := range load.Workloads() {
		workloads = append(workloads, string(w))
	}
	own := []*setting{
		secret(textSetting("url", &c.URL, "ws://127.0.0.1:8080", "URL", "server to put under load, ws://… or wss://…, any path and query")),
		switchSetting("allow-remote", &c.AllowRemote, "allow a server that is not on this machine"),
		choiceSetting("workload", &o.workload, string(load.Document), "what the writers do: move blocks, move cursors, draw strokes, nothing, or move blocks in a large room that others join", workloads...),
		countSetting("rooms", &c.Rooms, 1, 1, "rooms"),
		countSetting("clients", &c.Clients, 10, 1, "clients in each room"),
		countSetting("writers", &c.Writers, 0, 0, "how many of the clients of a room write; 0 for all"),
		numberSetting("rate", &c.Rate, 10, "patches a second from each writer, up to 500"),
		durationSetting("warmup", &c.Warmup, 2*time.Second, 0, "time under load before the measurement"),
		durationSetting("duration", &c.Duration, 10*time.Second, time.Millisecond, "length of the measurement"),
		durationSetting("drain", &c.Drain, 5*time.Second, 0, "longest wait afterwards for what is under way"),
		countSetting("components", &c.Components, 0, 0, "components that a room holds before the writers start; 0 for 100, or 100000 in a large room"),
		switchSetting("no-seed", &c.NoSeed, "the rooms hold their components already: see --write-snapshot"),
		countSetting("stroke-points", &c.StrokePoints, 4000, 1, "length of a stroke, after which its writer begins another"),
		countSetting("points-per-patch", &c.PointsPerPatch, 4, 1, "points that one patch appends to a stroke"),
		durationSetting("join-interval", &c.JoinInterval, 2*time.Second, 10*time.Millisecond, "time between two joins of a large room"),
		durationSetting("join-timeout", &c.JoinTimeout, 30*time.Second, time.Millisecond, "longest time in which a client must be in its room"),
		durationSetting("ramp-timeout", &c.RampTimeout, 2*time.Minute, time.Millisecond, "longest time in which all clients must be in their rooms"),
		countSetting("dials", &c.Dials, 32, 1, "connections that are being made at once"),
		textSetting("room-prefix", &c.RoomPrefix, "load", "TEXT", "the rooms are called TEXT-0, TEXT-1, …"),
		secret(textSetting("token", &o.token, "", "TOKEN", "token of every client; without it and without a secret it is a word that `serve --dev` takes")),
		countSetting("pid", &c.PID, 0, 0, "process of the server, to measure its CPU and memory; 0 for none"),
		switchSetting("children", &c.Children, "measure the processes that it has started, too"),
		switchSetting("json", &o.json, "print the report as JSON"),
		textSetting("write-snapshot", &o.writeSnapshot, "", "FILE", "write a room of --components as the file store keeps it, and do nothing else"),
	}
	for _, s := range own {
		s.flagOnly = true
	}
	return append(append(own, o.auth.secretSetting("the server's secret, which signs a token for every client (HS256)")), o.auth.claimSettings()...)
}

func (p *program) load() *cli.Command {
	o := &loadOptions{}
	return p.command("load", "put a server under load and measure it", &configFile{known: known()}, o.settings(), func(ctx context.Context) error {
		if o.writeSnapshot != "" {
			return o.snapshot()
		}
		return p.runLoad(ctx, o)
	})
}

func (p *program) runLoad(ctx context.Context, o *loadOptions) error {
	c := o.config
	c.Workload = load.Workload(o.workload)
	// There, 0 is the default and less is none.
	if c.Warmup == 0 {
		c.Warmup = -1
	}
	if c.Drain == 0 {
		c.Drain = -1
	}
	if err := o.tokens(&c); err != nil {
		return err
	}
	report, err := load.Run(ctx, c)
	if errors.Is(err, load.ErrConfig) || errors.Is(err, load.ErrRemote) {
		return settingError{err}
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
func (o *loadOptions) tokens(c *load.Config) error {
	secret := []byte(o.auth.jwtSecret)
	switch {
	case o.token != "":
		c.Token = func(string, string) string { return o.token }
	case len(secret) > 0:
		mint := func(room, _ string) (string, error) {
			return authz.Mint(secret, authz.MintConfig{
				Room: room, Write: true, TTL: longestLoad,
				Issuer: o.auth.issuer, Audience: o.auth.audience, Claims: o.auth.claims,
			})
		}
		if _, err := mint("any", ""); err != nil {
			return settingError{err}
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
		return settingError{err}
	}
	if err != nil {
		return fmt.Errorf("%s is not written: %w", o.writeSnapshot, err)
	}
	return nil
}
