package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Config says what a cluster consists of.
type Config struct {
	Weft   string   // the program; required
	Dir    string   // where Redis keeps its data, which must exist; required
	Nodes  int      // default 3
	Args   []string // of `weft serve`, beside what makes it a node here
	Listen string   // address of the load balancer; empty: there is none
	// Log gets what all processes write, each line with its process's name before it; nil: nobody does.
	Log io.Writer
}

// Cluster is the processes. Its methods are for one goroutine at a time.
type Cluster struct {
	Redis    *Redis
	Nodes    []*Node
	Balancer *Program // nil if there is none
}

// Redis keeps a log of its writes and syncs it every second, as Weft recommends.
type Redis struct {
	Program
	Addr string // host:port
}

// Node is one of the cluster.
type Node struct {
	Program
	Addr   string // host:port where clients connect
	Admin  string // host:port of /readyz, /metrics and /debug/pprof
	Gossip string // host:port
	Peer   string // host:port
}

// Start starts a cluster and returns when all of it is ready. After an error nothing of it runs.
func Start(ctx context.Context, c Config) (*Cluster, error) {
	logs := &logs{to: c.Log}
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	x := &Cluster{}
	var err error
	if x.Redis, err = newRedis(c.Dir, logs); err != nil {
		return nil, err
	}
	for n := range c.Nodes {
		node := &Node{Program: Program{Name: fmt.Sprintf("node-%d", n+1)}}
		for _, addr := range []*string{&node.Addr, &node.Admin, &node.Gossip, &node.Peer} {
			if *addr, err = FreeAddr(); err != nil {
				return nil, err
			}
		}
		node.out = logs.of(node.Name)
		x.Nodes = append(x.Nodes, node)
	}
	var gossip []string
	for _, n := range x.Nodes {
		gossip = append(gossip, n.Gossip)
	}
	for _, n := range x.Nodes {
		n.args = append([]string{c.Weft, "serve", "--node-name", n.Name, "--listen", n.Addr, "--admin-listen", n.Admin,
			"--redis-url", "redis://" + x.Redis.Addr, "--gossip-listen", n.Gossip, "--gossip-advertise", n.Gossip, "--peer-listen", n.Peer,
			"--join", strings.Join(gossip, ",")}, c.Args...)
		n.ready = answers(n.Admin, "/readyz")
	}
	if c.Listen != "" {
		if x.Balancer, err = newBalancer(c.Listen, c.Dir, x.Nodes, logs); err != nil {
			return nil, err
		}
	}
	if err := x.start(ctx); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

func (x *Cluster) start(ctx context.Context) error {
	if err := x.Redis.Start(ctx); err != nil {
		return err
	}
	errs := make([]error, len(x.Nodes))
	var all sync.WaitGroup
	for i, n := range x.Nodes {
		all.Go(func() { errs[i] = n.Start(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil || x.Balancer == nil {
		return err
	}
	return x.Balancer.Start(ctx)
}

// Programs are all of it, in the order in which they are started.
func (x *Cluster) Programs() []*Program {
	list := []*Program{&x.Redis.Program}
	for _, n := range x.Nodes {
		list = append(list, &n.Program)
	}
	if x.Balancer != nil {
		list = append(list, x.Balancer)
	}
	return list
}

// Close ends all processes that run and returns when they are gone.
func (x *Cluster) Close() {
	var nodes sync.WaitGroup
	for _, n := range x.Nodes {
		nodes.Go(n.Stop)
	}
	nodes.Wait()
	if x.Balancer != nil {
		x.Balancer.Stop()
	}
	x.Redis.Stop()
}

// NewSingle is a node without a cluster, which keeps its rooms in a folder.
func NewSingle(weft, dir string, args ...string) (*Node, error) {
	n := &Node{Program: Program{Name: "single"}}
	for _, addr := range []*string{&n.Addr, &n.Admin} {
		var err error
		if *addr, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	n.args = append([]string{weft, "serve", "--listen", n.Addr, "--admin-listen", n.Admin, "--data-dir", dir}, args...)
	n.ready = answers(n.Admin, "/readyz")
	return n, nil
}

func newRedis(dir string, logs *logs) (*Redis, error) {
	path, err := find("redis-server")
	if err != nil {
		return nil, err
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(addr) // FreeAddr has joined them
	return &Redis{Addr: addr, Program: Program{
		Name: "redis", out: logs.of("redis"),
		args: []string{path, "--bind", host, "--port", port, "--dir", dir, "--save", "",
			"--loglevel", "warning", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"},
		ready: func(ctx context.Context) bool { return pings(ctx, addr) },
	}}, nil
}

// pings reports whether a Redis answers and has read its data.
func pings(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // fails on a closed connection only
	answer := make([]byte, len("+PONG"))
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == "+PONG"
}

// answers asks a path until its status is 200.
func answers(addr, path string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
		if err != nil {
			return false
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
}

// balancerConfig spreads sockets over the nodes whose /readyz answers 200.
const balancerConfig = `
global
  maxconn 4000

defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  timeout check 1s
  retries 5
  option redispatch 1

frontend public
  bind %s
  acl all_ready nbsrv(weft) ge %d
  http-request return status 200 content-type text/plain string ok if { path /balancer } all_ready
  default_backend weft

backend weft
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check inter 200ms fall 1 rise 1
`

func newBalancer(listen, dir string, nodes []*Node, logs *logs) (*Program, error) {
	path, err := find("haproxy")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, balancerConfig, listen, len(nodes))
	for _, n := range nodes {
		_, admin, _ := net.SplitHostPort(n.Admin) // FreeAddr has joined them
		fmt.Fprintf(&b, "  server %s %s port %s\n", n.Name, n.Addr, admin)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	return &Program{
		Name: "balancer", out: logs.of("balancer"),
		args:  []string{path, "-db", "-f", file},
		ready: answers(listen, "/balancer"),
	}, nil
}

// logs lets several processes write to one writer.
type logs struct {
	to io.Writer
	mu sync.Mutex
}

func (l *logs) of(name string) io.Writer {
	if l.to == nil {
		return nil
	}
	return &prefixed{prefix: fmt.Sprintf("%-8s | ", name), to: l.to, mu: &l.mu}
}
