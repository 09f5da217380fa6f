package cluster

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// deathWatch proves that other nodes are dead, sooner than their lease ends. Every
// node listens, and keeps a connection to every other node's listener. When a
// process dies, however, its kernel closes the connection and refuses new ones;
// when it hangs, is stopped, or is cut off, neither happens. So an incarnation
// is proved dead if, at an address at which it answered before,
//
//   - two connections in a row are refused, or
//   - another incarnation answers.
//
// Everything else, as a timeout or a reset connection, proves nothing: the node
// is tried again for as long as it is watched. Nor does anything prove what was
// never seen to answer, since its address may be wrong.
//
// A firewall that answers in a node's place with a refusal can feign its death.
// The cluster bears that, since whoever takes over fences the previous owner, but
// it is not for free: such a node must contend for its partitions again.
//
// The first message on a connection, and the only one, is of the listener:
// "weft-peer <incarnation>\n".
type deathWatch struct {
	self     string // incarnation
	greeting []byte
	logger   *slog.Logger
	listener net.Listener
	proved   chan string
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	patience time.Duration // peerPatience, but for tests

	mu       sync.Mutex
	closed   bool
	watched  map[string]*watchedPeer // by incarnation
	accepted int                     // connections

	unreachable atomic.Int64 // peers of which the gossip knows, and which do not answer
}

// watchedPeer is one other node that is watched, or was until its death was
// proved.
type watchedPeer struct {
	incarnation, addr string
	cancel            context.CancelFunc
}

const (
	peerHello       = "weft-peer "
	peerTimeout     = time.Second           // to connect, and for the greeting
	peerSoon        = 10 * time.Millisecond // between the first attempts after a loss
	peerSoonTimes   = 10
	peerBackoff     = 5 * time.Second // longest between later attempts
	peerPatience    = 5 * time.Second // until a peer that does not answer is called unreachable
	maxPeerConns    = 1024            // accepted at a time
	maxPeersWatched = 512
	maxPeerLine     = 1024 // bytes
)

// newDeathWatch listens on listen, host:port, in the name of an incarnation.
func newDeathWatch(listen, self string, logger *slog.Logger) (*deathWatch, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	greeting := peerHello + self + "\n"
	if len(greeting) > maxPeerLine || strings.ContainsAny(self, "\r\n") || self == "" {
		return nil, badConfig("NodeName", "is too long, or not one line")
	}
	h := &deathWatch{
		self:     self,
		greeting: []byte(greeting),
		logger:   logger,
		proved:   make(chan string),
		patience: peerPatience,
		watched:  make(map[string]*watchedPeer),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	config := net.ListenConfig{KeepAliveConfig: peerKeepAlive}
	var err error
	if h.listener, err = config.Listen(h.ctx, "tcp", listen); err != nil {
		h.cancel()
		return nil, badForNow("PeerListen", "cannot be listened at, by TCP: %w", err)
	}
	h.running.Go(h.accept)
	return h, nil
}

// peerKeepAlive ends connections whose other end is gone without a word. It is
// the kernels that keep them alive, so a stopped process does not lose any.
var peerKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}

// addr is where it listens, as host:port.
func (h *deathWatch) addr() string { return h.listener.Addr().String() }

// port is where it listens.
func (h *deathWatch) port() uint16 {
	at, err := netip.ParseAddrPort(h.addr())
	if err != nil {
		panic(err) // a TCP listener has an address
	}
	return at.Port()
}

// dead gives every incarnation that is proved dead, once, for as long as it is
// among those watched. Somebody must read it, or other proofs wait.
func (h *deathWatch) dead() <-chan string { return h.proved }

// watch says which members there are. Those that are new are watched from now
// on, those not named any more no longer. This node itself is left out.
func (h *deathWatch) watch(members []member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	named := make(map[string]string, len(members))
	for _, m := range members {
		if m.incarnation != h.self && m.peer != "" {
			named[m.incarnation] = m.peer
		}
	}
	for _, w := range h.watched {
		if named[w.incarnation] != w.addr {
			w.cancel()
			delete(h.watched, w.incarnation)
		}
	}
	for incarnation, addr := range named {
		if h.watched[incarnation] != nil {
			continue
		}
		if len(h.watched) == maxPeersWatched {
			h.logger.Warn("too many members: their deaths are noticed by gossip and lease only", "watched", maxPeersWatched)
			break
		}
		ctx, cancel := context.WithCancel(h.ctx)
		w := &watchedPeer{incarnation, addr, cancel}
		h.watched[incarnation] = w
		h.running.Go(func() {
			defer cancel()
			if h.untilDead(ctx, w) {
				h.logger.Info("a node is proved dead", "node", w.incarnation)
				select {
				case h.proved <- w.incarnation:
				case <-ctx.Done():
				}
			}
		})
	}
}

// close stops, and returns when all is stopped. To the others this node is dead
// from here on, so it must not own anything any more.
func (h *deathWatch) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	_ = h.listener.Close()
	h.running.Wait()
}

