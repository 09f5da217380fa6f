package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hints prove that other nodes are dead, sooner than their lease ends. Every
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
// The cluster bears that, since whoever takes over fences the owner before, but
// it is not for free: such a node must contend for its partitions again.
//
// The first message on a connection, and the only one, is of the listener:
// "weft-hint <incarnation>\n".
type hints struct {
	self     string // incarnation
	greeting []byte
	logger   *slog.Logger
	listener net.Listener
	proved   chan string
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	watched  map[string]*hintWatch // by incarnation
	accepted int                   // connections
}

// hintWatch is one other node that is watched, or was until its death was
// proved.
type hintWatch struct {
	incarnation, addr string
	cancel            context.CancelFunc
}

const (
	hintHello      = "weft-hint "
	hintTimeout    = time.Second           // to connect, and for the greeting
	hintSoon       = 10 * time.Millisecond // between the first attempts after a loss
	hintSoonTimes  = 10
	hintBackoff    = 5 * time.Second // longest between later attempts
	maxHintConns   = 1024            // accepted at a time
	maxHintWatched = 512
	maxHintLine    = 1024 // bytes
)

// newHints listens on listen, as host:0, in the name of an incarnation.
func newHints(listen, self string, logger *slog.Logger) (*hints, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	greeting := hintHello + self + "\n"
	if len(greeting) > maxHintLine || strings.ContainsAny(self, "\r\n") || self == "" {
		return nil, fmt.Errorf("a node cannot be called %q: node-name is too long, or not one line", self)
	}
	h := &hints{
		self:     self,
		greeting: []byte(greeting),
		logger:   logger,
		proved:   make(chan string),
		watched:  make(map[string]*hintWatch),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	config := net.ListenConfig{KeepAliveConfig: hintKeepAlive}
	var err error
	if h.listener, err = config.Listen(h.ctx, "tcp", listen); err != nil {
		h.cancel()
		return nil, fmt.Errorf("gossip-listen: the other nodes' connections cannot be listened for there: %w", err)
	}
	h.running.Go(h.accept)
	return h, nil
}

// hintKeepAlive ends connections whose other end is gone without a word. It is
// the kernels that keep them alive, so a stopped process does not lose any.
var hintKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}

// addr is where it listens, as host:port.
func (h *hints) addr() string { return h.listener.Addr().String() }

// dead gives every incarnation that is proved dead, once, for as long as it is
// among those watched. Somebody must read it, or other proofs wait.
func (h *hints) dead() <-chan string { return h.proved }

// watch says which members there are. Those that are new are watched from now
// on, those not named any more no longer. This node itself is left out.
func (h *hints) watch(members []member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	named := make(map[string]string, len(members))
	for _, m := range members {
		if m.incarnation != h.self && m.hint != "" {
			named[m.incarnation] = m.hint
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
		if len(h.watched) == maxHintWatched {
			h.logger.Warn("too many members: their deaths are noticed by gossip and lease only", "watched", maxHintWatched)
			break
		}
		ctx, cancel := context.WithCancel(h.ctx)
		w := &hintWatch{incarnation, addr, cancel}
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
func (h *hints) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.listener.Close()
	h.running.Wait()
}

// What an attempt to be greeted has come to.
type hintOutcome int

const (
	hintNothing hintOutcome = iota // proves nothing
	hintRefused                    // nobody listens there
	hintOther                      // another incarnation does
	hintLost                       // the right one did, and the connection has ended
)

// hintEvidence is what is known of a watched node.
type hintEvidence struct {
	met     bool // it has answered before
	refused int  // times in a row
}

// add takes what came of another attempt, and reports whether the node is
// proved dead.
func (e *hintEvidence) add(o hintOutcome) bool {
	if o == hintRefused {
		e.refused++
	} else {
		e.refused = 0
	}
	if o == hintLost {
		e.met = true
	}
	return e.met && (o == hintOther || e.refused >= 2)
}

// untilDead watches a node; it returns true once its death is proved, and false
// when ctx ends.
func (h *hints) untilDead(ctx context.Context, w *hintWatch) bool {
	var known hintEvidence
	quick, pause := hintSoonTimes, hintSoon
	for {
		start := time.Now()
		outcome := h.attempt(ctx, w)
		switch {
		case ctx.Err() != nil:
			return false
		case known.add(outcome):
			return true
		case outcome == hintLost && time.Since(start) > hintTimeout:
			quick, pause = hintSoonTimes, hintSoon // not if it lasts for a moment each time
		}
		wait := hintSoon
		if quick--; quick < 0 {
			pause = min(2*pause, hintBackoff)
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
// incarnation that it is to watch.
func (h *hints) attempt(ctx context.Context, w *hintWatch) hintOutcome {
	d := net.Dialer{Timeout: hintTimeout, KeepAliveConfig: hintKeepAlive}
	conn, err := d.DialContext(ctx, "tcp", w.addr)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return hintRefused
		}
		return hintNothing
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	conn.SetReadDeadline(time.Now().Add(hintTimeout))
	r := bufio.NewReaderSize(conn, maxHintLine)
	line, err := r.ReadSlice('\n') // fails if there is more than the buffer takes
	if err != nil {
		return hintNothing
	}
	incarnation, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), hintHello)
	switch {
	case !ok:
		return hintNothing
	case incarnation != w.incarnation:
		return hintOther
	}
	h.logger.Debug("watching a node", "node", w.incarnation, "addr", w.addr)
	conn.SetReadDeadline(time.Time{})
	r.ReadByte() // returns when the connection ends, for nothing is sent on it
	return hintLost
}

// accept greets the other nodes and holds their connections.
func (h *hints) accept() {
	for {
		conn, err := h.listener.Accept()
		if h.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			// For want of file descriptors, say. The others wait in the kernel's queue.
			h.logger.Warn("cannot accept another node's watch connection, going on trying", "err", err)
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(hintTimeout):
			}
			continue
		}
		h.mu.Lock()
		full := h.accepted == maxHintConns
		if !full {
			h.accepted++
		}
		h.mu.Unlock()
		if full {
			conn.Close() // which without a greeting proves nothing
			continue
		}
		h.running.Go(func() { h.hold(conn) })
	}
}

func (h *hints) hold(conn net.Conn) {
	defer func() {
		h.mu.Lock()
		h.accepted--
		h.mu.Unlock()
	}()
	defer conn.Close()
	defer context.AfterFunc(h.ctx, func() { conn.Close() })()
	conn.SetWriteDeadline(time.Now().Add(hintTimeout))
	if _, err := conn.Write(h.greeting); err != nil {
		return
	}
	conn.Read(make([]byte, 1)) // returns when the connection ends; nobody has anything to say
}
