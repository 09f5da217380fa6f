package wsconn

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room/protocol"
)

// ServeHTTP takes a client from its request to its session: it authorizes it
// and joins its room while the request is open, and then upgrades. Whoever
// cannot be taken is answered with an HTTP status, because the published client
// waits twice as long each time that a connection does not come to be, but only
// half a second, again and again, when one that was open is closed. See
// [Config.HandshakeTimeout] for how long it takes at most.
//
// Nothing is read before the session is there, other than what net/http has
// read; frames that come with the request are kept, in order. ServeHTTP returns
// when the request is answered; the connection goes on without it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !hasToken(r.Header, "Upgrade", "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a WebSocket server: connect with a canvas-store client", http.StatusUpgradeRequired)
		return
	}
	t, err := parseQuery(r.URL.RawQuery)
	no := s.screen(w, r)
	if no == nil {
		no = refusalFor(err)
	}
	if no == nil {
		no = s.begin()
	}
	if no != nil {
		s.refuse(w, no, t)
		return
	}
	defer s.tasks.Done()
	s.connect(w, r, t)
}

// screen refuses what need not be counted.
func (s *Server) screen(w http.ResponseWriter, r *http.Request) *refusal {
	if s.draining.Load() {
		return refusedDraining()
	}
	if origin := r.Header.Get("Origin"); origin != "" && s.config.AllowedOrigins != nil && !slices.Contains(s.config.AllowedOrigins, origin) {
		return &refusal{reason: refused, text: "this origin is not allowed to connect"}
	}
	return checkHandshake(w, r)
}

// begin counts a request among the tasks and the connections, unless no more
// are taken.
func (s *Server) begin() *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining.Load():
		return refusedDraining()
	case s.connectionsLocked() >= s.config.MaxConnections:
		return &refusal{reason: overloaded, text: "server has as many connections as it takes"}
	case s.arrivals != nil && !s.arrivals.Allow():
		return &refusal{reason: overloaded, text: "more clients come than the server takes at a time"}
	}
	s.arriving++
	s.tasks.Add(1)
	return nil
}

// arrived takes a request from those that are on their way.
func (s *Server) arrived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arriving--
}

// connect makes the session, and then the upgrade.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, t target) {
	// The context tells when the client goes away, for which net/http reads
	// ahead; the deadline for the request must not end that.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), s.config.HandshakeTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()

	c := s.newConn()
	err := s.join(ctx, c, t, r)
	if r.Context().Err() != nil {
		c.abandon()
		s.arrived()
		w.WriteHeader(http.StatusServiceUnavailable) // nobody is there to hear it
		return
	}
	no := refusalFor(err)
	if s.draining.Load() {
		no = refusedDraining()
	}
	if no == nil && err != nil && !errors.Is(err, ErrConnectionClosed) { // else it has been told why
		why := closeFor(err)
		s.config.Logger.Info("a connection is closed at once", "room", cut(t.room, maxLogged), "code", why.Code, "reason", why.Reason)
		c.Close(why)
	}
	if no == nil {
		err = s.upgrade(w, r, c)
	}
	if no != nil || err != nil {
		c.abandon()
		s.arrived()
	}
	if no != nil {
		s.refuse(w, no, t)
	}
}

// newConn returns a connection that is not open yet. It takes what its room
// sends, and its reader and writer start when it opens.
func (s *Server) newConn() *conn {
	c := &conn{server: s, drained: make(chan struct{})}
	c.writing = true // by whoever answers the request
	c.client = newConnection(c, s.config.Rooms, s.config.Authorizer, s.config.TokenGrace, s.config.MaxMessageBytes, s.config.Logger)
	c.client.ready = closedChannel // nothing is read before there is a session
	now := s.now()
	c.lastRead.Store(now)
	// Sockets that came together need not be pinged together.
	c.lastPing.Store(now - rand.Int64N(int64(s.config.PingInterval)/4+1))
	if age := s.config.MaxConnectionAge; age > 0 {
		c.retire = max(1, inTicks(now+int64(float64(age)*(0.9+0.2*rand.Float64()))))
	}
	return c
}

// inTicks turns a time since the server began into what a conn has of it. What
// is 13 years away need not be exact.
func inTicks(t int64) uint32 { return uint32(min(t/int64(retireTick), math.MaxUint32)) }

