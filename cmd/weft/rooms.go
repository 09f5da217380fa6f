package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// roomHost holds the rooms: this process and its storage, or a node of a
// cluster.
type roomHost interface {
	wsconn.Rooms
	// end closes every socket and sees to it that every room is kept, within the
	// times that are set. It is called once.
	end(sockets *wsconn.Server) error
	// drop takes the place of end if there never were sockets.
	drop() error
}

// openRooms makes what the settings choose. ctx bounds only that.
func openRooms(ctx context.Context, o *options, h *health, metrics *prometheus.Registry, log *slog.Logger) (roomHost, error) {
	if o.cluster.on() {
		return joinCluster(ctx, o, h, metrics, log)
	}
	return newLocalRooms(o, h, metrics, log)
}

// localRooms are rooms of this process alone.
type localRooms struct {
	*room.Manager
	storage openStorage
	within  time.Duration // end may take so long
	log     *slog.Logger
}

func newLocalRooms(o *options, h *health, metrics *prometheus.Registry, log *slog.Logger) (*localRooms, error) {
	storage, err := openStore(o)
	if err != nil {
		return nil, err
	}
	rooms := room.NewManager(room.Config{
		Storage:          storage,
		SaveInterval:     o.saveInterval,
		IdleTimeout:      o.roomIdleTimeout,
		AuthorizeTimeout: o.handshakeTimeout,
		MaxWaitingBytes:  o.maxQueueBytes,
		Limits:           o.roomLimits(),
		Logger:           log,
	})
	h.watch(func() []string { return unsavedLines(rooms.Stats().Unsaved) })
	l := &localRooms{rooms, storage, o.shutdownTimeout, log}
	if err := wsconn.RegisterRooms(metrics, rooms.Stats); err != nil {
		return nil, errors.Join(err, l.drop())
	}
	return l, nil
}

func (l *localRooms) end(sockets *wsconn.Server) error {
	return shutDown(l.within, l.Manager, sockets, l.storage, l.log)
}

func (l *localRooms) drop() error { return l.storage.close() }

func (o *options) roomLimits() room.Limits {
	return room.Limits{
		Limits:           protocol.Limits{MaxMessageBytes: o.maxMessageBytes, MaxBufferLength: o.maxBufferLength},
		MaxDocumentBytes: o.maxDocumentBytes,
		MaxPresenceBytes: o.maxPresenceBytes,
		MaxSessions:      o.maxSessionsPerRoom,
	}
}
