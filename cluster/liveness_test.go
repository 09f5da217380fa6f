package cluster

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// looks lets a node look, every tenth of a second, at leases that begin at 0 and end as
// given, in ms.
type looks struct {
	l    *liveness
	from time.Time
	at   time.Duration
}

func newLooks(t *testing.T) *looks {
	i := offline(t)
	return &looks{l: i.liveness, from: time.Now()}
}

func (x *looks) look(all, forgot bool, scores map[string]float64) {
	x.at += 100 * time.Millisecond
	now := x.from.Add(x.at)
	x.l.judge(looked{all: all, forgot: forgot, scores: scores, now: float64(x.at.Milliseconds()), at: now}, now)
}

func TestALeaseThatIsMissingCountsAfterAMoment(t *testing.T) {
	for name, gone := range map[string]map[string]float64{"over": {"b.1": 150}, "not there": {}} {
		t.Run(name, func(t *testing.T) {
			x := newLooks(t)
			x.look(true, false, map[string]float64{"b.1": 150})
			all := name == "not there"
			for range 4 {
				x.look(all, false, gone)
				if x.l.dead("b.1") {
					t.Fatalf("dead at %v", x.at)
				}
			}
			x.look(all, false, gone)
			if !x.l.dead("b.1") {
				t.Fatalf("alive at %v", x.at)
			}
			x.look(true, false, map[string]float64{"b.1": 5000})
			if x.l.dead("b.1") {
				t.Error("dead, though it has a lease again")
			}
		})
	}
}

func TestALeaseThatIsRenewedInTimeCounts(t *testing.T) {
	x := newLooks(t)
	x.look(true, false, map[string]float64{"b.1": 150})
	for range 20 {
		x.look(false, false, map[string]float64{"b.1": 150})
		x.look(false, false, map[string]float64{"b.1": 150})
		x.look(false, false, nil)
		if x.l.dead("b.1") {
			t.Fatalf("dead at %v", x.at)
		}
	}
}

// Who knows nothing of a node must look at all leases, and soon.
func TestANodeThatNobodyKnowsIsLookedFor(t *testing.T) {
	x := newLooks(t)
	x.l.watch("b.1")
	if unsure, absent := x.l.suspects(); !unsure || !absent {
		t.Error("it is not looked for")
	}
	for range 5 {
		x.look(false, false, nil)
	}
	if x.l.dead("b.1") {
		t.Error("dead, though it is only not among the leases that are over")
	}
	for range 5 {
		x.look(true, false, nil)
	}
	if !x.l.dead("b.1") {
		t.Error("alive without a lease")
	}
	if unsure, absent := x.l.suspects(); unsure || absent {
		t.Error("it is still looked for")
	}
}

// If Redis has forgotten the lease of the node that looks, those of others say nothing
// for as long as these need to renew them.
func TestRedisThatForgotSaysNothing(t *testing.T) {
	for name, look := range map[string]func(x *looks){
		"its own lease":      func(x *looks) { x.look(true, true, nil) },
		"and was away":       func(x *looks) { x.at += 1100 * time.Millisecond; x.look(true, false, nil) },
		"and did not answer": func(x *looks) { x.l.blinded() },
	} {
		t.Run(name, func(t *testing.T) {
			x := newLooks(t)
			x.look(true, false, map[string]float64{"b.1": 150})
			look(x)
			from := x.at
			for x.at-from < 1900*time.Millisecond {
				x.look(true, false, nil)
				if x.l.dead("b.1") {
					t.Fatalf("dead after %v", x.at-from)
				}
			}
			for range 7 {
				x.look(true, false, nil)
			}
			if !x.l.dead("b.1") {
				t.Error("alive for ever")
			}
		})
	}
}

func TestATombstoneCountsAtOnce(t *testing.T) {
	x := newLooks(t)
	x.look(true, false, map[string]float64{"b.1": 5000})
	x.look(false, false, map[string]float64{"!b.1": 150})
	if !x.l.dead("b.1") || !x.l.buried("b.1") {
		t.Error("alive")
	}
}

// A look that was not judged, since the next came too soon, is made up for.
func TestNoLookAtAllLeasesGoesMissing(t *testing.T) {
	i := offline(t)
	now := time.Now()
	i.liveness.seen(looked{all: true, at: now})
	if _, absent := i.liveness.suspects(); absent {
		t.Error("once more, though it will be judged")
	}
	i.liveness.seen(looked{forgot: true, at: now})
	i.liveness.seen(looked{at: now})
	if _, absent := i.liveness.suspects(); !absent {
		t.Error("nobody looks again at all leases")
	}
	if s := <-i.liveness.looks; !s.forgot {
		t.Error("nobody hears that Redis has forgotten something")
	}
}

// renewing is a node that does nothing but renew its lease in a real Redis.
func renewing(t testing.TB, addr, id string, config *Config) *incarnation {
	client := newClient(&redis.UniversalOptions{Addrs: []string{addr}}, clientControl)
	t.Cleanup(func() { client.Close() })
	i := &incarnation{id: id, config: config, keys: keys{config.Prefix}, log: config.Logger, stats: &stats{}, start: time.Now(), control: client}
	i.ended = make(chan error, 1)
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.trouble = &trouble{log: i.log}
	i.lease, i.liveness, i.deaths = newLease(i), newLiveness(i), &deathWatch{}
	i.ownership = newOwnership(i)
	return i
}

