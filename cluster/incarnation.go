package cluster

import (
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
	hints     *hints
	gossip    *membership
	edge      *edge
	appender  *appender
	inbox     *inbox
	outbox    *outbox
	ownership *ownership
	readers   *readers
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
	defer func() {
		if err != nil {
			i.abandon()
		}
	}()
	if err := i.inbox.open(ctx); err != nil {
		return nil, err
	}
	if err := i.lease.renew(ctx); err != nil {
		return nil, fmt.Errorf("take a lease: %w", err)
	}
	i.tasks.Go(func() { i.lease.run(i.ctx) }) // finding the others may take longer than a lease lasts
	if i.hints, err = newHints(hintAddress(c.GossipListen), i.id, i.log); err != nil {
		return nil, err
	}
	i.gossip, err = newMembership(ctx, membershipConfig{
		name: c.NodeName, incarnation: i.id, listen: c.GossipListen, advertise: c.GossipAdvertise, key: c.GossipKey,
		join: c.Join, hint: i.hints.addr(), logger: i.log, rejoin: c.rejoin,
	})
	if err != nil {
		return nil, err
	}
	if err := i.gossip.setState(memberReady); err != nil {
		return nil, fmt.Errorf("tell the others of this node: %w", err)
	}
	i.tasks.Go(func() { i.liveness.run(i.ctx) })
	i.tasks.Go(func() { i.appender.run(i.ctx) })
	i.tasks.Go(func() { i.inbox.run(i.ctx) })
	i.tasks.Go(func() { i.outbox.run(i.ctx) })
	i.tasks.Go(func() { i.edge.tend(i.ctx) })
	i.readers.start(i.ctx)
	i.ownership.contend(ctx)
	i.tasks.Go(func() { i.ownership.run(i.ctx) })
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
	if i.hints != nil {
		i.hints.close()
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
	if err := buryScript.Run(ctx, i.control, i.keys.life(i.id), 1, rememberGone).Err(); err != nil {
		i.log.Warn("what Redis has of this node stays there until the others remove it", "error", err)
	}
}

// hintAddress is a free port where the gossip listens.
func hintAddress(gossip string) string {
	host, _, found := strings.Cut(gossip, ":")
	if strings.HasPrefix(gossip, "[") {
		host, _, found = strings.Cut(gossip, "]:")
		host += "]"
	}
	if !found {
		host = gossip
	}
	return host + ":0"
}

// clients are the connections to Redis, one pool for each purpose.
type clients struct{ writing, reading, control redis.UniversalClient }

func newClients(o *redis.UniversalOptions) clients {
	return clients{newClient(o, clientAppend), newClient(o, clientRead), newClient(o, clientControl)}
}

func (c clients) close() error {
	return errors.Join(c.writing.Close(), c.reading.Close(), c.control.Close())
}

// trouble logs once that Redis does not answer, and once that it does again.
type trouble struct {
	log *slog.Logger
	is  atomic.Bool
}

func (t *trouble) note(what string, err error) {
	if t.is.CompareAndSwap(false, true) {
		t.log.Warn("trouble with Redis: "+what+"; sockets stay open, and nothing is acknowledged until it is over", "error", err)
	}
}

func (t *trouble) over() {
	if t.is.CompareAndSwap(true, false) {
		t.log.Info("Redis answers again")
	}
}

func intsOf(cmds []redis.Cmder) []int64 {
	list := make([]int64, len(cmds))
	for n, cmd := range cmds {
		if c, ok := cmd.(*redis.IntCmd); ok {
			list[n] = c.Val()
		}
	}
	return list
}
