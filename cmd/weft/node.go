package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// sharedRooms are rooms that this node shares with others.
type sharedRooms struct {
	clusterNode
	drain, within time.Duration // to hand rooms over, and to end what is left
	log           *slog.Logger
}

// clusterNode is what is needed of a [cluster.Node].
type clusterNode interface {
	wsconn.Rooms
	Leave(ctx context.Context, c protocol.Close) error
}

// joinCluster takes part in the cluster that is set. The error is about a
// setting if Redis answers and somebody has to see to it first; else trying
// again may help.
func joinCluster(ctx context.Context, o *options, h *health, metrics prometheus.Registerer, log *slog.Logger) (*sharedRooms, error) {
	server, err := cluster.ParseRedisURL(o.cluster.redisURL)
	if err != nil {
		return nil, badSetting("redis-url", "%w", err)
	}
	redis.SetLogger(redisLog{log}) // the process has one
	node, err := cluster.Join(ctx, cluster.Config{
		Redis:           server,
		Prefix:          o.cluster.redisPrefix,
		NodeName:        o.cluster.nodeName,
		GossipListen:    o.cluster.gossipListen,
		GossipAdvertise: o.cluster.gossipAdvertise,
		GossipKey:       o.cluster.gossipKey,
		Join:            o.cluster.join,

		LeaseTTL:         o.cluster.leaseTTL,
		SaveInterval:     o.saveInterval,
		RoomIdleTimeout:  o.roomIdleTimeout,
		AuthorizeTimeout: o.handshakeTimeout,
		Limits:           o.roomLimits(),
		MaxSessionBytes:  o.cluster.maxSessionBuffer,
		MaxBufferBytes:   o.cluster.maxNodeBuffer,
		MaxLogBytes:      o.cluster.maxLogBytes,
		MaxOutBytes:      o.cluster.maxOutBytes,

		Logger:     log,
		Registerer: metrics,
	})
	if errors.Is(err, cluster.ErrUnfit) {
		return nil, badSetting("redis-url", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	h.watch(func() []string {
		if node.Ready() {
			return nil
		}
		return []string{"the lease is not valid: Redis does not answer in time"}
	})
	if err := wsconn.RegisterRooms(metrics, func() room.Stats { return node.Stats().Stats }); err != nil {
		return nil, errors.Join(err, node.Leave(ctx, protocol.CloseRestart))
	}
	return &sharedRooms{node, o.cluster.drainTimeout, o.shutdownTimeout, log}, nil
}

// end hands the rooms to the other nodes and then closes the sockets, which the
// node does, a few at a time, and cuts off what is left of them.
func (s *sharedRooms) end(sockets *wsconn.Server) error {
	err := s.drop()
	ctx, cancel := context.WithTimeout(context.Background(), s.within)
	defer cancel()
	if err := sockets.Shutdown(ctx, protocol.CloseRestart); err != nil {
		s.log.Warn("some sockets did not close in time and were cut off", "error", err)
	}
	return err
}

func (s *sharedRooms) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	if err := s.Leave(ctx, protocol.CloseRestart); err != nil {
		return fmt.Errorf("leaving the cluster, which the other nodes will notice by themselves: %w", err)
	}
	return nil
}
