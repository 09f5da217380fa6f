package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/room"
)

// ready are nodes with so many sockets, called 0.1, 1.1 and so on.
func ready(sockets ...int64) (list []member) {
	for n, s := range sockets {
		list = append(list, member{name: fmt.Sprint(n), incarnation: fmt.Sprintf("%d.1", n), state: memberReady, sockets: s, boot: 1})
	}
	return list
}

func TestToMove(t *testing.T) {
	with := func(list []member, change func(*member)) []member {
		change(&list[len(list)-1])
		return list
	}
	long := time.Hour
	for _, c := range []struct {
		name    string
		sockets int64
		members []member
		settled time.Duration
		want    int64
	}{
		{"alone", 1000, ready(1000), long, 0},
		{"even", 1000, ready(1000, 1000, 1000), long, 0},
		{"a little more", 1240, ready(1240, 1000, 760), long, 0},
		{"too many", 1260, ready(1260, 1000, 740), long, 12},
		{"too few", 740, ready(740, 1000, 1260), long, 0},
		{"a new node", 3000, ready(3000, 3000, 3000, 0), long, 30},
		{"its own count is the newer one", 1260, ready(99, 1000, 740), long, 12},
		{"few, but too many", 30, ready(30, 0), long, 1},
		{"three", 3, ready(3, 0), long, 1},
		{"two", 2, ready(2, 0), long, 1},
		{"one cannot be shared", 1, ready(1, 0), long, 0},
		{"not below the mean", 4, ready(4, 3, 1, 1), long, 1},
		{"nobody has any", 0, ready(0, 0), long, 0},
		{"a node has just come", 3000, ready(3000, 0), 9 * time.Second, 0},
		{"a node drains", 3000, with(ready(3000, 0, 0), func(m *member) { m.state = memberDraining }), long, 0},
		{"a node joins", 3000, with(ready(3000, 0, 0), func(m *member) { m.state = memberJoining }), long, 0},
		{"a node does not tell", 3000, with(ready(3000, 0, 0), func(m *member) { m.sockets = -1 }), long, 0},
		{"an old life does not count", 1500, with(ready(1500, 1500, 9999), func(m *member) { m.name, m.boot = "1", 0 }), long, 0},
	} {
		if got := toMove("0.1", c.sockets, c.members, c.settled); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Of three nodes with a third each, and one that is new, the three give away what
// the fourth should have, slowly, and stop then.
func TestRebalancing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		now := []int64{4000, 4000, 4000, 0} // the sockets
		told := []int64{0, 0, 0, 0}         // by gossip
		tells := 0
		most := 0 // closed by a node within a second
		closed, minute := 0, 0
		var all []*balancer
		for n := range now {
			all = append(all, &balancer{
				self: fmt.Sprintf("%d.1", n), move: true,
				sockets: func() int64 { return now[n] },
				members: func() []member { return ready(told...) },
				tell: func(sockets int64) error {
					if tells++; tells%10 == 0 {
						return errors.New("nobody heard it")
					}
					told[n] = sockets
					return nil
				},
				close: func(k int) {
					now[n] -= int64(k)
					now[3] += int64(k) // the load balancer prefers who has few
					most = max(most, k)
					closed += k
				},
			})
		}
		// The nodes take turns, so that they need no locks.
		for _, b := range all {
			b.lastTick, b.since = time.Now(), time.Now()
		}
		turn := func() {
			time.Sleep(balanceTick)
			for n, b := range all {
				b.announce(now[n])
				b.rebalance(now[n])
			}
		}
		for range 10 {
			turn()
		}
		if closed > 0 {
			t.Errorf("%d sockets were closed before the nodes had settled", closed)
		}
		for range 60 {
			turn()
		}
		if minute = closed; minute < 100 || minute > 3*40 {
			t.Errorf("%d sockets were closed in a minute, of 12000 on three nodes", minute)
		}
		for range 60 * 60 {
			turn()
		}
		for n, have := range now {
			if have > 3800 || n < 3 && have < 3000 {
				t.Errorf("node %d has %d sockets in the end", n, have)
			}
		}
		before := closed
		for range 10 * 60 {
			turn()
		}
		if closed != before || most > 1 {
			t.Errorf("it goes on closing, %d more; %d in a second", closed-before, most)
		}

		// The loop does the same, and ends.
		all[0].sockets = func() int64 { return 50_000 }
		ended := make(chan struct{})
		go func() { defer close(ended); all[0].run(ctx) }()
		time.Sleep(2 * time.Minute)
		cancel()
		<-ended
		if closed == before || told[0] != 50_000 {
			t.Errorf("the loop told %d and closed %d", told[0], closed-before)
		}
	})
}

// Small changes are not worth telling, and nothing is told often.
func TestSocketsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int64
		b := &balancer{tell: func(n int64) error { got = append(got, n); return nil }}
		for _, n := range []int64{0, 1, 2, 1000, 1015, 1030, 1031, 0, 0} {
			b.announce(n)
			time.Sleep(tellEvery)
		}
		b.announce(500)
		b.announce(900) // too soon
		if want := fmt.Sprint([]int64{1, 2, 1000, 1030, 0, 500}); fmt.Sprint(got) != want {
			t.Errorf("told %v, want %v", got, want)
		}
	})
}

// Members hear how many sockets others have, and nobody is woken for that alone.
func TestMembersTellTheirSockets(t *testing.T) {
	noLeaks(t)
	a := gossipNode(t, membershipConfig{incarnation: "a.1"})
	b := gossipNode(t, membershipConfig{incarnation: "b.1", join: []string{a.address().String()}})
	awaitMembers(t, a, "a.1 joining", "b.1 joining")
	awaitMembers(t, b, "a.1 joining", "b.1 joining")
	for len(b.changed()) > 0 {
		<-b.changed()
	}
	if err := a.setSockets(4711); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(15 * time.Second); b.members()[0].sockets != 4711; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("b knows %+v", b.members())
		}
	}
	if len(b.changed()) > 0 {
		t.Error("b was woken")
	}
	if err := a.setState(memberReady); err != nil {
		t.Fatal(err)
	}
	awaitMembers(t, b, "a.1 ready", "b.1 joining")
	if got := b.members()[0].sockets; got != 4711 {
		t.Errorf("with another state a has %d sockets", got)
	}
}

func TestSomeSocketsClose(t *testing.T) {
	i := offline(t)
	ears := map[*ear]bool{}
	for n := range 200 {
		e := &ear{}
		s, err := i.edge.admit(fmt.Sprint("room", n%70), room.ConnectOptions{Client: "c", Socket: e})
		if err != nil {
			t.Fatal(err)
		}
		s.enterLocked()
		ears[e] = true
	}
	for want := 200; want > 0; {
		i.edge.closeSome(20)
		got := 0
		for e := range ears {
			if len(e.heard()) == 0 {
				got++
			} else if e.heard()[0] != "closed: "+closeRebalance.Reason {
				t.Fatalf("a socket heard %q", e.heard())
			}
		}
		if closed := want - got; closed > 20 || closed < 1 || int(i.edge.count.Load()) != got || int(i.stats.rebalanced.Load()) != 200-got {
			t.Fatalf("of %d sockets, 20 of which were to close, %d are left, counted as %d", want, got, i.edge.count.Load())
		}
		want = got
	}
	i.edge.closeSome(5)
}
