package docker

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// A crowd of published clients that edit without pause while nodes come and go; see clients/crowd.mjs.
const (
	crowdClients = 200
	crowdRooms   = 40
)

// What people may notice of a restart, by the published client's own word for being online.
const longestOffline = 3 * time.Second

type crowd struct{ *clients }

// crowdStats is what a crowd has noticed since it was last told to forget.
type crowdStats struct {
	Clients    int
	Reconnects int
	PerClient  float64
	Longest    float64 // milliseconds
	P99        float64
	Acks       int
	Resyncs    int // how often a room knew less than one of its clients
}

// gather brings 200 people to b, who are all online and editing when it returns. Those who come anew at
// the end look at the nodes in visits.
func gather(t *testing.T, b *balancer, visits ...*weftServer) *crowd {
	t.Helper()
	nodes := b.URL()
	for i, n := range visits {
		if i == 0 {
			nodes = n.URL()
		} else {
			nodes += "," + n.URL()
		}
	}
	c := &crowd{startClients(t, 10*time.Minute, "clients/crowd.mjs", "WEFT_URL="+b.URL(), "WEFT_NODES="+nodes,
		fmt.Sprint("CROWD_CLIENTS=", crowdClients), fmt.Sprint("CROWD_ROOMS=", crowdRooms))}
	c.say(t, "mark")
	c.say(t, "reset")
	return c
}

// goesOn waits until all are online and have more edits acknowledged, and says what they noticed.
func (c *crowd) goesOn(t *testing.T) (s crowdStats) {
	t.Helper()
	c.say(t, "mark")
	c.stats(t, &s)
	t.Logf("%.2f reconnects a client, offline for %.0f ms at most, p99 %.0f ms; %d edits acknowledged", s.PerClient, s.Longest, s.P99, s.Acks)
	if s.Resyncs > 0 {
		t.Errorf("%d times a room knew less than one of its clients", s.Resyncs)
	}
	if s.Longest > float64(longestOffline.Milliseconds()) {
		t.Errorf("somebody was offline for %.0f ms, want at most %v", s.Longest, longestOffline)
	}
	return s
}

// leaves checks that all agree and that every edit is there.
func (c *crowd) leaves(t *testing.T) {
	t.Helper()
	c.say(t, "end")
	c.end(t)
}

// oneAtATime is how often a client reconnects, in the mean, when n nodes with as many clients each are
// restarted one after the other, and the clients of each spread over the rest.
func oneAtATime(n int) float64 {
	share := make([]float64, n)
	for i := range share {
		share[i] = 1 / float64(n)
	}
	var moved float64
	for i := range share {
		for j := range share {
			if j != i {
				share[j] += share[i] / float64(n-1)
			}
		}
		moved += share[i]
		share[i] = 0
	}
	return moved
}

func startNodes(t *testing.T, redis *redisServer, first, last int) []*weftServer {
	t.Helper()
	var nodes []*weftServer
	for i := first; i <= last; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprintf("weft-%d", i), redis))
	}
	return nodes
}

// TestCrowdBearsARollingRestartOneAtATime: three nodes behind the balancer, stopped and started in turn.
// It has the machine to itself: what is measured is how long people were offline.
func TestCrowdBearsARollingRestartOneAtATime(t *testing.T) {
	network := newNetwork(t)
	nodes := startNodes(t, startRedisOn(t, network, "redis"), 1, 3)
	b := startHAProxy(t, network, nodes...)
	people := gather(t, b, nodes...)
	for _, n := range nodes {
		if code := n.Stop(t); code != 0 {
			t.Errorf("%s ended with %d", n.name, code)
		}
		people.say(t, "mark") // all are elsewhere before the next one goes
		n.Restart(t)
		b.awaitNodes(t, len(nodes))
	}
	s := people.goesOn(t)
	if want := oneAtATime(len(nodes)); s.PerClient < 0.8*want || s.PerClient > 1.2*want {
		t.Errorf("%.2f reconnects a client; one after the other makes %.2f", s.PerClient, want)
	}
	people.leaves(t)
}

// TestCrowdBearsARestartWithSurge: as a Deployment does it that may have twice its pods for a while: new
// nodes under new names come first, and then all the old ones end at once. Everybody reconnects once.
func TestCrowdBearsARestartWithSurge(t *testing.T) {
	network := newNetwork(t)
	redis := startRedisOn(t, network, "redis")
	old := startNodes(t, redis, 1, 3)
	b := startHAProxyFor(t, network, "weft-1", "weft-2", "weft-3", "weft-4", "weft-5", "weft-6")
	b.awaitNodes(t, 3)
	people := gather(t, b)
	fresh := startNodes(t, redis, 4, 6)
	b.awaitNodes(t, 6)
	var ends sync.WaitGroup
	for _, n := range old {
		ends.Go(func() {
			n.Terminate(t)
			if code := n.exitCode(t); code != 0 {
				t.Errorf("%s ended with %d", n.name, code)
			}
		})
	}
	ends.Wait()
	s := people.goesOn(t)
	if s.PerClient < 1 || s.PerClient > 1.3 {
		t.Errorf("%.2f reconnects a client, want one", s.PerClient)
	}
	b.awaitNodes(t, len(fresh))
	people.leaves(t)
}