func TestLeasesInRedis(t *testing.T) {
	r := startForgetfulRedis(t)
	config, err := Config{Redis: &redis.UniversalOptions{}, NodeName: "test"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	a, b := renewing(t, r.addr, "a.1", &config), renewing(t, r.addr, "b.1", &config)
	renew := func(i *incarnation) looked {
		t.Helper()
		if err := i.lease.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		return <-i.liveness.looks
	}
	if s := renew(a); !s.all || s.forgot || !a.lease.valid() {
		t.Errorf("the first look: %+v", s)
	}
	if s := renew(b); s.scores["a.1"] < s.now+1000 {
		t.Errorf("b sees %+v", s)
	}
	before := r.ZScore(t.Context(), "weft:leases", "a.1").Val()
	eventually(t, "the lease to end later", func() bool {
		renew(a)
		return r.ZScore(t.Context(), "weft:leases", "a.1").Val() > before
	})
	// Redis goes back to before a's last renewals.
	if err := r.ZAdd(t.Context(), "weft:leases", redis.Z{Score: before - 1, Member: "a.1"}).Err(); err != nil {
		t.Fatal(err)
	}
	if s := renew(a); !s.forgot {
		t.Errorf("a does not notice that Redis has gone back: %+v", s)
	}
	if s := renew(a); s.forgot {
		t.Errorf("a goes on to think that Redis has gone back: %+v", s)
	}
	// A node that lives is not taken for dead unless that is proved.
	if is, err := a.entomb(t.Context(), "b.1", false); is || err != nil {
		t.Errorf("b, which lives: %v, %v", is, err)
	}
	if is, err := a.entomb(t.Context(), "b.1", true); !is || err != nil {
		t.Errorf("b, which is dead: %v, %v", is, err)
	}
	if s := renew(a); s.scores["!b.1"] == 0 {
		t.Errorf("a sees no tombstone: %+v", s)
	}
	if err := b.lease.renew(t.Context()); err == nil {
		t.Error("b renews a lease although it was taken for dead")
	}
	// A full Redis takes leases.
	if err := r.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		renew(a)
	}
	if err := r.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	// So many dead are remembered, and no more.
	for n := range maxTombstones + 20 {
		if _, err := a.entomb(t.Context(), fmt.Sprint("x.", n), true); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.ZCard(t.Context(), "weft:leases").Val(); n > maxTombstones+2 {
		t.Errorf("%d leases and tombstones", n)
	}
	if r.ZScore(t.Context(), "weft:leases", fmt.Sprint("!x.", maxTombstones+19)).Val() == 0 {
		t.Error("the last tombstone is not there")
	}
	if s := renew(a); s.forgot {
		t.Error("a's lease went with the tombstones")
	}
}

// BenchmarkLeases says what a hundred nodes that do nothing cost Redis, as a share of one
// core, and beside it what as many commands cost that do nothing and do not come together.
func BenchmarkLeases(b *testing.B) {
	const nodes = 100
	r := startForgetfulRedis(b)
	config, err := Config{Redis: &redis.UniversalOptions{}, NodeName: "test"}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	ping := func(ctx context.Context, n int, i *incarnation) {
		every := config.LeaseTTL / renewals
		time.Sleep(time.Duration(n) * every / nodes)
		for tick := time.NewTicker(every); ctx.Err() == nil; <-tick.C {
			_ = i.control.Ping(ctx).Err()
		}
	}
	lease := func(ctx context.Context, _ int, i *incarnation) {
		if err := i.lease.renew(ctx); err != nil {
			b.Error(err)
		}
		i.lease.run(ctx)
	}
	for _, do := range []struct {
		name string
		run  func(context.Context, int, *incarnation)
	}{{"pings", ping}, {"leases", lease}} {
		b.Run(do.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			var all sync.WaitGroup
			for n := range nodes {
				i := renewing(b, r.addr, fmt.Sprintf("weft-7d9f8b6c5-%d.m3k2j4h5kabcdef", n), &config)
				all.Go(func() { i.liveness.run(ctx) })
				all.Go(func() { do.run(ctx, n, i) })
			}
			time.Sleep(config.LeaseTTL)
			before, began := cpuOf(b, r.Client), time.Now()
			for b.Loop() {
				time.Sleep(config.LeaseTTL)
			}
			b.ReportMetric(100*(cpuOf(b, r.Client)-before).Seconds()/time.Since(began).Seconds(), "%-of-a-core")
			b.ReportMetric(0, "ns/op")
			cancel()
			all.Wait()
		})
	}
}

// cpuOf is what Redis has used of its processor.
func cpuOf(b *testing.B, client *redis.Client) (used time.Duration) {
	text, err := client.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for name, value := range parseInfo(text) {
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, _ := strconv.ParseFloat(value, 64)
			used += time.Duration(seconds * float64(time.Second))
		}
	}
	return used
}
