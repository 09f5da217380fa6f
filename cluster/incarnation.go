package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/store"
)

// incarnation is one life of a node: what it is called in Redis and in the
// gossip, the sockets it serves, and the partitions it owns. A node that was
// taken for dead begins another.
type incarnation struct {
	id     string
	config *Config
	keys   keys
	log    *slog.Logger
	stats  *stats
	start  time.Time

	writing, reading, control redis.UniversalClient
	store                     *store.Redis

	lease     *lease
	liveness  *liveness
	deaths    *deathWatch
	gossip    *membership
	edge      *edge
	appender  *appender
	inbox     *inbox
	outbox    *outbox
	ownership *ownership
	readers   *readers
	headroom  *headroom
	trouble   *trouble

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	ended  chan error  // gets why it cannot go on
	buried atomic.Bool // it has taken itself out of Redis
}

// Why an incarnation ends before its node leaves.
var (
	errBuried = errors.New("the other nodes took this one for dead")
	errLost   = errors.New("redis and an owner have lost what was confirmed")
)

// newIncarnationID is the node's name with something that no other run has.
func newIncarnationID(name string) string {
	return name + "." + strconv.FormatInt(time.Now().UnixMicro(), 36) + strings.ToLower(rand.Text()[:6])
}

// begin starts an incarnation: it has a lease, has joined the gossip, and
// contends for partitions when begin returns.
func begin(ctx context.Context, c *Config, clients clients, s *stats) (_ *incarnation, err error) {
	i := &incarnation{
		id: newIncarnationID(c.NodeName), config: c, keys: keys{c.Prefix}, stats: s, start: time.Now(),
		writing: clients.writing, reading: clients.reading, control: clients.control,
		ended: make(chan error, 1),
	}
	i.log = c.Logger.With("node", i.id)
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.store = store.NewRedis(store.RedisConfig{Client: i.writing, Prefix: c.Prefix})
	i.trouble = &trouble{log: i.log}
	i.lease, i.liveness = newLease(i), newLiveness(i)
	i.edge, i.inbox, i.outbox = newEdge(i), newInbox(i), newOutbox(i)
	i.appender, i.readers, i.ownership = newAppender(i), newReaders(i), newOwnership(i)
	i.headroom = newHeadroom(i)
	defer func() {
		if err != nil {
			i.abandon()
		}
	}()
	if err := cmp.Or(i.inbox.open(ctx), i.lease.renew(ctx)); err != nil {
		return nil, fmt.Errorf("take a lease: %w", explain(err, describe(c.Redis), passwordOf(ctx, c.Redis)))
	}
	i.tasks.Go(func() { i.lease.run(i.ctx) }) // finding the others may take longer than a lease lasts
	if i.deaths, err = newDeathWatch(c.PeerListen, i.id, i.log); err != nil {
		return nil, &hereError{err}
	}
	i.gossip, err = newMembership(ctx, membershipConfig{
		name: c.NodeName, incarnation: i.id, listen: c.GossipListen, advertise: c.GossipAdvertise, keyring: c.keyring,
		join: c.Join, peerPort: i.deaths.port(), peerAdvertise: c.PeerAdvertise, logger: i.log, rejoin: c.rejoin,
	})
	if err != nil {
		return nil, &hereError{err}
	}
	if err := i.gossip.setState(memberReady); err != nil {
		return nil, fmt.Errorf("tell the others of this node: %w", err)
	}
	i.tasks.Go(func() { i.liveness.run(i.ctx) })
	i.tasks.Go(func() { i.headroom.run(i.ctx) })
	i.tasks.Go(func() { i.appender.run(i.ctx) })
	i.tasks.Go(func() { i.inbox.run(i.ctx) })
	i.tasks.Go(func() { i.inbox.tidy(i.ctx) })
	i.tasks.Go(func() { i.outbox.run(i.ctx) })
	i.tasks.Go(func() { i.outbox.watch(i.ctx) })
	i.tasks.Go(func() { i.edge.tend(i.ctx) })
	i.tasks.Go(func() { newBalancer(i).run(i.ctx) })
	i.readers.start(i.ctx)
	i.ownership.contend(ctx)
	i.tasks.Go(func() { i.ownership.run(i.ctx) })
	i.tasks.Go(func() { i.ownership.watch(i.ctx) })
	return i, nil
}

// end tells that the incarnation cannot go on.
func (i *incarnation) end(why error) {
	select {
	case i.ended <- why:
	default:
	}
}

// abandon stops everything at once, as a crash does, but for the sockets, which
// are closed.
func (i *incarnation) abandon() {
	i.edge.closeAll(protocol.CloseRestart)
	i.stop()
}

// stop ends all goroutines, then the gossip.
func (i *incarnation) stop() {
	i.cancel()
	i.readers.wake()
	i.inbox.bell.ring()
	i.tasks.Wait()
	i.readers.hush()
	i.inbox.bell.hush()
	if i.gossip != nil {
		if err := i.gossip.close(); err != nil {
			i.log.Warn("the gossip did not close in order", "error", err)
		}
	}
	if i.deaths != nil {
		i.deaths.close()
	}
}

// leave hands everything over and ends: the partitions first, for the others
// need them, then the sockets, then the lease. The last node closes its sockets
// first, for nobody else can take their sessions out of the rooms.
func (i *incarnation) leave(ctx context.Context, c protocol.Close) error {
	if err := i.gossip.setState(memberDraining); err != nil {
		i.log.Warn("the others do not know yet that this node leaves", "error", err)
	}
	var errs []error
	if i.ownership.alone() {
		i.edge.closePaced(ctx, c)
		errs = append(errs, i.edge.depart(ctx), i.ownership.drain(ctx))
	} else {
		errs = append(errs, i.ownership.drain(ctx))
		i.edge.closePaced(ctx, c)
		errs = append(errs, i.edge.depart(ctx))
	}
	i.bury(ctx)
	if err := i.gossip.leave(ctx); err != nil {
		i.log.Warn("the others were not told that this node has left", "error", err)
	}
	i.stop()
	return errors.Join(errs...)
}

// bury removes what Redis has of this incarnation.
func (i *incarnation) bury(ctx context.Context) {
	i.buried.Store(true)
	if _, err := i.entomb(ctx, i.id, true); err != nil {
		i.log.Warn("what Redis has of this node stays there until the others remove it", "error", err)
	}
}

// clients are the connections to Redis, one pool for each purpose.
type clients struct{ writing, reading, control redis.UniversalClient }

func newClients(o *redis.UniversalOptions) clients {
	return clients{newClient(o, clientAppend), newClient(o, clientRead), newClient(o, clientControl)}
}

func (c clients) close() error {
	return errors.Join(c.writing.Close(), c.reading.Close(), c.control.Close())
}

// trouble logs once that Redis does not answer, once what a person must mend, as
// a password that has changed, and once that it answers again.
type trouble struct {
	log      *slog.Logger
	is, told atomic.Bool // told: that there is something to mend
}

func (t *trouble) note(what string, err error) {
	first := t.is.CompareAndSwap(false, true)
	if errors.Is(explain(err, "its address", ""), ErrUnfit) {
		first = t.told.CompareAndSwap(false, true)
	}
	if first {
		t.log.Warn("trouble with Redis: "+what+"; sockets stay open, and nothing is acknowledged until it is over", "error", err)
	}
}

func (t *trouble) over() {
	if t.is.CompareAndSwap(true, false) {
		t.told.Store(false)
		t.log.Info("Redis answers again")
	}
}
