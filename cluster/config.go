package cluster

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
)

// Config says how a node takes part in a cluster. Only Redis must be set. All
// nodes of a cluster must have the same Redis, Prefix, first of GossipKeys and LeaseTTL.
type Config struct {
	// Redis is where rooms live; see [ParseRedisURL]. Who Redis is and how to
	// get in is all that is used of it. Its CredentialsProvider, if set, says the
	// user and the password for each new connection, so that they can change
	// while the node runs; see [Credentials].
	Redis *redis.UniversalOptions
	// Prefix begins the names of all keys in Redis. Default "weft:".
	Prefix string

	// NodeName tells the nodes apart. A node that is restarted in place had better
	// keep its name, and so its share of the rooms; one that replaces another, as
	// a pod of a Deployment does, has its own. Default: the host's name.
	NodeName string
	// GossipListen is where the nodes find each other, host:port for TCP and
	// UDP. Default ":7946".
	GossipListen string
	// GossipAdvertise is the address under which the others reach GossipListen.
	// Default: the machine's private address.
	GossipAdvertise string
	// PeerListen is where this node's death watch listens, host:port for TCP:
	// every node holds a connection to every other one's, whose end proves a
	// death sooner than a lease ends. Port 0 takes a free one. Default ":7947".
	PeerListen string
	// PeerAdvertise is the address, IP or IP:port, under which the others reach
	// PeerListen; it must lead to this node alone. What is left out is the
	// gossip's advertised address, and the port of PeerListen.
	PeerAdvertise string
	// GossipKeys encrypt the gossip, each 16, 24 or 32 bytes in base64: the first
	// encrypts, and what any of them has encrypted can be read. [Node.SetGossipKeys]
	// changes them. Default: no encryption.
	GossipKeys []string
	// Join lists addresses, host:port, of nodes of the cluster, at least one of
	// which should be running. A DNS name stands for all its addresses and is
	// resolved again and again. A node without any, or which finds nobody,
	// begins alone.
	Join []string

	// LeaseTTL is how long a node that is silent still owns its rooms. Default 2s.
	LeaseTTL time.Duration
	// SaveInterval is how often it is looked whether changed rooms should be
	// checkpointed: that is put off while it would write much for few bytes of log,
	// in which the changes are kept. Default 2s.
	SaveInterval time.Duration
	// RoomIdleTimeout is how long a room without sessions stays in the memory of
	// its owner. Default 60s.
	RoomIdleTimeout time.Duration
	// AuthorizeTimeout bounds one token refresh. Default 10s.
	AuthorizeTimeout time.Duration
	// DrainRate is how many sockets a second close when the node leaves; more if the
	// time for that would not be enough. Default 1000.
	DrainRate int
	// Rebalance lets a node with more than 1.25 times the mean of all nodes' sockets
	// close up to 1 % of its own a minute (1012), so that their clients come back
	// to others; not while a node comes or goes. It takes a load balancer that prefers
	// nodes with few sockets, or none in particular.
	Rebalance bool
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

	// OnWait, if set, is called while [Join] waits, with what for: a sentence,
	// after each attempt that has failed. One call is made at a time, from the
	// goroutine of Join.
	OnWait func(error)

	// Logger gets what an operator should know; nil means nothing is logged.
	Logger *slog.Logger
	// Registerer gets the metrics, weft_cluster_…; nil means none.
	Registerer prometheus.Registerer

	keyring *memberlist.Keyring // of GossipKeys; nil: the gossip is not encrypted
	// rejoin is how often lost nodes are looked for, for tests.
	rejoin time.Duration
	// beforeApply breaks the engine, for tests.
	beforeApply func(room.Event)
}

func (c Config) withDefaults() (Config, error) {
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, &room.ConfigError{Field: "cluster.Config.NodeName", Problem: fmt.Errorf("is not set, and the host has no name: %w", err)}
		}
		c.NodeName = name
	}
	if err := c.Validate(); err != nil {
		return c, err
	}
	c.Prefix = cmp.Or(c.Prefix, "weft:")
	c.GossipListen = cmp.Or(c.GossipListen, ":7946")
	c.PeerListen = cmp.Or(c.PeerListen, ":7947")
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 2*time.Second)
	c.SaveInterval = cmp.Or(c.SaveInterval, 2*time.Second)
	c.RoomIdleTimeout = cmp.Or(c.RoomIdleTimeout, time.Minute)
	c.DrainRate = cmp.Or(c.DrainRate, 1000)
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
