package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/weftsync/weft/integration/local"
)

// server is one of the two that are compared. Both save to a data folder every 2 s, and take
// tokens that are signed with the same secret.
type server interface {
	name() string
	// start returns when the server takes connections.
	start(ctx context.Context, data string) (*running, error)
}

const (
	startLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
)

// running is a server's process.
type running struct {
	cmd    *exec.Cmd
	url    string
	out    transcript
	exited chan struct{} // closed when the process has ended
	first  time.Duration // CPU used when the work began
}

// transcript gathers what a server prints, for an error's text, and lets others wait for a line.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// keptOutput bounds how much a server may say before the rest is dropped.
const keptOutput = 1 << 20

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len() < keptOutput {
		o.b.Write(p)
	}
	return len(p), nil
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func launch(cmd *exec.Cmd) (*running, error) {
	r := &running{cmd: cmd, exited: make(chan struct{})}
	cmd.Env = append(os.Environ(), "WEFT_AUTH_JWT_SECRET="+secret)
	cmd.Stdout, cmd.Stderr = &r.out, &r.out
	// An interrupt from the terminal is ours to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(r.exited)
		_ = cmd.Wait() // how it ended is told by stop, or by the load that lost it
	}()
	return r, nil
}

// await polls ready until it is true. On an error the server has been stopped.
func (r *running) await(ctx context.Context, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready(ctx) {
		select {
		case <-tick.C:
		case <-r.exited:
			return fmt.Errorf("it ended: %s", r.said())
		case <-ctx.Done():
			r.stop()
			return fmt.Errorf("not ready: %w: %s", ctx.Err(), r.said())
		}
	}
	r.first = local.CPUTime(r.cmd.Process.Pid)
	return nil
}

// used is the CPU time since the server was ready.
func (r *running) used() time.Duration { return local.CPUTime(r.cmd.Process.Pid) - r.first }

func (r *running) said() string { return lastLine(r.out.String()) }

// stop ends the process, kindly at first, and returns when it has gone.
func (r *running) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(stopLimit):
		_ = r.cmd.Process.Kill()
		<-r.exited
	}
}

// published is the npm server, under Node.
type published struct{ script string }

func (published) name() string { return "published" }

var listening = regexp.MustCompile(`(?m)^listening on (\d+)$`)

func (p published) start(ctx context.Context, data string) (*running, error) {
	r, err := launch(exec.Command("node", p.script, "--port", "0", "--data", data, "--save-ms", "2000"))
	if err != nil {
		return nil, err
	}
	err = r.await(ctx, func(context.Context) bool {
		m := listening.FindStringSubmatch(r.out.String())
		if m != nil {
			r.url = "ws://127.0.0.1:" + m[1] + "/"
		}
		return m != nil
	})
	return r, err
}

// weft is the program that this repository builds.
type weft struct{ program, label string }

func (w weft) name() string { return w.label }

func (w weft) start(ctx context.Context, data string) (*running, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	r, err := launch(exec.Command(w.program, "serve",
		"--listen", listen, "--admin-listen", admin, "--data-dir", data, "--save-interval", "2s"))
	if err != nil {
		return nil, err
	}
	r.url = "ws://" + listen + "/"
	err = r.await(ctx, func(ctx context.Context) bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return false
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return r, err
}

// freeAddress finds a loopback port that nobody listens on just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

var errNoVersion = errors.New("unknown")

// version runs a program and returns the first line that it prints.
func version(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return "", errNoVersion
	}
	return line, nil
}
