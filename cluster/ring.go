package cluster

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
)

// partitions is how many parts the rooms are divided into. A part is what is
// owned, logged and handed over. It is prime, and of no use but with every node
// of a cluster having the same: see ringParameters.
const partitions = 271

const (
	ringReplication = 100  // points of a member on the ring
	ringLoad        = 1.25 // most a member owns, as a multiple of the average
	ringHash        = "xxhash64"
	ringLibrary     = "buraksezer/consistent v1.0.0" // v0.10 places members elsewhere
	schemaVersion   = 1                              // of the keys in Redis and of what is in them
)

// ringParameters are the names and values of all that nodes must agree on
// before they may share rooms. They stand in Redis; a node that has others must
// not take part.
func ringParameters() map[string]string {
	return map[string]string{
		"partitions":  strconv.Itoa(partitions),
		"replication": strconv.Itoa(ringReplication),
		"load":        strconv.FormatFloat(ringLoad, 'f', -1, 64),
		"hash":        ringHash,
		"ring":        ringLibrary,
		"schema":      strconv.Itoa(schemaVersion),
	}
}

// partitionOf is the partition of a room, from 0 to partitions-1.
func partitionOf(room string) int { return int(xxhash.Sum64String(room) % partitions) }

// ring says which member should own which partition; Redis says which does. It
// depends on the set of members alone, so nodes that know the same members say
// the same. Members are node names and not incarnations: a node that is
// restarted in place is to get what it had. Names may as well all change, as those
// of a Deployment's pods do. See newestOf for the way from a name to an incarnation.
//
// A ring does not change, and any goroutine may ask it.
type ring struct {
	owners [partitions]string
}

// newRing makes the ring of some members, in any order; one named twice counts
// once. Without members nobody owns anything.
func newRing(members []string) *ring {
	members = slices.Clone(members)
	slices.Sort(members)
	members = slices.Compact(members)
	r := &ring{}
	if len(members) == 0 {
		return r
	}
	owners, err := distribute(members, ringLoad)
	if err != nil {
		// Cannot be with this load and hashes that differ. All nodes have the
		// same members and meet the same error, so let them agree on this.
		for p := range r.owners {
			r.owners[p] = members[p%len(members)]
		}
		return r
	}
	r.owners = owners
	return r
}

// distribute asks the library for the owner of every partition. The library
// panics if the members, with that load, have no room for all partitions.
func distribute(members []string, load float64) (owners [partitions]string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("placing %d partitions on %d members: %v", partitions, len(members), p)
		}
	}()
	named := make([]consistent.Member, len(members))
	for i, m := range members {
		named[i] = ringMember(m)
	}
	c := consistent.New(named, ringConfig(load))
	for p := range owners {
		owners[p] = c.GetPartitionOwner(p).String()
	}
	return owners, nil
}

func ringConfig(load float64) consistent.Config {
	return consistent.Config{
		Hasher:            ringHasher{},
		PartitionCount:    partitions,
		ReplicationFactor: ringReplication,
		Load:              load,
	}
}

type ringMember string

func (m ringMember) String() string { return string(m) }

type ringHasher struct{}

func (ringHasher) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }

// owner is the member that should own a partition, "" if there is none.
func (r *ring) owner(partition int) string {
	if partition < 0 || partition >= partitions {
		return ""
	}
	return r.owners[partition]
}

// of lists the partitions that a member should own, ascending.
func (r *ring) of(member string) []int {
	if member == "" {
		return nil
	}
	var ps []int
	for p, owner := range r.owners {
		if owner == member {
			ps = append(ps, p)
		}
	}
	return ps
}
