// Command bench measures Weft beside the published Node server: the same works, on the same
// machine, in the same run, alternating, several rounds. It prints the medians as a Markdown table.
//
// Run it in the folder integration, on a machine that has nothing else to do:
//
//	go run ./bench                          # all works, 5 rounds, about a quarter of an hour
//	go run ./bench --only idle --rounds 1
//	go run ./bench --out results.json       # keeps every single run
//	go run ./bench --against old/bin/weft   # beside another build of Weft instead
//
// Each run starts a server of its own with an empty data folder (work.go, server.go), puts it under
// `weft load --json`, and stops it. The load is a process of its own, with half of the machine's
// processors, so that CPU is told apart; what else ran on the machine is measured too, and
// reported when it was enough to blur the numbers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	rounds    int
	duration  time.Duration
	only      string
	weft      string
	load      string
	published string
	out       string
	against   string
	skipPub   bool
	skipWeft  bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "how often each work is done on each server")
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "the measured time of one run (the large room: twice that)")
	flags.StringVar(&o.only, "only", "", "works to do, separated by commas: "+strings.Join(workNames(), ", ")+" (default all)")
	flags.StringVar(&o.weft, "weft", "", "the weft program to measure (default: build ../cmd/weft)")
	flags.StringVar(&o.load, "load", "", "the weft program whose load command makes the load (default: the same)")
	flags.StringVar(&o.published, "published", filepath.Join("node", "published-server.mjs"), "the script that runs the published server")
	flags.StringVar(&o.out, "out", "", "file for the raw results, as JSON")
	flags.StringVar(&o.against, "against", "", "another weft program, to be measured in the published server's place")
	flags.BoolVar(&o.skipPub, "skip-published", false, "measure only Weft")
	flags.BoolVar(&o.skipWeft, "skip-weft", false, "measure only the published server (needs --load or --weft)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.rounds < 1 || o.rounds > 100:
		return o, fmt.Errorf("--rounds: %d: want 1 to 100", o.rounds)
	case o.duration < time.Second || o.duration > time.Hour:
		return o, fmt.Errorf("--duration: %v: want 1s to 1h", o.duration)
	case o.skipPub && o.against != "":
		return o, errors.New("--skip-published and --against exclude each other")
	case o.skipPub && o.skipWeft:
		return o, errors.New("--skip-published and --skip-weft leave nothing to measure")
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if name != "" && !slices.Contains(workNames(), name) {
			return o, fmt.Errorf("--only: %q is not one of %s", name, strings.Join(workNames(), ", "))
		}
	}
	return o, nil
}

// other is the name of the server beside Weft.
func (o options) other() string {
	if o.against != "" {
		return "against"
	}
	return "published"
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system tidies up what is left
	if o.weft == "" && (o.load == "" || !o.skipWeft) {
		o.weft = filepath.Join(dir, "weft")
		build := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", o.weft, "./cmd/weft")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build weft: %w", err)
		}
	}
	if o.load == "" {
		o.load = o.weft
	}
	var servers []server
	if o.against != "" {
		servers = append(servers, weft{program: o.against, label: o.other()})
	} else if !o.skipPub {
		servers = append(servers, published{script: o.published})
	}
	if !o.skipWeft {
		servers = append(servers, weft{program: o.weft, label: "weft"})
	}

	results := Results{Machine: machine(o), Other: o.other(), Rounds: o.rounds, Seconds: o.duration.Seconds()}
	for round := range o.rounds {
		for _, w := range works {
			if o.only != "" && !slices.Contains(strings.Split(o.only, ","), w.name) {
				continue
			}
			for i := range servers {
				s := servers[(i+round)%len(servers)] // who goes first changes with the round
				result := measure(ctx, o, dir, w, s)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				result.Round = round + 1
				results.Runs = append(results.Runs, result)
				fmt.Fprintln(os.Stderr, result.line())
			}
		}
	}
	results.writeMarkdown(os.Stdout)
	if o.out != "" {
		b, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.out, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	return results.failure()
}
