package cluster

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weftsync/weft/room/protocol"
)

// Sockets stay where the load balancer has put them, so that a node that was
// added later has few. Every node tells by gossip how many it has; one that has
// many more than the mean closes some, whose clients come back to any node.

const (
	// overMean is from which multiple of the mean on a node has too many sockets.
	overMean = 1.25
	// rebalanceShare is how much of its sockets a node closes a minute, at most; but
	// at least one.
	rebalanceShare = 0.01
	// rebalanceSettles is how long all nodes must have been the same before: those
	// that have just come get clients anyway, and counts may be on their way.
	rebalanceSettles = 10 * time.Second

	balanceTick = time.Second
	// tellEvery bounds how often the gossip is told of another count, tellShare from
	// which change on, as a share; or tellLeast sockets.
	tellEvery = 3 * time.Second
	tellShare = 0.02
	tellLeast = 10
)

// closeRebalance is told to sockets that had better be at another node.
var closeRebalance = protocol.Close{Code: protocol.CloseRestart.Code, Reason: "connect again, to a node with fewer sockets"}

// toMove says how many of a node's sockets to close within a minute, so that the
// others get their share. members are all nodes with what they tell, of which self,
// an incarnation, has sockets; settled is since when they are what they are. None
// are closed while a node comes or goes, or does not say how many it has, and
// never so many that fewer than the mean would be left.
func toMove(self string, sockets int64, members []member, settled time.Duration) int64 {
	sum, nodes := sockets, int64(1)
	for _, m := range newestOf(members) {
		if m.state != memberReady || m.sockets < 0 {
			return 0
		}
		if m.incarnation != self {
			sum += m.sockets
			nodes++
		}
	}
	mean := float64(sum) / float64(nodes)
	if settled < rebalanceSettles || float64(sockets) <= overMean*mean {
		return 0
	}
	most := max(1, int64(rebalanceShare*float64(sockets)))
	return min(most, sockets-int64(math.Ceil(mean)))
}

// balancer tells how many sockets a node has, and closes those that are too many.
type balancer struct {
	self    string // incarnation
	move    bool   // or it only tells
	sockets func() int64
	members func() []member
	tell    func(sockets int64) error // the gossip
	close   func(n int)               // so many sockets, chosen at random

	told     int64
	toldAt   time.Time
	known    []string // the nodes, with their states
	since    time.Time
	due      float64 // sockets
	lastTick time.Time
}

func newBalancer(i *incarnation) *balancer {
	return &balancer{
		self: i.id, move: i.config.Rebalance, sockets: i.edge.count.Load, members: i.gossip.members,
		tell: i.gossip.setSockets, close: i.edge.closeSome,
	}
}

// run does so until the context ends.
func (b *balancer) run(ctx context.Context) {
	b.lastTick, b.since = time.Now(), time.Now()
	tick := time.NewTicker(balanceTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sockets := b.sockets()
		b.announce(sockets)
		if b.move {
			b.rebalance(sockets)
		}
	}
}

// announce tells the others if the number is notably another.
func (b *balancer) announce(sockets int64) {
	change := math.Abs(float64(sockets - b.told))
	if change == 0 || time.Since(b.toldAt) < tellEvery ||
		change < max(tellLeast, tellShare*float64(b.told)) && b.told >= tellLeast && sockets > 0 {
		return
	}
	b.toldAt = time.Now()
	if b.tell(sockets) == nil { // else the next exchange of everything tells it, or this again
		b.told = sockets
	}
}

// rebalance closes what is due by now.
func (b *balancer) rebalance(sockets int64) {
	now := time.Now()
	elapsed := min(now.Sub(b.lastTick), 2*balanceTick) // what a pause has missed is not made up for
	b.lastTick = now
	members := b.members()
	var known []string
	for _, m := range members {
		known = append(known, fmt.Sprint(m.incarnation, " ", m.state))
	}
	slices.SortFunc(known, cmp.Compare[string])
	if !slices.Equal(known, b.known) {
		b.known, b.since = known, now
	}
	move := toMove(b.self, sockets, members, now.Sub(b.since))
	if move == 0 {
		b.due = 0
		return
	}
	b.due += float64(move) * elapsed.Minutes()
	if n := int(b.due); n > 0 {
		b.due -= float64(n)
		b.close(n)
	}
}

// closeSome closes up to n sockets, chosen at random.
func (e *edge) closeSome(n int) {
	total := int(e.count.Load())
	chosen := make([]int, 0, n)
	for range min(n, total) {
		chosen = append(chosen, rand.IntN(total))
	}
	slices.Sort(chosen)
	chosen = slices.Compact(chosen)
	at := 0 // of the sockets counted so far
	for k := range e.partitions {
		p := &e.partitions[k]
		p.mu.Lock()
		for _, r := range p.rooms {
			first := at
			at += len(r.seats)
			var seats []*seat
			for len(chosen) > 0 && chosen[0] < at {
				seats = append(seats, r.seats[chosen[0]-first])
				chosen = chosen[1:]
			}
			for _, s := range seats {
				if s.joined {
					e.closeSeatLocked(s, closeRebalance)
					e.inc.stats.rebalanced.Add(1)
				}
			}
		}
		p.mu.Unlock()
		if len(chosen) == 0 {
			return
		}
	}
}
