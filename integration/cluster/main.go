// Command cluster runs a Redis, three nodes of Weft and a load balancer on this machine, and prints
// where the playground is. What ends, or is killed to see what happens, is started again after some
// seconds. An interrupt ends everything.
//
//	make cluster
//	go run ./cluster --weft ../bin/weft --listen 127.0.0.1:8080
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/weftsync/weft/integration/local"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	c := local.Config{Args: []string{"--dev", "--drain-timeout", "5s"}, Log: os.Stderr}
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.StringVar(&c.Weft, "weft", "../bin/weft", "the weft program")
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:8080", "where the load balancer listens")
	flags.IntVar(&c.Nodes, "nodes", 3, "how many nodes there are")
	again := flags.Duration("again", 5*time.Second, "after what time a process that ended is started again")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	if c.Dir, err = os.MkdirTemp("", "weft-cluster-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(c.Dir) }() // the system tidies up what is left
	x, err := local.Start(ctx, c)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer x.Close()
	fmt.Printf("\nThe playground: http://%s (interrupt to end). Kill any of these and watch:\n", c.Listen)
	var keepers sync.WaitGroup
	for _, p := range x.Programs() {
		fmt.Printf("  kill -9 %d  # %s\n", p.PID(), p.Name)
		keepers.Go(func() { keep(ctx, p, *again) })
	}
	fmt.Println()
	keepers.Wait()
	return nil
}

// keep starts a program again whenever it ends.
func keep(ctx context.Context, p *local.Program, again time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.Exited():
			fmt.Printf("%s has ended and is started again in %v\n", p.Name, again)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
		if err := p.Start(ctx); err != nil && ctx.Err() == nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s is back: kill -9 %d\n", p.Name, p.PID())
	}
}
