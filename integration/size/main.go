// Command size measures what an operator plans with: what a socket and a room take of a machine's
// memory, the kernel's share included, and what edits take of Redis. It prints a Markdown table.
//
//	go run ./size --weft ../bin/weft     # in the folder integration; three minutes
//
// All of it runs on this machine, over loopback; nothing else should.
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
	"strings"
	"syscall"
	"time"

	"github.com/weftsync/weft/integration/local"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

// descriptors are enough for sockets of a server, and for the load's ends of them.
const descriptors = sockets + 1000

const sockets = 10_000

func run(ctx context.Context) error {
	weft := flag.String("weft", "../bin/weft", "the weft program")
	flag.Parse()
	limit := syscall.Rlimit{Cur: descriptors, Max: descriptors}
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err == nil && now.Max > limit.Max {
		limit.Max = now.Max
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d open files are needed: %w", descriptors, err)
	}
	fmt.Println("| what | takes | measured as |\n|---|--:|---|")
	return errors.Join(memory(ctx, *weft), edits(ctx, *weft))
}

// row prints one figure.
func row(what, takes, how string) { fmt.Printf("| %s | %s | %s |\n", what, takes, how) }

// memory opens as many sockets twice: ten to a room, and alone in a room. The difference is rooms.
func memory(ctx context.Context, weft string) error {
	crowded, kernel, err := idle(ctx, weft, sockets/10, 10)
	if err != nil {
		return err
	}
	alone, _, err := idle(ctx, weft, sockets, 1)
	if err != nil {
		return err
	}
	perRoom := (alone - crowded) * sockets / (sockets - sockets/10)
	perSocket := crowded - perRoom/10
	row("an idle socket, of the process", kib(perSocket), fmt.Sprintf("resident memory, %d sockets, 10 to a room", sockets))
	row("an idle socket, of the kernel", kib(kernel), "slab and socket buffers of both ends, halved")
	row("a room in memory, small", kib(perRoom), "the same sockets, one to a room")
	row("sockets in 1 GiB", fmt.Sprintf("%.0f", (1<<30)/(perSocket+kernel+perRoom/10)), "ten to a room")
	return nil
}

func kib(bytes float64) string { return fmt.Sprintf("%.1f KiB", bytes/1024) }

// idle is what a socket takes, of a process and of the kernel, in bytes.
func idle(ctx context.Context, weft string, rooms, perRoom int) (process, kernel float64, err error) {
	dir, err := os.MkdirTemp("", "weft-size-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	node, err := local.NewSingle(weft, dir, "--dev")
	if err != nil {
		return 0, 0, err
	}
	if err := node.Start(ctx); err != nil {
		return 0, 0, err
	}
	defer node.Stop()
	before := kernelMemory()
	var most float64 // while the sockets are open
	watched, stop := context.WithCancel(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			select {
			case <-tick.C:
				most = max(most, kernelMemory())
			case <-watched.Done():
				tick.Stop()
				return
			}
		}
	}()
	report, err := load(ctx, weft, node.Addr, "--workload", "idle", "--rooms", fmt.Sprint(rooms), "--clients", fmt.Sprint(perRoom),
		"--duration", "20s", "--pid", fmt.Sprint(node.PID()))
	stop()
	<-watching
	return float64(report.Server.RSSPerConnection), (most - before) / 2 / sockets, err
}

// edits puts a node of a cluster under 1000 edits a second.
func edits(ctx context.Context, weft string) error {
	dir, err := os.MkdirTemp("", "weft-size-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	c, err := local.Start(ctx, local.Config{Weft: weft, Dir: dir, Nodes: 2, Args: []string{"--dev"}})
	if err != nil {
		return err
	}
	defer c.Close()
	const seconds = 20
	before, err := redisMemory(ctx, c.Redis.Addr)
	if err != nil {
		return err
	}
	cpu, file := local.CPUTime(c.Redis.PID()), folderSize(dir)
	nodes := local.CPUTime(c.Nodes[0].PID()) + local.CPUTime(c.Nodes[1].PID())
	var most float64
	watched, stop := context.WithCancel(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-tick.C:
				if m, err := redisMemory(watched, c.Redis.Addr); err == nil {
					most = max(most, m)
				}
			case <-watched.Done():
				tick.Stop()
				return
			}
		}
	}()
	report, err := load(ctx, weft, c.Nodes[0].Addr, "--workload", "document", "--rooms", "50", "--clients", "2", "--writers", "1",
		"--rate", "20", "--warmup", "0s", "--duration", fmt.Sprint(seconds, "s"))
	stop()
	<-watching
	if err != nil {
		return err
	}
	rate := report.DeliveriesPerSecond // one receiver for each edit
	per := 1000 / rate / report.Seconds
	how := fmt.Sprintf("50 rooms × 20 edits/s for %d s, 2 nodes, append-only file", seconds)
	row("Redis CPU for 1000 edits/s", fmt.Sprintf("%.1f %% of a core", 100*per*(local.CPUTime(c.Redis.PID())-cpu).Seconds()), how)
	row("node CPU for 1000 edits/s", fmt.Sprintf("%.1f %% of a core", 100*per*(local.CPUTime(c.Nodes[0].PID())+local.CPUTime(c.Nodes[1].PID())-nodes).Seconds()), "the same run, both nodes together, one receiver each")
	row("Redis memory under 1000 edits/s", fmt.Sprintf("%.1f MiB", (most-before)/(1<<20)), "the same run: rooms, logs and streams, the most of it")
	row("append-only file for 1000 edits/s", fmt.Sprintf("%.1f MiB/s", per*(folderSize(dir)-file)/(1<<20)), "the same run, before Redis rewrites the file")
	return nil
}

// report is what is read of a report of `weft load`.
type report struct {
	Seconds             float64 `json:"seconds"`
	DeliveriesPerSecond float64 `json:"deliveriesPerSecond"`
	DeliveredShare      float64 `json:"deliveredShare"`
	Server              struct {
		RSSPerConnection int64 `json:"rssPerConnection"`
	} `json:"server"`
}

func load(ctx context.Context, weft, addr string, args ...string) (r report, err error) {
	cmd := exec.CommandContext(ctx, weft, append([]string{"load", "--json", "--url", "ws://" + addr}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("weft load %s: %w", strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if r.DeliveredShare > 0 && r.DeliveredShare < 0.99 {
		return r, fmt.Errorf("only %.0f %% was delivered: this machine is too busy to measure on", 100*r.DeliveredShare)
	}
	return r, nil
}
