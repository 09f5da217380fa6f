package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a component that runs. What it says is in a file of its name.
type process struct {
	name string
	cmd  *exec.Cmd
	end  chan struct{} // closed when it has ended
}

// startProcess starts a component that ends with this process, if not before.
func startProcess(name, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(logDir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(program, args...), end: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir = stateDir
	// A group of its own, so that a Ctrl-C does not end it before what runs in it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := errors.Join(p.cmd.Start(), log.Close()); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.end)
		_ = p.cmd.Wait() // nobody asks how it ended
	}()
	return p, nil
}

// stop asks the process to end, and kills it if it has not after a while.
func (p *process) stop(patience time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.end:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.end
	}
}

// await returns when ready does not return an error any more, or when the process has ended.
func (p *process) await(ctx context.Context, patience time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.end:
			return fmt.Errorf("%s has ended; it said:\n%s", p.name, p.said())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s is not ready after %v: %w; it said:\n%s", p.name, patience, err, p.said()), context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// said is the end of what the process said.
func (p *process) said() string {
	text, err := os.ReadFile(filepath.Join(logDir, p.name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}
