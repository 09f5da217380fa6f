package wsconn

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room/protocol"
)

// Config says how a [Server] treats its sockets. Rooms and Authorizer must be
// set; the zero values of the rest mean the defaults.
type Config struct {
	Rooms      Rooms
	Authorizer authz.Authorizer

	// MaxMessageBytes is the longest message; beyond it the socket closes with
	// 1009. Default 32 MiB.
	MaxMessageBytes int
	// MaxQueueBytes is how much may wait to be written to one socket; beyond
	// it the socket closes with 1013 and its client comes back for a diff. One
	// message of any size, such as a whole document, may wait beside it.
	// Default 8 MiB.
	MaxQueueBytes int
	// MaxConnections is how many sockets the server takes; beyond it an
	// upgrade is answered with 503. Default 100 000.
	MaxConnections int
	// GatherDelay is for how long after a write what comes for the same socket
	// is gathered into the next. Default 4ms; negative turns it off.
	GatherDelay time.Duration
	// PingInterval is how often a socket is pinged, default 25s. One that
	// sends nothing at all for PongTimeout after a ping, default 10s, is
	// closed.
	PingInterval time.Duration
	PongTimeout  time.Duration
	// HandshakeTimeout bounds the time from the upgrade to the session:
	// authorization and the room's load. Default 10s.
	HandshakeTimeout time.Duration
	// WriteTimeout is for how long a write may make no progress. Default 10s.
	WriteTimeout time.Duration
	// TokenGrace is for how long after its grant has expired a socket stays
	// open, for the client to send a newer token. Default 25s.
	TokenGrace time.Duration
	// AllowedOrigins lists the values of the Origin header, such as
	// https://app.example.com, of the pages that may connect; another is
	// answered with 403. Nil means any. A request without the header comes
	// from no browser and is always let through.
	AllowedOrigins []string
	// Logger gets what an operator should know; nil means nothing is logged.
	Logger *slog.Logger
	// Registerer gets the metrics; nil means they are not registered.
	Registerer prometheus.Registerer

	closeTimeout time.Duration // for the peer to answer a close frame
}

func (c Config) withDefaults() Config {
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, protocol.DefaultMaxMessageBytes)
	c.MaxQueueBytes = cmp.Or(c.MaxQueueBytes, 8<<20)
	c.MaxConnections = cmp.Or(c.MaxConnections, 100_000)
	c.GatherDelay = max(0, cmp.Or(c.GatherDelay, 4*time.Millisecond))
	c.PingInterval = cmp.Or(c.PingInterval, 25*time.Second)
	c.PongTimeout = cmp.Or(c.PongTimeout, 10*time.Second)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.TokenGrace = cmp.Or(c.TokenGrace, 25*time.Second)
	c.closeTimeout = cmp.Or(c.closeTimeout, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Server upgrades HTTP requests on any path to WebSocket and connects them to
// rooms. It is an http.Handler, safe for concurrent use.
type Server struct {
	config   Config
	metrics  *metrics
	gatherer *gatherer
	began    time.Time
	ctx      context.Context // ends when the server shuts down
	cancel   context.CancelFunc
	tasks    sync.WaitGroup // readers and handshakes
	keeper   sync.WaitGroup
	idle     chan struct{} // closed when the tasks have ended for good
	ended    sync.Once

	mu       sync.Mutex
	conns    map[*conn]struct{}
	arriving int             // requests that are being upgraded
	closed   *protocol.Close // why no more are taken
}

// NewServer returns a server. It runs a goroutine until [Server.Shutdown]. The
// error is about the config or comes from the registerer.
func NewServer(c Config) (*Server, error) {
	if c.Rooms == nil {
		return nil, errors.New("wsconn: Config.Rooms is not set")
	}
	if c.Authorizer == nil {
		return nil, errors.New("wsconn: Config.Authorizer is not set")
	}
	metrics, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c.withDefaults(), metrics: metrics, began: time.Now(), conns: map[*conn]struct{}{}, idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.gatherer = newGatherer(s, s.config.GatherDelay)
	s.keeper.Go(s.keep)
	return s, nil
}

// now is the time since the server began, in nanoseconds.
func (s *Server) now() int64 { return int64(time.Since(s.began)) }

// ServeHTTP upgrades the request. It returns when the session is there or has
// been refused; the connection goes on without it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a WebSocket server: connect with a canvas-store client", http.StatusUpgradeRequired)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" && s.config.AllowedOrigins != nil && !slices.Contains(s.config.AllowedOrigins, origin) {
		s.metrics.refusals[refusedOrigin].Inc()
		http.Error(w, "this origin is not allowed to connect", http.StatusForbidden)
		return
	}
	if !s.begin(w) {
		return
	}
	defer s.tasks.Done()
	c, err := s.upgrade(w, r)
	if err != nil {
		s.mu.Lock()
		s.arriving--
		s.mu.Unlock()
		return // answered
	}
	if !s.admit(c) {
		_ = c.net.Close()
		return
	}
	c.client.run(s.ctx, r.URL.RawQuery, r, s.config.HandshakeTimeout)
}

// begin counts a handshake among the tasks, unless no more are taken.
func (s *Server) begin(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed != nil:
		s.metrics.refusals[refusedClosing].Inc()
		http.Error(w, "server is restarting", http.StatusServiceUnavailable)
	case s.connectionsLocked() >= s.config.MaxConnections:
		s.metrics.refusals[refusedFull].Inc()
		http.Error(w, "server has as many connections as it takes", http.StatusServiceUnavailable)
	default:
		s.arriving++
		s.tasks.Add(1)
		return true
	}
	return false
}

// upgrade takes the connection from net/http, and nothing with it but the bytes
// that have been read already.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (*conn, error) {
	nc, rw, _, err := ws.HTTPUpgrader{Timeout: s.config.HandshakeTimeout}.Upgrade(r, w)
	if err != nil {
		s.metrics.refusals[refusedUpgrade].Inc()
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	c := &conn{server: s, net: newSocket(nc), in: newReader(early), drained: make(chan struct{})}
	c.client = newConnection(c, s.config.Rooms, s.config.Authorizer, s.config.TokenGrace, s.config.MaxMessageBytes, s.config.Logger)
	now := s.now()
	c.lastRead.Store(now)
	// Sockets that came together need not be pinged together.
	c.lastPing.Store(now - rand.Int64N(int64(s.config.PingInterval)/4+1))
	return c, nil
}

// admit starts reading a connection, unless the server has begun to shut down.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arriving--
	if s.closed != nil {
		return false
	}
	s.conns[c] = struct{}{}
	s.metrics.connections.Inc()
	s.metrics.accepted.Inc()
	s.tasks.Go(c.read)
	return true
}

// forget is the last that a connection does.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.metrics.connections.Dec()
}

// Connections is the number of sockets, those included that are on their way.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connectionsLocked()
}

func (s *Server) connectionsLocked() int { return len(s.conns) + s.arriving }

// Shutdown takes no more connections, closes those that are open, and waits for
// them to end; if the context ends first it cuts them off and returns its error.
func (s *Server) Shutdown(ctx context.Context, why protocol.Close) error {
	s.mu.Lock()
	if s.closed == nil {
		s.closed = &why
	}
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.Close(why)
	}
	s.cancel() // only now: a handshake that it ends must not say why first
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.tasks.Wait()
		s.ended.Do(func() { close(s.idle) })
		s.keeper.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range open {
		_ = c.net.Close()
	}
	<-done
	return ctx.Err()
}
