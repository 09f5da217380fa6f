package wsconn

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

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
	// AcceptRate is how many clients a second are authorized, up to a second's
	// worth of them at once; others are answered with 503. Default 0: any number.
	AcceptRate int
	// MaxConnectionAge is how old a socket may get. It is closed with 1012 at an
	// age between 0.9 and 1.1 times this one, so that sockets that came together
	// do not go together, and its client comes back, to whichever server a load
	// balancer chooses. Default 0: any age.
	MaxConnectionAge time.Duration
	// GatherDelay is for how long at most, after a write, what comes for the same
	// socket is gathered into the next. It is not gathered at all up to 20 000
	// frames a second in all, and for the whole time from 40 000 on. Default 4ms;
	// negative turns it off.
	GatherDelay time.Duration
	// PingInterval is how often a socket is pinged, default 25s. One that
	// sends nothing at all for PongTimeout after a ping, default 10s, is
	// closed.
	PingInterval time.Duration
	PongTimeout  time.Duration
	// HandshakeTimeout bounds the time from the request to its answer:
	// authorization and the room's load, also if these do not heed their
	// context. Default 10s.
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
	refusals *refusalLog
	arrivals *rate.Limiter // nil: none
	began    time.Time
	ctx      context.Context // ends when no more are taken
	cancel   context.CancelFunc
	tasks    sync.WaitGroup // readers and requests
	asks     sync.WaitGroup // of authorizers and rooms, which may outlast their request
	keeper   sync.WaitGroup
	idle     chan struct{} // closed when the tasks have ended for good
	ended    sync.Once
	draining atomic.Bool // no more are taken; set with mu locked

	mu       sync.Mutex
	conns    map[*conn]struct{}
	arriving int             // requests that are not answered, and what has outlasted them
	closed   *protocol.Close // why all are closed
}

// NewServer returns a server. It runs a goroutine until [Server.Shutdown]. The
// error is about the config or comes from the registerer.
func NewServer(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c.withDefaults(), began: time.Now(), conns: map[*conn]struct{}{}, idle: make(chan struct{})}
	s.refusals = &refusalLog{log: s.config.Logger}
	if c.AcceptRate > 0 {
		s.arrivals = rate.NewLimiter(rate.Limit(c.AcceptRate), c.AcceptRate)
	}
	var err error
	if s.metrics, err = newMetrics(c.Registerer, s.remaining); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.gatherer = newGatherer(s, s.config.GatherDelay)
	s.keeper.Go(s.keep)
	return s, nil
}

// now is the time since the server began, in nanoseconds.
func (s *Server) now() int64 { return int64(time.Since(s.began)) }

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
