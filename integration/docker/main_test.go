package docker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// patience bounds every single wait of these tests. It is long because the machine may be busy; no
// test waits this long unless it fails.
const patience = 30 * time.Second

// started counts containers. A run of all tests without any has shown nothing, and fails.
var started atomic.Int64

func TestMain(m *testing.M) {
	flag.Parse()
	// What testcontainers would tidy up by an image from a registry, this package does itself.
	setDefault("TESTCONTAINERS_RYUK_DISABLED", "true")
	// Where this process itself looks like a container, testcontainers would look for the ports elsewhere.
	setDefault("TESTCONTAINERS_HOST_OVERRIDE", loopback)
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 && started.Load() == 0 && !flagSet("test.run") && !flagSet("test.list") {
		fmt.Fprintln(os.Stderr, "no test has started a container: nothing is shown")
		code = 1
	}
	cleanBuilt()
	os.Exit(code)
}

func flagSet(name string) bool { return flag.Lookup(name).Value.String() != "" }

func setDefault(name, value string) {
	if os.Getenv(name) == "" {
		os.Setenv(name, value)
	}
}

// daemon is the connection to the Docker daemon.
var daemon = sync.OnceValues(func() (*client.Client, error) {
	c, err := testcontainers.NewDockerClientWithOpts(context.Background())
	if err != nil {
		return nil, fmt.Errorf("no Docker daemon answers (%w): run `make test-docker`, which starts one, or install it: sudo apt-get install docker.io", err)
	}
	return c.Client, nil
})

func needDaemon(t testing.TB) *client.Client {
	t.Helper()
	c, err := daemon()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ownerLabel is on everything that these tests make. Its value names the process that made it, so that
// a later one can tell what is left of a run that was killed.
const ownerLabel = "weft-test.owner"

// owner is this machine, its space of process ids, this process, and when it started: ids come again.
var owner = sync.OnceValue(func() string {
	return machine() + "/" + processStart("self")
})

func machine() string {
	host, _ := os.Hostname()
	pids, _ := os.Readlink("/proc/self/ns/pid")
	return host + "/" + pids
}

// processStart is a process's id and start as "id.start", empty if there is no such process.
func processStart(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	id, rest, _ := strings.Cut(string(stat), " ")
	// The program's name, in brackets, may hold anything. The start is field 22.
	fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
	return id + "." + fields[19]
}

// gone says of an owner's label that its process was on this machine and is no more.
func gone(label string) bool {
	process, ok := strings.CutPrefix(label, machine()+"/")
	if !ok {
		return false // another machine's, which only that can tell
	}
	pid, _, _ := strings.Cut(process, ".")
	return processStart(pid) != process
}

// sweep removes the containers, with their volumes, and the networks of runs that were killed.
func sweep() error {
	docker, err := daemon()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ours := make(client.Filters).Add("label", ownerLabel)
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: ours})
	if err != nil {
		return fmt.Errorf("listing containers: %w", err)
	}
	var errs []error
	for _, c := range containers.Items {
		if gone(c.Labels[ownerLabel]) {
			_, err := docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			errs = append(errs, err)
		}
	}
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: ours})
	if err != nil {
		return fmt.Errorf("listing networks: %w", err)
	}
	for _, n := range networks.Items {
		if gone(n.Labels[ownerLabel]) {
			_, err := docker.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func TestGoneTellsLivingOwnersFromDeadOnes(t *testing.T) {
	if gone(owner()) {
		t.Errorf("this process, %s, is taken for gone", owner())
	}
	parent := processStart(fmt.Sprint(os.Getppid()))
	if parent == "" || gone(machine()+"/"+parent) {
		t.Errorf("the parent, %s, is taken for gone", parent)
	}
	if !gone(machine() + "/" + parent + "1") {
		t.Error("a process that had the parent's id before is taken for alive")
	}
	if gone("elsewhere/pid:[1]/1.1") {
		t.Error("another machine's process is taken for gone")
	}
}

// loopback is the only address at which containers are published.
const loopback = "127.0.0.1"

// Ports are taken from below those that the system gives to outgoing connections: while a container
// is down, nobody else must get its port.
const (
	firstPort = 20000
	lastPort  = 32000
)

var nextPort atomic.Int64

// freePort finds a loopback port that nobody listens on, and which this process has not handed out.
func freePort(t testing.TB) int {
	t.Helper()
	nextPort.CompareAndSwap(0, firstPort+int64(os.Getpid()*7919%(lastPort-firstPort)))
	for range 200 {
		port := int(nextPort.Add(1))
		if port > lastPort {
			nextPort.Store(firstPort)
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("no free port below %d", lastPort)
	return 0
}

// waitFor polls until the condition holds, and fails the test if it never does.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; !holds(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(pause)
	}
}
