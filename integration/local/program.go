package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a place for one process, which can be started again and again. Its methods are for one
// goroutine at a time.
type Program struct {
	// Fixed after construction.
	Name  string
	args  []string // the program first
	out   io.Writer
	ready func(context.Context) bool

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	last   *lastLine     // of what it said
}

const (
	startLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
)

// Start starts the process and returns when it is ready for work. After an error it does not run.
func (p *Program) Start(ctx context.Context) error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	// Settings of Weft in this process's environment are not meant for these nodes.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WEFT_") })
	last := &lastLine{}
	out := io.Writer(last)
	if p.out != nil {
		out = io.MultiWriter(last, p.out)
	}
	cmd.Stdout, cmd.Stderr = out, out
	// An interrupt from the terminal is for us to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // whoever waits for exited says what it means
	}()
	p.cmd, p.exited, p.last = cmd, exited, last

	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.ready(ctx) {
		select {
		case <-tick.C:
		case <-exited:
			return fmt.Errorf("%s ended at once: %s", p.Name, last)
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("%s is not ready: %w: %s", p.Name, ctx.Err(), last)
		}
	}
	return nil
}

// PID is the process's id; 0 before the first start.
func (p *Program) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Exited is closed when the process has ended; nil before the first start.
func (p *Program) Exited() <-chan struct{} { return p.exited }

// Signal sends a signal. That the process has ended is no error.
func (p *Program) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to %s: %w", s, p.Name, err)
	}
	return nil
}

// Stop ends the process, kindly at first, and returns when it is gone.
func (p *Program) Stop() {
	if p.cmd == nil {
		return
	}
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		p.Kill()
	}
}

// Kill ends the process by SIGKILL and returns when it is gone.
func (p *Program) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.Signal(syscall.SIGKILL)
	<-p.exited
}

// find is the path of a program that the machine may lack.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed; on Debian: sudo apt-get install %s", program, program)
	}
	return path, nil
}

// lastLine keeps the last line of what is written, for an error's text.
type lastLine struct {
	mu   sync.Mutex
	line []byte
	more bool // the line has not ended
}

const maxLine = 1000

func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(b) {
		if !l.more {
			l.line = l.line[:0]
		}
		text := bytes.TrimRight(line, "\n")
		l.more = len(text) == len(line)
		l.line = append(l.line, text[:min(len(text), maxLine-len(l.line))]...)
	}
	return len(b), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.line)
}

// prefixed passes whole lines on to a writer that others use too, each with a prefix.
type prefixed struct {
	prefix string
	to     io.Writer
	mu     *sync.Mutex // of to

	own  sync.Mutex
	rest []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.own.Lock()
	defer p.own.Unlock()
	p.rest = append(p.rest, b...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	var text []byte
	for line := range bytes.Lines(p.rest[:end]) {
		text = append(append(text, p.prefix...), line...)
	}
	p.rest = append(p.rest[:0], p.rest[end:]...)
	if len(text) == 0 {
		return len(b), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.to.Write(text)
	return len(b), err
}
