// Command benchcluster measures three nodes of Weft that share a Redis, beside a single node without
// one, all on this machine and on loopback. It prints a Markdown table: what was measured, the target
// if there is one, and on what.
//
//	make bench-cluster
//	go run ./benchcluster --weft ../bin/weft --only latency,takeover --rounds 1
//
// The clients are in this process (client.go). They time a patch from the moment in which it was to
// be written to its ack. Every round gives a distribution; the table has the medians of the rounds' p50
// and p99, and the maximum of all. Nothing here fails because it is slow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/integration/local"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "benchcluster:", err)
		os.Exit(1)
	}
}

// bench is what the parts of the measurement share.
type bench struct {
	options
	cluster *local.Cluster
	redis   *redis.Client
	single  *local.Node
	rooms   int // named so far
	table   table
}

// options are the command line.
type options struct {
	weft     string
	rounds   int
	duration time.Duration
	idle     int
	only     string
	verbose  bool
}

// part is one part of the measurement.
type part struct {
	name string
	do   func(*bench, context.Context) error
}

var parts = []part{
	{"latency", (*bench).latency},
	{"redis", (*bench).redisCPU},
	{"fanout", (*bench).fanOut},
	{"takeover", (*bench).takeovers},
	{"idle", (*bench).idleRooms},
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("benchcluster", flag.ContinueOnError)
	flags.StringVar(&o.weft, "weft", "../bin/weft", "the weft program")
	flags.IntVar(&o.rounds, "rounds", 3, "how often everything is measured")
	flags.DurationVar(&o.duration, "duration", 6*time.Second, "the length of one measurement")
	flags.IntVar(&o.idle, "idle-rooms", 10_000, "rooms that are opened and left")
	flags.StringVar(&o.only, "only", "", "parts, separated by commas: "+strings.Join(partNames(), ", ")+" (default all)")
	flags.BoolVar(&o.verbose, "v", false, "show what the processes log")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.rounds < 1 || o.rounds > 100:
		return o, fmt.Errorf("--rounds: %d: want 1 to 100", o.rounds)
	case o.duration < time.Second || o.duration > 10*time.Minute:
		return o, fmt.Errorf("--duration: %v: want 1s to 10m", o.duration)
	case o.idle < 1 || o.idle > 1_000_000:
		return o, fmt.Errorf("--idle-rooms: %d: want 1 to 1000000", o.idle)
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if name != "" && !slices.Contains(partNames(), name) {
			return o, fmt.Errorf("--only: %q is not one of %s", name, strings.Join(partNames(), ", "))
		}
	}
	return o, nil
}

// noisy is how many cores' worth of other work makes numbers doubtful.
const noisy = 0.15

// idleTimeout is short, so that one need not wait for rooms to be let go. Rooms with clients stay.
const idleTimeout = 2 * time.Second

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weft-bench-cluster-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system tidies up what is left
	c := local.Config{Weft: o.weft, Dir: dir, Args: []string{"--dev", "--pprof", "--room-idle-timeout", idleTimeout.String(), "--drain-timeout", "20s"}}
	if o.verbose {
		c.Log = os.Stderr
	}
	b := &bench{options: o}
	if b.cluster, err = local.Start(ctx, c); err != nil {
		return err
	}
	defer b.cluster.Close()
	b.redis = redis.NewClient(&redis.Options{Addr: b.cluster.Redis.Addr})
	defer func() { _ = b.redis.Close() }()
	if b.single, err = local.NewSingle(o.weft, filepath.Join(dir, "single"), "--dev"); err != nil {
		return err
	}
	load := machineLoad()
	if err := b.settle(ctx); err != nil {
		return err
	}
	for _, p := range parts {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), p.name) {
			continue
		}
		began, busyBefore, ownBefore := time.Now(), local.BusyTime(), b.own()
		if err := p.do(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		took := time.Since(began)
		others := max(0, (local.BusyTime()-busyBefore-(b.own()-ownBefore)).Seconds()/took.Seconds())
		fmt.Fprintf(os.Stderr, "%s: measured in %v; other programs used %.2f cores\n", p.name, took.Round(time.Second), others)
		if others > noisy {
			b.table.note("%s: other programs used %.2f cores: doubtful numbers", p.name, others)
		}
	}
	version, _ := b.redis.InfoMap(ctx, "server").Result()
	b.table.write(os.Stdout, o, version["Server"]["redis_version"], load)
	return nil
}
