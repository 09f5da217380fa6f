package docker

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const redisPort = 6379

// redisServer is a Redis in a container.
type redisServer struct {
	*box
	client *redis.Client
}

// startRedis runs a Redis that keeps an append-only file, which is still there after Kill and
// Restart. It has a network of its own (redisServer.network), on which its name is "redis". args are
// options of redis-server, above the usual ones, such as "--appendfsync", "always".
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	return startRedisOn(t, newNetwork(t), "redis", args...)
}

// startReplica runs a replica of another Redis, on its network, and waits until it has caught up.
func startReplica(t testing.TB, of *redisServer, args ...string) *redisServer {
	t.Helper()
	r := startRedisOn(t, of.network, of.name+"-replica", append([]string{"--replicaof", of.name, "6379"}, args...)...)
	waitFor(t, "the replica to catch up", func() bool {
		up, err := r.client.InfoMap(t.Context(), "replication").Result()
		return err == nil && up["Replication"]["master_link_status"] == "up"
	})
	return r
}

func startRedisOn(t testing.TB, network *testcontainers.DockerNetwork, name string, args ...string) *redisServer {
	t.Helper()
	b := start(t, plan{
		name:    name,
		network: network,
		image:   needImage(t, redisImage),
		// It has no password, and listens on the test's network and this machine's loopback alone.
		cmd:   append([]string{"redis-server", "--protected-mode", "no", "--appendonly", "yes", "--save", ""}, args...),
		ports: []int{redisPort},
		ready: wait.ForLog("Ready to accept connections"),
	})
	r := &redisServer{box: b}
	r.client = redis.NewClient(&redis.Options{Addr: b.addr(redisPort), DialTimeout: time.Second, ReadTimeout: 5 * time.Second})
	t.Cleanup(func() { r.client.Close() })
	r.awaitReady(t)
	return r
}

// URL is where this machine reaches it, the same for as long as the test runs.
func (r *redisServer) URL() string { return "redis://" + r.addr(redisPort) }

// URLInside is where containers on its network reach it.
func (r *redisServer) URLInside() string { return "redis://" + r.name + ":6379" }

// Client is a client of this Redis, which is closed when the test ends.
func (r *redisServer) Client() *redis.Client { return r.client }

// Restart starts it after Kill or Stop, and waits until it has read its file and answers.
func (r *redisServer) Restart(t testing.TB) {
	t.Helper()
	r.Start(t)
	r.awaitReady(t)
}

// Promote makes a replica a master of its own.
func (r *redisServer) Promote(t testing.TB) {
	t.Helper()
	if err := r.client.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatalf("promoting %s: %v", r.name, err)
	}
}

func (r *redisServer) awaitReady(t testing.TB) {
	t.Helper()
	waitFor(t, r.name+" to answer", func() bool { return r.client.Ping(t.Context()).Err() == nil })
}

func TestRedisKeepsItsDataOverKillAndRestart(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "--appendfsync", "always")
	if err := r.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	url := r.URL()
	r.Kill(t)
	if err := r.Client().Ping(t.Context()).Err(); err == nil {
		t.Fatal("it answers although it was killed")
	}
	r.Restart(t)
	if got, err := r.Client().Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Errorf("after the restart: %q, %v", got, err)
	}
	if r.URL() != url {
		t.Errorf("the URL was %s and is %s", url, r.URL())
	}
}

func TestRedisThatIsPausedIsSilentAndGoesOn(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	r.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.Client().Ping(ctx).Err(); err == nil {
		t.Error("it answers although it is paused")
	}
	r.Unpause(t)
	r.awaitReady(t)
}

func TestReplicaTakesOver(t *testing.T) {
	t.Parallel()
	master := startRedis(t)
	replica := startReplica(t, master)
	if err := master.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := master.Client().Wait(t.Context(), 1, patience).Result(); err != nil || n != 1 {
		t.Fatalf("%d replicas have it: %v", n, err)
	}
	master.Kill(t)
	replica.Promote(t)
	if err := replica.Client().Append(t.Context(), "k", "w").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := replica.Client().Get(t.Context(), "k").Result(); err != nil || got != "vw" {
		t.Errorf("the replica has %q, %v", got, err)
	}
}
