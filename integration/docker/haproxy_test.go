package docker

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// balancer is a HAProxy in a container, before several nodes of Weft.
type balancer struct{ *box }

// haproxyConfig spreads sockets over the nodes whose /readyz answers 200. It asks each node's address
// again and again, since a container that is started anew may get another.
const haproxyConfig = `
global
  log stdout format raw local0 notice
  maxconn 4000

defaults
  mode http
  log global
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  timeout check 1s
  retries 5
  option redispatch 1

resolvers docker
  nameserver embedded 127.0.0.11:53
  resolve_retries 2
  timeout resolve 500ms
  timeout retry 500ms
  hold valid 500ms
  hold nx 500ms
  hold other 500ms

frontend public
  bind :8080
  http-request return status 200 content-type text/plain lf-string "%%[nbsrv(weft)]" if { path /balancer/nodes }
  default_backend weft

backend weft
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check port 9090 inter 200ms fall 1 rise 1 resolvers docker init-addr libc,none
%s`

// startHAProxy runs a load balancer before the nodes, on their network, and waits until it has found
// all of them ready.
func startHAProxy(t testing.TB, network *testcontainers.DockerNetwork, nodes ...*weftServer) *balancer {
	t.Helper()
	var names []string
	for _, n := range nodes {
		names = append(names, n.name)
	}
	b := startHAProxyFor(t, network, names...)
	b.awaitNodes(t, len(nodes))
	return b
}

// startHAProxyFor runs a load balancer before nodes of these names, some of which may not run yet.
func startHAProxyFor(t testing.TB, network *testcontainers.DockerNetwork, names ...string) *balancer {
	t.Helper()
	var servers strings.Builder
	for _, name := range names {
		fmt.Fprintf(&servers, "  server %s %s:%d\n", name, name, weftPort)
	}
	return &balancer{start(t, plan{
		name:    "balancer",
		network: network,
		image:   needImage(t, haproxyImage),
		cmd:     []string{"haproxy", "-db", "-f", "/haproxy.cfg"},
		files:   map[string]string{"/haproxy.cfg": fmt.Sprintf(haproxyConfig, servers.String())},
		ports:   []int{weftPort},
		ready:   wait.ForHTTP("/balancer/nodes").WithPort("8080/tcp"),
	})}
}

// URL is where clients connect.
func (b *balancer) URL() string { return "ws://" + b.addr(weftPort) + "/" }

// awaitNodes waits until it holds this many nodes for ready.
func (b *balancer) awaitNodes(t testing.TB, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("the load balancer to have %d nodes", n), func() bool {
		code, body, err := get("http://" + b.addr(weftPort) + "/balancer/nodes")
		return err == nil && code == http.StatusOK && body == strconv.Itoa(n)
	})
}

func TestBalancerCarriesSocketsAndFollowsItsNodes(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	one := startWeft(t, "weft-1", network, "WEFT_STORE=memory")
	two := startWeft(t, "weft-2", network, "WEFT_STORE=memory")
	b := startHAProxy(t, network, one, two)
	exchange := func(id string) *websocket.Conn {
		t.Helper()
		conn := dial(t, b.URL(), "r", id)
		exchangeOn(t, conn, id)
		return conn
	}
	// One after the other get to both nodes: the balancer goes round.
	conns := []*websocket.Conn{exchange("a"), exchange("b")}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends := make(chan error, len(conns))
	for _, conn := range conns {
		go func() { ends <- readUntil(ctx, conn, `"again"`) }()
	}
	if code := one.Stop(t); code != 0 {
		t.Errorf("exit code %d after docker stop", code)
	}
	// Whoever was on the node that stopped is told to come back, by Weft through the balancer. The
	// other goes on.
	if err := <-ends; websocket.CloseStatus(err) != 1012 {
		t.Errorf("the first socket ended by %v, want 1012", err)
	}
	for _, conn := range conns {
		_ = sendPatch(ctx, conn, "again") // one of them is closed
	}
	if err := <-ends; err != nil {
		t.Errorf("the other socket: %v", err)
	}
	b.awaitNodes(t, 1)
	exchange("c")
	one.Restart(t)
	b.awaitNodes(t, 2)
	two.Kill(t)
	b.awaitNodes(t, 1)
	exchange("d") // it is on the node that came back, at whatever address
}
