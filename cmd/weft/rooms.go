package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// roomHost holds the rooms: this process and its storage, or a node of a
// cluster.
type roomHost interface {
	wsconn.Rooms
	// drain closes the sockets at a pace; a node of a cluster hands its rooms over
	// before. No new sockets come meanwhile.
	drain(ctx context.Context, sockets *wsconn.Server) error
	// finish closes the sockets that are left and keeps the rooms that are. It is
	// called once, after drain.
	finish(within time.Duration, sockets *wsconn.Server) error
	// drop takes the place of both if there never were sockets.
	drop() error
}

// openRooms makes what the settings choose. ctx bounds only that.
func openRooms(ctx context.Context, o *settings.Server, h *health, files *rotation, metrics *prometheus.Registry, log *slog.Logger) (roomHost, error) {
	if o.Shared() {
		return joinCluster(ctx, o, h, files, metrics, log)
	}
	return newLocalRooms(o, h, metrics, log)
}

// localRooms are rooms of this process alone.
type localRooms struct {
	*room.Manager
	storage openStorage
	rate    int // of sockets that are closed in a second
	log     *slog.Logger
}

func newLocalRooms(o *settings.Server, h *health, metrics *prometheus.Registry, log *slog.Logger) (*localRooms, error) {
	storage, err := openStore(o)
	if err != nil {
		return nil, err
	}
	config := o.Rooms
	config.Storage, config.Logger = storage, log
	rooms := room.NewManager(config)
	h.watch(func() []string { return unsavedLines(rooms.Stats().Unsaved) })
	l := &localRooms{rooms, storage, o.Cluster.DrainRate, log}
	if err := wsconn.RegisterRooms(metrics, rooms.Stats); err != nil {
		return nil, errors.Join(err, l.drop())
	}
	return l, nil
}

func (l *localRooms) drain(ctx context.Context, sockets *wsconn.Server) error {
	if err := sockets.Drain(ctx, l.rate, protocol.CloseRestart); err != nil {
		l.log.Warn("there was no time left to close the sockets at their pace: the rest closes at once", "error", err)
	}
	return nil
}

func (l *localRooms) finish(within time.Duration, sockets *wsconn.Server) error {
	return saveAll(within, l.Manager, sockets, l.storage, l.log)
}

func (l *localRooms) drop() error { return l.storage.close() }

// keeper names what keeps the rooms.
func keeper(o *settings.Server) string {
	if o.Shared() {
		return "redis"
	}
	return o.Store
}
