package docker

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// newNetwork makes a network on which a test's containers find each other by name. It ends with the test.
func newNetwork(t testing.TB) *testcontainers.DockerNetwork {
	t.Helper()
	needDaemon(t)
	n, err := network.New(t.Context(), network.WithLabels(map[string]string{ownerLabel: owner()}))
	if err != nil {
		t.Fatalf("making a network: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Remove(ctx); err != nil {
			t.Errorf("removing a network: %v", err)
		}
	})
	return n
}

// plan says what a container is to be.
type plan struct {
	name    string // on the network, and of the host
	aliases []string
	network *testcontainers.DockerNetwork
	image   string
	cmd     []string
	env     map[string]string
	files   map[string]string // path in the container → content
	ports   []int             // that are published
	strict  bool              // a read-only root and no privileges, as the chart has it
	nofile  int64             // how many descriptors it may have; 0: as many as the daemon gives
	ready   wait.Strategy     // nil: it need not be ready
}

// box is a container that may be stopped, killed, paused and started again. Its ports on this
// machine, its files and its name stay the same; its address on the network may not.
type box struct {
	plan
	docker *client.Client
	c      *testcontainers.DockerContainer
	ports  map[int]int // of the container → of this machine
}

// start runs a container, waits until it is ready, and removes it with its volumes when the test
// ends. A failed test shows the end of its log; a log that holds a token fails the test.
func start(t testing.TB, p plan) *box {
	t.Helper()
	b := &box{plan: p, docker: needDaemon(t), ports: map[int]int{}}
	bindings := dockernet.PortMap{}
	var exposed []string
	for _, port := range p.ports {
		b.ports[port] = freePort(t)
		name := strconv.Itoa(port) + "/tcp"
		exposed = append(exposed, name)
		bindings[dockernet.MustParsePort(name)] = []dockernet.PortBinding{{
			HostIP: netip.MustParseAddr(loopback), HostPort: strconv.Itoa(b.ports[port]),
		}}
	}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithLogger(log.TestLogger(t)),
		testcontainers.WithLabels(map[string]string{ownerLabel: owner()}),
		network.WithNetwork(append(p.aliases, p.name), p.network),
		testcontainers.WithEnv(p.env),
		testcontainers.WithExposedPorts(exposed...),
		testcontainers.WithConfigModifier(func(c *container.Config) { c.Hostname = p.name }),
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
			c.PortBindings = bindings
			if p.strict {
				c.ReadonlyRootfs = true
				c.CapDrop = []string{"ALL"}
				c.SecurityOpt = []string{"no-new-privileges"}
			}
			if p.nofile > 0 {
				c.Ulimits = append(c.Ulimits, &container.Ulimit{Name: "nofile", Soft: p.nofile, Hard: p.nofile})
			}
		}),
	}
	if len(p.cmd) > 0 {
		options = append(options, testcontainers.WithCmd(p.cmd...))
	}
	for path, content := range p.files {
		options = append(options, testcontainers.WithFiles(testcontainers.ContainerFile{
			Reader: strings.NewReader(content), ContainerFilePath: path, FileMode: 0o644,
		}))
	}
	if p.ready != nil {
		options = append(options, testcontainers.WithWaitStrategyAndDeadline(patience, p.ready))
	}
	c, err := testcontainers.Run(t.Context(), p.image, options...)
	b.c = c // it may be there although it did not get ready
	t.Cleanup(func() { b.remove(t) })
	if err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	started.Add(1)
	return b
}

func (b *box) remove(t testing.TB) {
	if b.c == nil {
		return
	}
	log := b.log(t)
	if t.Failed() {
		t.Logf("log of %s:\n%s", b.name, log[max(0, len(log)-8000):])
	}
	// Every JWT begins like this, whatever it claims.
	if strings.Contains(log, "eyJ") {
		t.Errorf("the log of %s holds a token", b.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := b.docker.ContainerRemove(ctx, b.c.GetContainerID(), client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		t.Errorf("removing %s: %v", b.name, err)
	}
}

// log is all that the container has said, over restarts.
func (b *box) log(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := b.c.Logs(ctx)
	if err != nil {
		t.Errorf("reading the log of %s: %v", b.name, err)
		return ""
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("reading the log of %s: %v", b.name, err)
	}
	return string(text)
}

// addr is where a port of the container is reached from this machine.
func (b *box) addr(port int) string { return fmt.Sprintf("%s:%d", loopback, b.ports[port]) }

// do asks the daemon for something, and fails the test if it does not do it.
func (b *box) do(t testing.TB, what string, ask func(ctx context.Context, id string) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if err := ask(ctx, b.c.GetContainerID()); err != nil {
		t.Fatalf("%s %s: %v", what, b.name, err)
	}
}

// Kill ends the container's process by SIGKILL, and waits for it.
func (b *box) Kill(t testing.TB) {
	t.Helper()
	b.do(t, "killing", func(ctx context.Context, id string) error {
		_, err := b.docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		return err
	})
	b.exitCode(t)
}

// Terminate sends SIGTERM, and does not wait for the end.
func (b *box) Terminate(t testing.TB) {
	t.Helper()
	b.do(t, "terminating", func(ctx context.Context, id string) error {
		_, err := b.docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "TERM"})
		return err
	})
}

// ip is the container's address on its network, which this machine reaches without a port being
// published if the daemon runs here.
func (b *box) ip(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ip, err := b.c.ContainerIP(ctx)
	if err != nil {
		t.Fatalf("the address of %s: %v", b.name, err)
	}
	return ip
}

// Stop ends the process as `docker stop` does: by SIGTERM, and by SIGKILL if it takes longer than
// patience. It returns the exit code: 137 in the latter case.
func (b *box) Stop(t testing.TB) int {
	t.Helper()
	b.do(t, "stopping", func(ctx context.Context, id string) error {
		seconds := int(patience / time.Second)
		_, err := b.docker.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &seconds})
		return err
	})
	return b.exitCode(t)
}

// exitCode waits for the end of the process, which must be under way.
func (b *box) exitCode(t testing.TB) int {
	t.Helper()
	code := -1
	b.do(t, "waiting for the end of", func(ctx context.Context, id string) error {
		end := b.docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case result := <-end.Result:
			code = int(result.StatusCode)
			return nil
		case err := <-end.Error:
			return err
		}
	})
	return code
}

// Start starts the process anew after Kill or Stop. It does not wait until it is ready.
func (b *box) Start(t testing.TB) {
	t.Helper()
	b.do(t, "starting", func(ctx context.Context, id string) error {
		_, err := b.docker.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	})
}

// Pause stops the process in its tracks; its sockets stay open and silent.
func (b *box) Pause(t testing.TB) {
	t.Helper()
	b.do(t, "pausing", func(ctx context.Context, id string) error {
		_, err := b.docker.ContainerPause(ctx, id, client.ContainerPauseOptions{})
		return err
	})
}

// Unpause lets the process go on.
func (b *box) Unpause(t testing.TB) {
	t.Helper()
	b.do(t, "unpausing", func(ctx context.Context, id string) error {
		_, err := b.docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
		return err
	})
}
