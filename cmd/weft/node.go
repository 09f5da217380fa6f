package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// sharedRooms are rooms that this node shares with others.
type sharedRooms struct {
	clusterNode
	within time.Duration // drop may take so long
	log    *slog.Logger
}

// clusterNode is what is needed of a [cluster.Node].
type clusterNode interface {
	wsconn.Rooms
	Leave(ctx context.Context, c protocol.Close) error
}

// joinCluster takes part in the cluster that is set. The error is about a
// setting if Redis answers and somebody has to see to it first. What may pass by
// itself is waited for, as long as is set; /readyz says what it is.
func joinCluster(ctx context.Context, o *settings.Server, h *health, files *rotation, metrics prometheus.Registerer, log *slog.Logger) (*sharedRooms, error) {
	redis.SetLogger(redisLog{log}) // the process has one
	ctx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, fmt.Errorf("start-timeout is over, which is %s", settings.ShortDuration(o.StartTimeout)))
	defer cancel()
	config := o.Cluster
	config.Logger, config.Registerer, config.OnWait = log, metrics, h.wait
	var logins *cluster.Credentials
	if o.RedisURLFile != nil {
		logins = cluster.NewCredentials(config.Redis)
	}
	node, err := cluster.Join(ctx, config)
	if errors.Is(err, cluster.ErrUnfit) {
		return nil, settings.Wrong(o.RedisSetting(), "%w", err)
	}
	if err != nil {
		return nil, err
	}
	files.add(o.GossipKeyFile, func(content []byte) error { return node.SetGossipKeys(settings.Lines(content)) })
	files.add(o.RedisURLFile, func(content []byte) error { return setLogin(logins, config.Redis, content) })
	h.watch(func() []string {
		if node.Ready() {
			return nil
		}
		return []string{"the lease is not valid: Redis does not answer in time"}
	})
	h.mention(node.Troubles)
	if err := wsconn.RegisterRooms(metrics, func() room.Stats { return node.Stats().Stats }); err != nil {
		return nil, errors.Join(err, node.Leave(ctx, protocol.CloseRestart))
	}
	return &sharedRooms{node, o.DrainTimeout, log}, nil
}

// drain hands the rooms to the other nodes and then closes the sockets, which the
// node does at the pace that it is configured with.
func (s *sharedRooms) drain(ctx context.Context, _ *wsconn.Server) error {
	if err := s.Leave(ctx, protocol.CloseRestart); err != nil {
		return fmt.Errorf("leaving the cluster, which the other nodes will notice by themselves: %w", err)
	}
	return nil
}

func (s *sharedRooms) finish(within time.Duration, sockets *wsconn.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	awaitSockets(ctx, sockets, s.log)
	return nil
}

func (s *sharedRooms) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.within)
	defer cancel()
	return s.drain(ctx, nil)
}

// setLogin takes user and password from the URL of the Redis that is in use.
func setLogin(logins *cluster.Credentials, inUse *redis.UniversalOptions, content []byte) error {
	now, err := settings.RedisURL(content)
	if err != nil {
		return err
	}
	if !slices.Equal(now.Addrs, inUse.Addrs) || now.DB != inUse.DB || now.MasterName != inUse.MasterName {
		return errors.New("names another Redis, which takes a restart of all nodes")
	}
	if (now.TLSConfig == nil) != (inUse.TLSConfig == nil) || now.IsClusterMode != inUse.IsClusterMode ||
		now.SentinelUsername != inUse.SentinelUsername || now.SentinelPassword != inUse.SentinelPassword {
		return errors.New("changes more than the user and the password of Redis, which takes a restart of this node")
	}
	logins.Set(now.Username, now.Password)
	return nil
}
