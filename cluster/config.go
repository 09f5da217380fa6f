package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
)

// Config says how a node takes part in a cluster. Only Redis must be set. All
// nodes of a cluster must have the same Redis, Prefix, GossipKey and LeaseTTL.
type Config struct {
	// Redis is where rooms live; see [ParseRedisURL]. Who Redis is and how to
	// get in is all that is used of it.
	Redis *redis.UniversalOptions
	// Prefix begins the names of all keys in Redis. Default "weft:".
	Prefix string

	// NodeName tells the nodes apart; a restarted node should have its old
	// name. Default: the host's name.
	NodeName string
	// GossipListen is where the nodes find each other, host:port for TCP and
	// UDP. Default ":7946".
	GossipListen string
	// GossipAdvertise is the address under which the others reach GossipListen.
	// Default: the machine's private address.
	GossipAdvertise string
	// GossipKey encrypts the gossip: 16, 24 or 32 bytes in base64. Default: no
	// encryption.
	GossipKey string
	// Join lists addresses, host:port, of nodes of the cluster, at least one of
	// which should be running. A DNS name stands for all its addresses and is
	// resolved again and again. A node without any, or which finds nobody,
	// begins alone.
	Join []string

	// LeaseTTL is how long a node that is silent still owns its rooms. Default 2s.
	LeaseTTL time.Duration
	// SaveInterval is how often changed rooms are checkpointed. Default 2s.
	SaveInterval time.Duration
	// RoomIdleTimeout is how long a room without sessions stays in the memory of
	// its owner. Default 60s.
	RoomIdleTimeout time.Duration
	// AuthorizeTimeout bounds one token refresh. Default 10s.
	AuthorizeTimeout time.Duration
	// Limits bounds what a room holds.
	Limits room.Limits

	// MaxSessionBytes is how much of one session may wait for Redis and its
	// room's owner before its socket is read no more. Default 1 MiB.
	MaxSessionBytes int
	// MaxBufferBytes is the same for all sessions of a node. Default 64 MiB.
	MaxBufferBytes int
	// MaxLogBytes bounds the log of one of the 271 partitions in Redis, which may
	// have one message more; if an owner stalls so long that it is full, the
	// sessions wait. Default 32 MiB.
	MaxLogBytes int
	// MaxOutBytes bounds what is kept in Redis for a node that does not read it, but
	// for one entry of up to 1 MiB;
	// beyond, it is dropped, and the node's sockets concerned close. Default 64 MiB.
	MaxOutBytes int

	// OnTokenRefresh authorizes sessions anew that were connected without a
	// function for it; see [room.Config].
	OnTokenRefresh func(room.TokenRefresh) (room.Grant, error)

	// Logger gets what an operator should know; nil means nothing is logged.
	Logger *slog.Logger
	// Registerer gets the metrics, weft_cluster_…; nil means none.
	Registerer prometheus.Registerer

	// rejoin is how often lost nodes are looked for, for tests.
	rejoin time.Duration
	// beforeApply breaks the engine, for tests.
	beforeApply func(room.Event)
}

func (c Config) withDefaults() (Config, error) {
	if c.Redis == nil {
		return c, errors.New("cluster: Config.Redis is not set")
	}
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("the host has no name, set a node name: %w", err)
		}
		c.NodeName = name
	}
	if strings.ContainsAny(c.NodeName, "{}") || len(c.NodeName) > maxNodeName {
		return c, fmt.Errorf("node name %q: at most %d bytes, without braces", c.NodeName, maxNodeName)
	}
	c.Prefix = cmp.Or(c.Prefix, "weft:")
	if strings.ContainsAny(c.Prefix, "{}") {
		return c, fmt.Errorf("prefix %q: must not have braces", c.Prefix)
	}
	c.GossipListen = cmp.Or(c.GossipListen, ":7946")
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 2*time.Second)
	if c.LeaseTTL < minLease {
		return c, fmt.Errorf("lease TTL %s: must be at least %s", c.LeaseTTL, minLease)
	}
	c.SaveInterval = cmp.Or(c.SaveInterval, 2*time.Second)
	c.RoomIdleTimeout = cmp.Or(c.RoomIdleTimeout, time.Minute)
	c.AuthorizeTimeout = cmp.Or(c.AuthorizeTimeout, 10*time.Second)
	c.MaxSessionBytes = cmp.Or(c.MaxSessionBytes, 1<<20)
	c.MaxBufferBytes = cmp.Or(c.MaxBufferBytes, 64<<20)
	c.MaxLogBytes = cmp.Or(c.MaxLogBytes, 32<<20)
	c.MaxOutBytes = cmp.Or(c.MaxOutBytes, 64<<20)
	c.Limits = c.Limits.WithDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

const (
	maxNodeName = 200
	minLease    = 200 * time.Millisecond
)
