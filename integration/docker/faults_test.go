package docker

import (
	"os"
	"testing"
)

// TestFaults breaks a cluster of three nodes in every way that it must bear, while clients edit. In short
// each fault lasts some seconds, and the clients are few; with WEFT_CHAOS=long it is the full load for as
// long as it takes, one fault after the other, and a table at the end. What must hold of documents and
// order holds in both, limits on times in a long run.
func TestFaults(t *testing.T) {
	r := &report{}
	t.Run("all", func(t *testing.T) {
		for _, fault := range []struct {
			name string
			run  func(t *testing.T, r *report)
		}{
			{"nodes killed", faultKill},
			{"owner and edge killed together", faultKillTwo},
			{"rolling restart", faultRollingRestart},
			{"node stopped and continued", faultStop},
			{"redis killed", faultRedisKilled},
			{"redis away", faultRedisAway},
			{"redis replaced by a replica", faultReplica},
			{"redis full", faultRedisFull},
			{"cut off from redis", faultCutFromRedis},
			{"cut off from the gossip", faultCutFromGossip},
			{"replies to appends lost", faultLostReplies},
			{"nodes join and leave", faultJoinAndLeave},
			{"owner stalled", faultStalled},
		} {
			t.Run(fault.name, func(t *testing.T) {
				if !chaos(t) {
					t.Parallel()
				}
				fault.run(t, r)
			})
		}
	})
	r.print(os.Stdout)
}
