package docker

import (
	"fmt"
	"testing"
)

// TestRollingRestartIsAReconnectForEverybody: three nodes and Redis behind the load balancer; each node
// is stopped and started in turn while people draw.
func TestRollingRestartIsAReconnectForEverybody(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	redis := startRedisOn(t, network, "redis")
	var nodes []*weftServer
	for i := range 3 {
		nodes = append(nodes, startNode(t, fmt.Sprintf("weft-%d", i+1), redis))
	}
	restartUnderClients(t, startHAProxy(t, network, nodes...), 1, nodes...)
}

// startNode runs a node of the cluster that has this Redis, on its network.
func startNode(t testing.TB, name string, redis *redisServer, env ...string) *weftServer {
	t.Helper()
	return startWeft(t, name, redis.network, append(nodeSettings(name, redis), env...)...)
}

func nodeSettings(name string, redis *redisServer) []string {
	return []string{
		"WEFT_REDIS_URL=" + redis.URLInside(),
		"WEFT_GOSSIP_LISTEN=:7946",
		"WEFT_JOIN=" + weftAlias + ":7946",
		"WEFT_NODE_NAME=" + name,
	}
}
