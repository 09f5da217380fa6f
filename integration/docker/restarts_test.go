package docker

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// restartUnderClients has people draw through the balancer while the nodes are stopped and started, one
// after the other. Nobody may notice anything but that the socket was closed, with 1012.
func restartUnderClients(t *testing.T, b *balancer, rounds int, nodes ...*weftServer) {
	t.Helper()
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL())
	}
	restarts := rounds * len(nodes)
	people := startClients(t, 5*time.Minute, "clients/restarts.mjs",
		"WEFT_URL="+b.URL(), "WEFT_NODES="+strings.Join(urls, ","), fmt.Sprint("WEFT_CLOSES=", restarts))
	for range rounds {
		for _, n := range nodes {
			people.say(t, "mark")
			begin := time.Now()
			if code := n.Stop(t); code != 0 {
				t.Errorf("%s ended with %d after docker stop", n.name, code)
			}
			t.Logf("%s was gone %v after docker stop", n.name, time.Since(begin).Round(time.Millisecond))
			n.Restart(t)
			b.awaitNodes(t, len(nodes))
		}
	}
	people.say(t, "mark")
	people.say(t, "end")
	people.end(t)
}

func TestRestartOfTheOnlyNodeIsAReconnectForEverybody(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	node := startWeft(t, "weft-1", network)
	restartUnderClients(t, startHAProxy(t, network, node), 2, node)
}
