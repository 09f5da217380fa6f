package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/store"
)

// sharedRedis is where Redis is, for the tests that hold three nodes, which share their rooms by it, to
// what one is held to; empty if it is one. The tests in docker/ run them so.
var sharedRedis = os.Getenv("WEFT_TEST_REDIS")

// nodes are what clients take for one server: a Weft with its own data folder, or three that share
// their rooms. Other such nodes can follow them over the same data.
type nodes struct {
	all []*server
	// data is the data folder, or what the names of all keys in Redis begin with.
	data string
	next atomic.Int64
}

// newData makes room for the data of nodes.
func newData(t testing.TB) string {
	t.Helper()
	if sharedRedis == "" {
		return t.TempDir()
	}
	return "weft-test-" + rand.Text() + ":"
}

// startNodes runs nodes over data, with short saves. args follow the usual flags, so they can say them
// again with other values.
func startNodes(t testing.TB, data string, args ...string) *nodes {
	t.Helper()
	if sharedRedis == "" {
		return &nodes{all: []*server{startWeft(t, data, args...)}, data: data}
	}
	n := &nodes{data: data}
	var gossip []string
	for range 3 {
		gossip = append(gossip, freeAddr(t))
	}
	for i := range gossip {
		n.all = append(n.all, launchWeftIn(t, append([]string{
			"--redis-url", sharedRedis,
			"--redis-prefix", data,
			"--node-name", "node-" + strconv.Itoa(i+1),
			"--gossip-listen", gossip[i],
			"--peer-listen", "127.0.0.1:0",
			"--join", strings.Join(gossip, ","),
		}, args...)...))
	}
	for _, s := range n.all {
		awaitReady(t, s)
	}
	// The first one may have taken all partitions of rooms before it found the others.
	waitFor(t, "every node to own its part", func() bool {
		sum := 0.0
		for _, s := range n.all {
			owned := s.metric(t, "weft_cluster_owned_partitions")
			if owned < partitions/float64(2*len(n.all)) {
				return false
			}
			sum += owned
		}
		return sum == partitions
	})
	return n
}

// partitions is how many parts the rooms fall into, each of which has an owner.
const partitions = 271

// endpoint is what clients connect to: a server, or nodes.
type endpoint interface {
	url(room, client, token string) string
}

// url is where a client of this room connects: every time at another node.
func (n *nodes) url(room, client, token string) string {
	i := int(n.next.Add(1)) % len(n.all)
	return n.all[i].url(room, client, token)
}

func (n *nodes) name() string { return n.all[0].name }

// metric sums a metric's samples over all nodes and labels.
func (n *nodes) metric(t testing.TB, name string) float64 {
	t.Helper()
	var sum float64
	for _, s := range n.all {
		sum += s.metric(t, name)
	}
	return sum
}

// stop ends the nodes, one after the other.
func (n *nodes) stop(t testing.TB) {
	t.Helper()
	for _, s := range n.all {
		s.stop(t)
		if code := s.exitCode(t); code != 0 {
			t.Errorf("%s ended with %d", s.name, code)
		}
	}
}

// saved is the room as it is saved, in the form of the published server's data file; nil if it is not.
func (n *nodes) saved(t testing.TB, room string) []byte {
	t.Helper()
	if sharedRedis == "" || n.name() != "weft" {
		return roomFile(t, n.data, room)
	}
	options, err := redis.ParseURL(sharedRedis)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	partition := int(xxhash.Sum64String(room) % partitions)
	c, _, err := store.NewRedis(store.RedisConfig{Client: client, Prefix: n.data}).Load(ctx, partition, room)
	if err != nil {
		t.Fatalf("room %s in Redis: %v", room, err)
	}
	if c == nil {
		return nil
	}
	var text bytes.Buffer
	if _, err := c.Snapshot.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}
