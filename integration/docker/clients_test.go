package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clients is a process under Node that is told by a word a line when to go on, and says it back when
// it is done. See clients/.
type clients struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of its standard output; closed at its end
	err   func() error
	said  *output
}

// startClients runs a script under Node. It is ended when the test ends, or after limit.
func startClients(t testing.TB, limit time.Duration, script string, env ...string) *clients {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not on the PATH: install Node 20 or later, then run `make test-deps`")
	}
	if _, err := os.Stat("../node/node_modules/@woven-ecs/canvas-store"); err != nil {
		t.Fatal("the npm packages in integration/node are not installed: run `make test-deps`")
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c := &clients{cmd: exec.CommandContext(ctx, node, script), lines: make(chan string, 100), said: &output{}}
	// Its library wants a binary to start; here the servers run already.
	c.cmd.Env = append(os.Environ(), "WEFT_BIN=none")
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stderr = c.said
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		c.stdin, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatalf("starting %s: %v", script, err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			fmt.Fprintln(c.said, lines.Text())
			select {
			case c.lines <- lines.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	c.err = sync.OnceValue(func() error {
		<-read // before Wait, which closes the pipe
		return errors.Join(ctx.Err(), c.cmd.Wait())
	})
	t.Cleanup(func() {
		cancel()
		_ = c.err()
		if t.Failed() {
			t.Logf("%s said:\n%s", script, c.said)
		}
	})
	return c
}

// say tells a word and waits until it comes back. It returns the lines that came before.
func (c *clients) say(t testing.TB, word string) (before []string) {
	t.Helper()
	if _, err := fmt.Fprintln(c.stdin, word); err != nil {
		t.Fatalf("the clients have ended: %v", errors.Join(err, c.err()))
	}
	for line := range c.lines {
		if line == word {
			return before
		}
		before = append(before, line)
	}
	t.Fatalf("the clients ended before they could say %q: %v", word, c.err())
	return nil
}

// stats has the clients say what they have noticed so far.
func (c *clients) stats(t testing.TB, into any) {
	t.Helper()
	lines := c.say(t, "stats")
	if len(lines) == 0 {
		t.Fatal("the clients say nothing of what they noticed")
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), into); err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
}

// end waits for the end of the process, which must be under way, and fails the test unless it is in order.
func (c *clients) end(t testing.TB) {
	t.Helper()
	c.stdin.Close()
	for line := range c.lines {
		t.Log(line)
	}
	if err := c.err(); err != nil {
		t.Fatalf("the clients ended by %v", err)
	}
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
