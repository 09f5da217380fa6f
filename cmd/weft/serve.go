package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/cmd/weft/playground"
	"github.com/weftsync/weft/wsconn"
)

func (p *program) serve() command {
	o := new(settings.Server)
	table := o.Table()
	return command{name: "serve", usage: "serve rooms to browsers", table: table, inFile: table, run: func(ctx context.Context, from settings.Sources) error {
		if err := first(o.Read(table, from)); err != nil {
			return err
		}
		log := newLogger(p.stderr, o.LogLevel, o.LogFormat)
		for _, v := range table.UnknownVariables(p.env) {
			log.Warn("an environment variable begins like a setting and is none"+v.Hint, "name", v.Name)
		}
		err := serve(ctx, o, log)
		if err == nil {
			return nil
		}
		if err = table.Translate(err); errors.Is(err, settings.ErrWrong) {
			return err
		}
		log.Error("weft ends", "error", err)
		return errReported
	}}
}

// serve runs a server until ctx ends. It returns nil if it then has closed
// every socket and saved every room, or handed it to another node.
func serve(ctx context.Context, o *settings.Server, log *slog.Logger) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector(), buildMetric())
	var h health
	admin, err := listen(o.AdminListen, adminHandler(&h, metrics, o.Pprof), o.Sockets.HandshakeTimeout, log)
	if err != nil {
		return fmt.Errorf("admin-listen: %w", err)
	}
	defer admin.close()

	files := &rotation{log: log}
	auth, closeAuth, err := authorizer(ctx, o, &h, files, log)
	if err != nil {
		return err
	}
	defer closeAuth()
	rooms, err := openRooms(ctx, o, &h, files, metrics, log)
	if err != nil {
		if ctx.Err() != nil {
			log.Info("weft has ended before it was ready", "error", err)
			return nil
		}
		return err
	}
	if o.Dev {
		warnDev(o.Listen, log)
	}
	sockets, err := newSockets(o, rooms, auth, metrics, log)
	if err != nil {
		return errors.Join(err, rooms.drop())
	}

	var page http.Handler
	if o.Dev {
		page = playground.Handler()
	}
	public, err := listen(o.Listen, publicHandler(sockets, page, log), o.Sockets.HandshakeTimeout, log)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), end(o, &h, &listener{}, sockets, rooms))
	}
	defer public.close()

	stop := files.start(rotateEvery)
	defer stop()
	h.set(serving)
	log.Info("ready", "listen", public.address(), "admin", admin.address(), "store", keeper(o))
	select {
	case <-ctx.Done():
		log.Info("shutting down: sockets are closed and rooms kept; a second signal ends weft at once")
	case <-public.ended:
		err = public.err
	case <-admin.ended:
		err = admin.err
	}
	if err = errors.Join(err, end(o, &h, public, sockets, rooms)); err == nil {
		log.Info("weft has shut down cleanly", "store", keeper(o))
	}
	return err
}

func newSockets(o *settings.Server, rooms wsconn.Rooms, auth authz.Authorizer, metrics *prometheus.Registry, log *slog.Logger) (*wsconn.Server, error) {
	c := o.Sockets
	c.Rooms, c.Authorizer, c.Logger, c.Registerer = rooms, auth, log, metrics
	return wsconn.NewServer(c)
}

func warnDev(address string, log *slog.Logger) {
	const text = "development mode: any token may read and write every room"
	if isLoopback(address) {
		log.Warn(text)
		return
	}
	log.Warn(text+", and so may everyone who can reach this address: set --listen 127.0.0.1:8080 to keep it to this machine", "listen", address)
}

// isLoopback reports whether only this machine can reach an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// listener is an HTTP server at one address. The zero listener is at none.
type listener struct {
	server *http.Server
	socket net.Listener
	ended  chan struct{} // closed when it accepts no more
	err    error         // why, once ended is closed, if nobody wanted it
}

// Bounds of a plain HTTP exchange; sockets have their own.
const (
	maxHeaderBytes = 64 << 10
	idleTimeout    = time.Minute
	requestTimeout = 30 * time.Second
	// answerTimeout leaves time for a profile.
	answerTimeout = 5 * time.Minute
)

// listen serves an address until the listener is closed; none if it is empty.
func listen(address string, handler http.Handler, headerTimeout time.Duration, log *slog.Logger) (*listener, error) {
	if address == "" {
		return &listener{}, nil
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &listener{
		socket: l,
		ended:  make(chan struct{}),
		server: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       max(requestTimeout, headerTimeout),
			WriteTimeout:      answerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          httpErrorLog(log),
		},
	}
	go func() {
		defer close(s.ended)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.err = fmt.Errorf("listening at %s has ended: %w", s.address(), err)
		}
	}()
	return s, nil
}

// address is where it listens, with the real port.
func (l *listener) address() string {
	if l.socket == nil {
		return ""
	}
	return l.socket.Addr().String()
}

// refuse takes no more connections. Those that are there go on, and what comes on
// them is answered: http.Server.Shutdown would drop, without a word, a request that
// was on its way.
func (l *listener) refuse() {
	if l.server == nil {
		return
	}
	_ = l.socket.Close()
	<-l.ended
}

// close ends the listener and the requests that are being answered.
func (l *listener) close() {
	if l.server == nil {
		return
	}
	_ = l.server.Close() // the error is the listener's, which is gone anyway
	<-l.ended
}