var closedChannel = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// join authorizes a client and takes it to its room. It returns when the context
// ends even if the authorizer or the room does not: then these go on in a
// goroutine that counts as a connection until they have ended, so that there are
// never more of them than of those.
func (s *Server) join(ctx context.Context, c *conn, t target, r *http.Request) error {
	var granted atomic.Bool
	result := make(chan error, 1)
	s.asks.Go(func() {
		err := errors.New("the authorizer or the room has ended its goroutine")
		defer func() { result <- err }()
		err = s.ask(ctx, c, t, r, &granted)
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.arriving++
	s.mu.Unlock()
	s.asks.Go(func() {
		<-result //nolint:errcheck // nobody waits for it any more
		s.arrived()
	})
	if !granted.Load() {
		return &errAuthorization{ctx.Err()}
	}
	return ctx.Err()
}

// ask asks the authorizer and then the room, and survives their panics.
func (s *Server) ask(ctx context.Context, c *conn, t target, r *http.Request, granted *atomic.Bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.config.Logger.Error("a room broke while a client joined it", "room", cut(t.room, maxLogged), "panic", fmt.Sprintf("%T", p))
			err = errors.New("the room panicked")
		}
	}()
	grant, err := c.client.authorize(ctx, authz.Info{RoomID: t.room, ClientID: t.client, Token: t.token, Request: r})
	if err != nil {
		return err
	}
	granted.Store(true)
	return c.client.enter(ctx, t, grant)
}

// upgrade takes the connection from net/http, and nothing with it but the bytes
// that have been read already, and answers the request.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, c *conn) error {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot be upgraded", http.StatusInternalServerError)
		return err
	}
	_ = nc.SetDeadline(time.Time{})
	if !s.admit(c, nc) {
		_ = nc.Close()
		return ErrConnectionClosed
	}
	// It has been checked before; the library reads the first line of a header only.
	plain := &http.Request{
		Method: r.Method, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Host: r.Host,
		Header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}},
	}
	plain.Header.Set("Sec-WebSocket-Key", r.Header.Get("Sec-WebSocket-Key"))
	if _, _, _, err := (ws.HTTPUpgrader{Timeout: s.config.WriteTimeout}).Upgrade(plain, hijacked{w, nc, rw}); err != nil {
		_ = nc.Close() // which the reader sees, as if the client had gone a moment later
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	c.in = newReader(early)
	s.tasks.Go(c.read)
	c.open()
	return nil
}

// hijacked is a response whose connection has been taken.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }

// admit counts a connection as open, unless the server shuts down. From here on
// it may be closed like any other, which is written when the answer has been; a
// drain that has just begun and does not know of it closes it here.
func (s *Server) admit(c *conn, nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return false
	}
	s.arriving--
	c.net = newSocket(nc)
	s.conns[c] = struct{}{}
	s.metrics.connections.Inc()
	s.metrics.accepted.Inc()
	if s.draining.Load() {
		c.closeWith(protocol.CloseRestart, closedDrained)
	}
	return true
}

// hasToken reports whether a header, whose list may be in several lines, has a
// token, in any case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// checkHandshake refuses what is no WebSocket handshake (RFC 6455, section
// 4.2.1), or is on a connection that cannot be upgraded.
func checkHandshake(w http.ResponseWriter, r *http.Request) *refusal {
	bad := func(text string) *refusal { return &refusal{reason: badRequest, text: text} }
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1 || !canHijack(w):
		return bad("this connection cannot be upgraded: WebSocket needs HTTP/1.1 all the way to this server")
	case r.Method != http.MethodGet:
		return bad("the method of a WebSocket handshake must be GET")
	case r.Host == "":
		return bad("the Host header is missing")
	case r.ContentLength != 0:
		return bad("a WebSocket handshake must not have a body")
	case !hasToken(r.Header, "Connection", "upgrade"):
		return bad("the Connection header must be Upgrade")
	case err != nil || len(key) != 16:
		return bad("the Sec-WebSocket-Key header must be 16 bytes in base64")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return &refusal{reason: badRequest, status: http.StatusUpgradeRequired, text: "the Sec-WebSocket-Version header must be 13"}
	}
	return nil
}

// canHijack reports whether the connection can be taken from net/http: not if
// it is HTTP/2, nor behind a handler that wraps w and does not say what it wraps.
func canHijack(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
