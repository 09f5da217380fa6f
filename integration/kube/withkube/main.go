// Command withkube runs a command with a Kubernetes of one node that it makes on this machine, and ends
// as the command does:
//
//	withkube COMMAND…
//
// The command finds helm and kubectl in its PATH, the cluster in KUBECONFIG, and by WEFT_KUBE_IMPORT a
// program that takes an image, as `docker save` writes it, from its standard input.
//
// The components come from Kubernetes' own Go modules, as do helm and CoreDNS; etcd, containerd, runc
// and the network plugins are Debian's. They are started as root, listen at addresses that only this
// machine has, and keep everything below one folder. When the command has ended, or a signal came,
// all is stopped and taken back: containers, networks, rules, settings of the kernel. What a run left
// that was killed, the next one takes back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	only := flag.Bool("build", false, "only build and cache the programs")
	limit := flag.Duration("limit", 50*time.Minute, "end the command after this time")
	flag.Parse()
	code, err := run(*only, *limit, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "withkube:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(only bool, limit time.Duration, command []string) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	programs, err := build(ctx)
	if err != nil || only {
		return 0, err
	}
	if len(command) == 0 {
		return 2, errors.New("which command?")
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("a cluster on this machine needs root")
	}
	machine, err := takeMachine()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, machine.giveBack()) }()
	c := &cluster{programs: programs, machine: machine}
	defer func() { err = errors.Join(err, c.stop()) }()
	begin := time.Now()
	if err := c.start(ctx); err != nil {
		return 1, err
	}
	fmt.Printf("withkube: a cluster of one node was made in %v\n", time.Since(begin).Round(100*time.Millisecond))
	return c.run(ctx, limit, command)
}

// run runs the command for a limited time. A signal reaches it, too.
func (c *cluster) run(ctx context.Context, limit time.Duration, command []string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	importer := filepath.Join(stateDir, "import-image")
	script := fmt.Sprintf("#!/bin/sh\nexec ctr --address %s --namespace k8s.io images import -\n", socket)
	if err := os.WriteFile(importer, []byte(script), 0o700); err != nil {
		return 1, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+kubeconfig,
		"PATH="+c.programs.path()+":"+os.Getenv("PATH"),
		"WEFT_KUBE_IMPORT="+importer)
	// A group of its own: what the command has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // there may be nobody left
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	if ctx.Err() != nil {
		return 1, fmt.Errorf("%s was ended: %w", command[0], context.Cause(ctx))
	}
	return 0, err
}
