package faults

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Node is a place for a process of Weft, with addresses that stay over restarts.
type Node struct {
	// Fixed after construction.
	Target        // where clients connect
	Admin  string // host:port of /readyz and /metrics
	Gossip string // host:port
	binary string
	args   []string
	log    *logBuffer

	// Owned by whoever starts and stops it.
	cmd  *exec.Cmd
	exit chan error // gets the process's end
}

// NewNode takes addresses for a node. Its process has args of `serve` beside those for them; a Redis URL
// and what belongs to it is for the caller to add, by SetArgs, once it knows all addresses.
func NewNode(name, binary string) (*Node, error) {
	n := &Node{Target: Target{Name: name}, binary: binary, log: &logBuffer{}}
	for _, addr := range []*string{&n.Addr, &n.Admin, &n.Gossip} {
		var err error
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// SetArgs sets the arguments of `serve` beside the addresses to listen at for clients and operators.
func (n *Node) SetArgs(args ...string) { n.args = args }

// Start starts the process. It does not wait until it is ready.
func (n *Node) Start() error {
	args := append([]string{"serve", "--listen", n.Addr, "--admin-listen", n.Admin}, n.args...)
	cmd := exec.Command(n.binary, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WEFT_") })
	cmd.Stdout, cmd.Stderr = n.log, n.log
	// If this process is killed, its nodes go as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting node %s: %w", n.Name, err)
	}
	exit := make(chan error, 1)
	go func() { exit <- cmd.Wait() }()
	n.cmd, n.exit = cmd, exit
	return nil
}

// PID is the process's id; 0 if there is none.
func (n *Node) PID() int {
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// ErrExited is wrapped by AwaitReady's error if the process ended instead.
var ErrExited = errors.New("ended instead of getting ready")

// AwaitReady returns when /readyz says so.
func (n *Node) AwaitReady(ctx context.Context) error {
	for {
		select {
		case err := <-n.exit:
			n.exit <- err // for Wait
			return fmt.Errorf("node %s %w: %v", n.Name, ErrExited, err)
		default:
		}
		code, _, err := n.get(ctx, "/readyz")
		if err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s is not ready: %w (last: %d %v)", n.Name, ctx.Err(), code, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Signal sends the process a signal; an error if it has ended.
func (n *Node) Signal(s syscall.Signal) error {
	if n.cmd == nil {
		return fmt.Errorf("node %s does not run", n.Name)
	}
	if err := n.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %v to node %s: %w", s, n.Name, err)
	}
	return nil
}

// Wait waits for the process's end and returns how it went: nil after exit code 0.
func (n *Node) Wait(ctx context.Context) error {
	if n.cmd == nil {
		return nil
	}
	select {
	case err := <-n.exit:
		n.cmd = nil
		return err
	case <-ctx.Done():
		return fmt.Errorf("node %s has not ended: %w", n.Name, ctx.Err())
	}
}

// Kill ends the process by SIGKILL, which a stopped one obeys, too, and waits for it.
func (n *Node) Kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill() // fails only if it has ended
	<-n.exit                 //nolint:errcheck // by a kill
	n.cmd = nil
}

// Metric sums a metric's samples over all labels; 0 if there is none.
func (n *Node) Metric(ctx context.Context, name string) (float64, error) {
	code, body, err := n.get(ctx, "/metrics")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	if err != nil {
		return 0, fmt.Errorf("metrics of node %s: %w", n.Name, err)
	}
	var sum float64
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err != nil {
			return 0, fmt.Errorf("metrics of node %s: %q: %w", n.Name, line, err)
		}
		sum += v
	}
	return sum, nil
}

func (n *Node) get(ctx context.Context, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Admin+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Log is the end of what all processes of the node have written, at most max bytes.
func (n *Node) Log(max int) string { return n.log.tail(max) }

// logBuffer keeps what a process writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.buf.String()
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Ports are taken from below those that the system gives to outgoing connections: while a node is down,
// nobody else must get its port. Other tests take theirs from below these.
const (
	firstPort = 12000
	lastPort  = 19999
)

var nextPort atomic.Int64

// freeAddr finds a loopback address on which nobody listens, by TCP or UDP, and which this process has
// not handed out.
func freeAddr() (string, error) {
	nextPort.CompareAndSwap(0, firstPort+int64(os.Getpid()*7919%(lastPort-firstPort)))
	for range lastPort - firstPort {
		port := nextPort.Add(1)
		if port > lastPort {
			nextPort.Store(firstPort)
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", addr)
		_ = tcp.Close()
		if err != nil {
			continue
		}
		_ = udp.Close()
		return addr, nil
	}
	return "", fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}