// reach follows whether a peer can be reached that lives as far as the gossip
// knows. It is for one goroutine.
type reach struct {
	deathWatch *deathWatch
	peer       *watchedPeer
	failing    time.Time // since when every attempt has failed; zero: it answers
	told       bool      // that it is unreachable
}

func (r *reach) failed() {
	if r.failing.IsZero() {
		r.failing = time.Now()
	}
	if r.told || time.Since(r.failing) < r.deathWatch.patience {
		return
	}
	r.told = true
	r.deathWatch.unreachable.Add(1)
	r.deathWatch.logger.Warn("the peer port of another node cannot be reached though the gossip says that the node lives: its death would be noticed late, when its lease ends; let the nodes reach each other there by TCP, and see that what it advertises as its peer address is right",
		"node", r.peer.incarnation, "addr", r.peer.addr, "for", time.Since(r.failing).Round(time.Second))
}

func (r *reach) reached() {
	r.failing = time.Time{}
	if r.told {
		r.deathWatch.logger.Info("the peer port of another node can be reached again", "node", r.peer.incarnation, "addr", r.peer.addr)
	}
	r.end()
}

// end tells that the peer answers, or is no peer any more.
func (r *reach) end() {
	if r.told {
		r.told = false
		r.deathWatch.unreachable.Add(-1)
	}
}

// What an attempt to be greeted has come to.
type peerOutcome int

const (
	peerNothing peerOutcome = iota // proves nothing
	peerRefused                    // nobody listens there
	peerOther                      // another incarnation does
	peerLost                       // the right one did, and the connection has ended
)

// peerEvidence is what is known of a watched node.
type peerEvidence struct {
	met     bool // it has answered before
	refused int  // times in a row
}

// add takes what came of another attempt, and reports whether the node is
// proved dead.
func (e *peerEvidence) add(o peerOutcome) bool {
	if o == peerRefused {
		e.refused++
	} else {
		e.refused = 0
	}
	if o == peerLost {
		e.met = true
	}
	return e.met && (o == peerOther || e.refused >= 2)
}

// untilDead watches a node; it returns true once its death is proved, and false
// when ctx ends.
func (h *deathWatch) untilDead(ctx context.Context, w *watchedPeer) bool {
	var known peerEvidence
	r := reach{deathWatch: h, peer: w, failing: time.Now()}
	defer r.end()
	quick, pause := peerSoonTimes, peerSoon
	for {
		start := time.Now()
		outcome := h.attempt(ctx, w, r.reached)
		switch {
		case ctx.Err() != nil:
			return false
		case known.add(outcome):
			return true
		case outcome != peerLost:
			r.failed()
		case time.Since(start) > peerTimeout:
			quick, pause = peerSoonTimes, peerSoon // not if it lasts for a moment each time
		}
		wait := peerSoon
		if quick--; quick < 0 {
			pause = min(2*pause, peerBackoff)
			wait = pause/2 + rand.N(pause/2)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// attempt connects, and stays for as long as it can if it is greeted by the
// incarnation that it is to watch, which it tells met.
func (h *deathWatch) attempt(ctx context.Context, w *watchedPeer, met func()) peerOutcome {
	d := net.Dialer{Timeout: peerTimeout, KeepAliveConfig: peerKeepAlive}
	conn, err := d.DialContext(ctx, "tcp", w.addr)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return peerRefused
		}
		return peerNothing
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	_ = conn.SetReadDeadline(time.Now().Add(peerTimeout))
	r := bufio.NewReaderSize(conn, maxPeerLine)
	line, err := r.ReadSlice('\n') // fails if there is more than the buffer takes
	if err != nil {
		return peerNothing
	}
	incarnation, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), peerHello)
	switch {
	case !ok:
		return peerNothing
	case incarnation != w.incarnation:
		return peerOther
	}
	h.logger.Debug("watching a node", "node", w.incarnation, "addr", w.addr)
	met()
	_ = conn.SetReadDeadline(time.Time{})
	_, _ = r.ReadByte() // returns when the connection ends, for nothing is sent on it
	return peerLost
}

// accept greets the other nodes and holds their connections.
func (h *deathWatch) accept() {
	for {
		conn, err := h.listener.Accept()
		if h.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			// For want of file descriptors, say. The others wait in the kernel's queue.
			h.logger.Warn("cannot accept another node's watch connection, going on trying", "err", err)
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(peerTimeout):
			}
			continue
		}
		h.mu.Lock()
		full := h.accepted == maxPeerConns
		if !full {
			h.accepted++
		}
		h.mu.Unlock()
		if full {
			_ = conn.Close() // which without a greeting proves nothing
			continue
		}
		h.running.Go(func() { h.hold(conn) })
	}
}

func (h *deathWatch) hold(conn net.Conn) {
	defer func() {
		h.mu.Lock()
		h.accepted--
		h.mu.Unlock()
	}()
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(h.ctx, func() { _ = conn.Close() })()
	_ = conn.SetWriteDeadline(time.Now().Add(peerTimeout))
	if _, err := conn.Write(h.greeting); err != nil {
		return
	}
	_, _ = conn.Read(make([]byte, 1)) // returns when the connection ends; nobody has anything to say
}
