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
	"github.com/urfave/cli/v3"

	"github.com/weftsync/weft/cmd/weft/playground"
	"github.com/weftsync/weft/wsconn"
)

func (p *program) serve() *cli.Command {
	o := &options{}
	settings := o.settings()
	file := &configFile{known: settings}
	return p.command("serve", "serve rooms to browsers", file, settings, func(ctx context.Context) error {
		if err := o.check(); err != nil {
			return err
		}
		log := newLogger(p.stderr, o.logLevel, o.logFormat)
		for _, name := range p.env.unknown(append(settings, file.setting())) {
			log.Warn("an environment variable begins like a setting and is none", "name", name)
		}
		err := serve(ctx, o, log)
		if err == nil || errors.Is(err, errSetting) {
			return err
		}
		log.Error("weft ends", "error", err)
		return errReported
	})
}

// serve runs a server until ctx ends. It returns nil if it then has closed
// every socket and saved every room, or handed it to another node.
func serve(ctx context.Context, o *options, log *slog.Logger) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	var h health
	admin, err := listen(o.adminListen, adminHandler(&h, metrics, o.pprof), o.handshakeTimeout, log)
	if err != nil {
		return fmt.Errorf("admin-listen: %w", err)
	}
	defer admin.close()

	auth, err := o.auth.authorizer(ctx, log)
	if err != nil {
		return err
	}
	defer auth.Close()
	rooms, err := openRooms(ctx, o, &h, metrics, log)
	if err != nil {
		if ctx.Err() != nil {
			log.Info("weft has ended before it was ready", "error", err)
			return nil
		}
		return err
	}
	if o.dev {
		warnDev(o.listen, log)
	}
	sockets, err := newSockets(o, rooms, auth, metrics, log)
	if err != nil {
		return errors.Join(err, rooms.drop())
	}

	var page http.Handler
	if o.dev {
		page = playground.Handler()
	}
	public, err := listen(o.listen, publicHandler(sockets, page, log), o.handshakeTimeout, log)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), rooms.end(sockets))
	}
	defer public.close()

	h.set(serving)
	log.Info("ready", "listen", public.address(), "admin", admin.address(), "store", o.keeper())
	select {
	case <-ctx.Done():
		log.Info("shutting down: sockets are closed and rooms kept; a second signal ends weft at once")
	case <-public.ended:
		err = public.err
	case <-admin.ended:
		err = admin.err
	}
	h.set(shuttingDown)
	public.refuse()
	if err = errors.Join(err, rooms.end(sockets)); err == nil {
		log.Info("weft has ended in order", "store", o.keeper())
	}
	return err
}

func newSockets(o *options, rooms wsconn.Rooms, auth closingAuthorizer, metrics *prometheus.Registry, log *slog.Logger) (*wsconn.Server, error) {
	gather := o.gather
	if gather == 0 {
		gather = -1 // there, 0 is the default
	}
	return wsconn.NewServer(wsconn.Config{
		Rooms:            rooms,
		Authorizer:       auth,
		MaxMessageBytes:  o.maxMessageBytes,
		MaxQueueBytes:    o.maxQueueBytes,
		MaxConnections:   o.maxConnections,
		GatherDelay:      gather,
		PingInterval:     o.pingInterval,
		PongTimeout:      o.pongTimeout,
		HandshakeTimeout: o.handshakeTimeout,
		WriteTimeout:     o.writeTimeout,
		TokenGrace:       o.tokenGrace,
		AllowedOrigins:   o.allowedOrigins,
		Logger:           log,
		Registerer:       metrics,
	})
}

func warnDev(address string, log *slog.Logger) {
	const text = "development mode: any token may read and write every room"
	if isLoopback(address) {
		log.Warn(text)
		return
	}
	log.Warn(text+", and so may everyone who can reach this address: set --listen 127.0.0.1:8080 to keep it to this machine", "listen", address)
}

// listener is an HTTP server at one address. The zero listener is at none.
type listener struct {
	server *http.Server
	addr   net.Addr
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
		addr:  l.Addr(),
		ended: make(chan struct{}),
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
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.err = fmt.Errorf("listening at %s has ended: %w", s.addr, err)
		}
	}()
	return s, nil
}

// address is where it listens, with the real port.
func (l *listener) address() string {
	if l.addr == nil {
		return ""
	}
	return l.addr.String()
}

// refuse takes no more connections. Requests that are being answered go on.
func (l *listener) refuse() {
	if l.server == nil {
		return
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.server.Shutdown(done) // it closes the listener, and then waits for nothing
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
