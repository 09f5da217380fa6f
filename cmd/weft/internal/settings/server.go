package settings

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// Server is what can be set of `weft serve`. Most of it goes into the configs of
// the packages that do the work.
type Server struct {
	Listen, AdminListen string
	Pprof, Dev          bool

	Store, DataDir string
	Rooms          room.Config    // of one node
	Cluster        cluster.Config // its Redis is nil on one node
	Sockets        wsconn.Config
	Auth           Auth

	StartTimeout, DrainTimeout, ShutdownTimeout time.Duration
	LogLevel, LogFormat                         string

	// Files that are read again when they change; nil if they are not set.
	SecretFile, GossipKeyFile, RedisURLFile *File

	files struct{ gossipKeys, redisURL, redisCA string }
	redis string // which setting names it
}

// RedisSetting is the name of the setting that names the Redis, once the settings have been
// read.
func (o *Server) RedisSetting() string { return o.redis }

// The kinds of storage.
const (
	StoreFile   = "file"
	StoreMemory = "memory"
)

// Table lists the settings, which fill o in.
func (o *Server) Table() Table {
	const mib = 1 << 20
	limits, shared, sockets := &o.Rooms.Limits, &o.Cluster, &o.Sockets
	return Table{
		{"Listening", []*Setting{
			{Name: "listen", Kind: Address(&o.Listen), Default: ":8080",
				Usage: "where browsers connect; port 0 takes a free port, which the log names"},
			{Name: "admin-listen", Kind: AddressOrNone(&o.AdminListen), CanEmpty: true, Default: "127.0.0.1:9090",
				Usage: "where /livez, /readyz and /metrics are; empty for nowhere"},
			{Name: "pprof", Kind: Switch(&o.Pprof), Default: "false",
				Usage: "serve /debug/pprof at the admin address"},
			{Name: "allowed-origins", Kind: List(&sockets.AllowedOrigins, "ORIGIN,…"), Field: "wsconn.Config.AllowedOrigins",
				Usage: "origins of the pages that may connect, such as https://app.example.com; none given means any"},
			{Name: "dev", Kind: Switch(&o.Dev), Default: "false",
				Usage: "for development only: any token may read and write every room, and / is the playground"},
		}},
		{"Storage", []*Setting{
			{Name: "store", Kind: Choice(&o.Store, StoreFile, StoreMemory), Default: StoreFile, Only: OneNode,
				Usage: "where rooms are kept; memory forgets them when weft ends"},
			{Name: "data-dir", Kind: Filled(&o.DataDir, "FOLDER"), Default: "./data", Only: OneNode,
				Usage: "folder of the file store, created if need be"},
			{Name: "save-interval", Kind: Duration(&o.Rooms.SaveInterval, shortest), Default: "2s",
				Usage: "how long after a change a room is saved"},
			{Name: "room-idle-timeout", Kind: Duration(&o.Rooms.IdleTimeout, shortest), Default: "1m",
				Usage: "how long a room without clients stays in memory"},
		}},
		{"Cluster", []*Setting{
			{Name: "redis-url", Kind: Parsed(&shared.Redis, "URL", parseRedisURL), Secret: true, Field: "cluster.Config.Redis",
				Usage: "share rooms with other nodes through this Redis, which then keeps them: redis://user:password@host:6379/0, rediss:// with TLS, redis://host1,host2,host3 for a Redis Cluster (one host is enough with ?cluster=true), redis+sentinel://host1,host2/mymaster through Sentinels, unix:///run/redis.sock"},
			{Name: "redis-url-file", Kind: Text(&o.files.redisURL, "FILE"), Field: "cluster.Config.Redis",
				Usage: "file with the redis-url. It is read again when it changes: new connections use the new user and password; nothing else in it may change"},
			{Name: "redis-ca-file", Kind: Text(&o.files.redisCA, "FILE"), Only: InCluster,
				Usage: "certificates in PEM of the authorities that vouch for Redis, instead of the system's; for rediss://. Read at the start only"},
			{Name: "redis-prefix", Kind: Filled(&shared.Prefix, "TEXT"), Default: "weft:", Only: InCluster, Field: "cluster.Config.Prefix",
				Usage: "prefix of all keys in Redis; clusters with different prefixes can share a Redis"},
			{Name: "node-name", Kind: Text(&shared.NodeName, "NAME"), Only: InCluster, Field: "cluster.Config.NodeName",
				Usage: "name of this node, which no other may have; a node that restarts in place should keep its name; without it, the host's name"},
			{Name: "join", Kind: List(&shared.Join, "HOST:PORT,…"), Only: InCluster, Field: "cluster.Config.Join",
				Usage: "where the gossip of other nodes is, at least one of which should run; a DNS name stands for all its addresses, and is looked up again and again. The first node needs none"},
			{Name: "gossip-listen", Kind: Address(&shared.GossipListen), Default: ":7946", Only: InCluster, Field: "cluster.Config.GossipListen",
				Usage: "where the nodes find each other, over TCP and UDP"},
			{Name: "gossip-advertise", Kind: Text(&shared.GossipAdvertise, "IP[:PORT]"), Only: InCluster, Field: "cluster.Config.GossipAdvertise",
				Usage: "where the other nodes reach this one's gossip; without it, the machine's private address"},
			{Name: "peer-listen", Kind: Address(&shared.PeerListen), Default: ":7947", Only: InCluster, Field: "cluster.Config.PeerListen",
				Usage: "where the nodes hold TCP connections to each other, whose end shows at once that a node has died"},
			{Name: "peer-advertise", Kind: Text(&shared.PeerAdvertise, "IP[:PORT]"), Only: InCluster, Field: "cluster.Config.PeerAdvertise",
				Usage: "where the other nodes reach this one's peer-listen; without it, the gossip's address and the port of peer-listen"},
			{Name: "gossip-key", Kind: Parsed(&shared.GossipKeys, "KEY", oneOrNone), Secret: true, Only: InCluster, Field: "cluster.Config.GossipKeys",
				Usage: "encrypts the gossip, the same on all nodes: 16, 24 or 32 bytes in base64, as `openssl rand -base64 32` makes them; without it, anyone who reaches the port can take part. Other users of the machine can see flags, so prefer the variable or the file"},
			{Name: "gossip-key-file", Kind: Text(&o.files.gossipKeys, "FILE"), Only: InCluster, Field: "cluster.Config.GossipKeys",
				Usage: "file with such keys, one a line: the first encrypts, and what any of them has encrypted is understood, so that a key can be replaced while the nodes run. It is read again when it changes"},
			{Name: "lease-ttl", Kind: Duration(&shared.LeaseTTL, shortest), Default: "2s", Only: InCluster, Field: "cluster.Config.LeaseTTL",
				Usage: "how long a node that has fallen silent keeps its rooms before the others take them over; the same on all nodes"},
			{Name: "rebalance", Kind: Switch(&shared.Rebalance), Default: "false", Only: InCluster,
				Usage: "while this node has more than 1.25 times the mean of all nodes' sockets, close up to 1 % of its own a minute; their clients come back on the node that the load balancer chooses. Never while a node drains"},
			{Name: "max-session-buffer", Kind: Size(&shared.MaxSessionBytes, 1<<10), Default: "1MiB", Only: InCluster,
				Usage: "most that one client may have waiting for Redis; beyond it nothing more is read from the client until Redis answers"},
			{Name: "max-node-buffer", Kind: Size(&shared.MaxBufferBytes, mib), Default: "64MiB", Only: InCluster,
				Usage: "most that all clients of this node together may have waiting for Redis"},
			{Name: "max-log-bytes", Kind: Size(&shared.MaxLogBytes, mib), Default: "32MiB", Only: InCluster,
				Usage: "largest log of one of the 271 parts of the rooms in Redis; while it is full, because its owner stalls, the clients wait"},
			{Name: "max-out-bytes", Kind: Size(&shared.MaxOutBytes, mib), Default: "64MiB", Only: InCluster,
				Usage: "most that Redis keeps for a node that does not fetch it; beyond it the clients concerned are closed, come back, and get what they missed"},
		}},
		{"Limits", []*Setting{
			{Name: "max-message-bytes", Kind: Size(&limits.MaxMessageBytes, 1<<10), Default: "32MiB",
				Usage: "longest message from a client; a client may send a whole document in one"},
			{Name: "max-buffer-length", Kind: Count(&limits.MaxBufferLength, 1), Default: "1000000",
				Usage: "most elements that an array changed by a delta may have"},
			{Name: "max-document-bytes", Kind: Size(&limits.MaxDocumentBytes, 1<<10), Default: "256MiB",
				Usage: "largest document of a room"},
			{Name: "max-presence-bytes", Kind: Size(&limits.MaxPresenceBytes, 1<<10), Default: "4MiB",
				Usage: "largest presence of a client"},
			{Name: "max-sessions-per-room", Kind: Count(&limits.MaxSessions, 1), Default: "10000",
				Usage: "most sockets in a room"},
			{Name: "max-connections", Kind: Count(&sockets.MaxConnections, 1), Default: "100000",
				Usage: "most sockets in all"},
			{Name: "accept-rate", Kind: Count(&sockets.AcceptRate, 0), Default: "0",
				Usage: "how many clients a second are authorized; the others are told with 503 to come back later; 0 for any number"},
			{Name: "max-queue-bytes", Kind: Size(&sockets.MaxQueueBytes, 1<<10), Default: "8MiB",
				Usage: "most that may wait for a slow client; beyond it the client is closed, comes back, and gets what it missed"},
		}},
		{"Timing", []*Setting{
			{Name: "gather", Kind: Duration(&sockets.GatherDelay, 0), Default: "4ms",
				Usage: "how long at most messages for a client are gathered into one write, after one that went out at once: not at all up to 20,000 messages a second in all, for the whole time from 40,000; 0 turns this off"},
			{Name: "ping-interval", Kind: Duration(&sockets.PingInterval, shortest), Default: "25s",
				Usage: "time between two pings"},
			{Name: "pong-timeout", Kind: Duration(&sockets.PongTimeout, shortest), Default: "10s",
				Usage: "how long a client may take to answer a ping"},
			{Name: "handshake-timeout", Kind: Duration(&sockets.HandshakeTimeout, shortest), Default: "10s",
				Usage: "how long a client may take to send its request, and an authorizer to decide"},
			{Name: "write-timeout", Kind: Duration(&sockets.WriteTimeout, shortest), Default: "10s",
				Usage: "how long a write to a client may make no progress"},
			{Name: "token-grace", Kind: Duration(&sockets.TokenGrace, shortest), Default: "25s",
				Usage: "how long a client may stay without a new token after its token has expired"},
			{Name: "max-connection-age", Kind: Duration(&sockets.MaxConnectionAge, 0), Default: "0s",
				Usage: "how old a socket may get, give or take a tenth; then it is closed, and its client comes back on the node that the load balancer chooses; 0 for any age"},
		}},
		{"Start and end", []*Setting{
			{Name: "start-timeout", Kind: Duration(&o.StartTimeout, shortest), Default: "1m", Only: InCluster,
				Usage: "how long a starting node waits for Redis before it gives up"},
			{Name: "drain-timeout", Kind: Duration(&o.DrainTimeout, shortest), Default: "45s",
				Usage: "how long a server that is shutting down may take to hand its rooms to other nodes and to close its sockets at a pace; --shutdown-timeout comes on top"},
			{Name: "drain-rate", Kind: Count(&o.Cluster.DrainRate, 1), Default: "1000",
				Usage: "how many sockets a second a server that is shutting down closes; more if drain-timeout would be too short"},
			{Name: "shutdown-timeout", Kind: Duration(&o.ShutdownTimeout, shortest), Default: "30s",
				Usage: "how long it may take after that to save rooms"},
		}},
		{"Logging", []*Setting{
			{Name: "log-level", Kind: Choice(&o.LogLevel, "debug", "info", "warn", "error"), Default: "info",
				Usage: "lowest level that is logged"},
			{Name: "log-format", Kind: Choice(&o.LogFormat, "text", "json"), Default: "text",
				Usage: "format of the log, which goes to standard error"},
		}},
		{"Authorization (one of the first five)", o.Auth.settings()},
	}
}

func parseRedisURL(text string) (*redis.UniversalOptions, error) {
	if text == "" {
		return nil, nil
	}
	return cluster.ParseRedisURL(text)
}

func oneOrNone(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	return []string{text}, nil
}

// Shared reports whether rooms are shared with other nodes.
func (o *Server) Shared() bool { return o.Cluster.Redis != nil }

// finish derives what is set in one place and wanted in several.
func (o *Server) finish() {
	o.Rooms.AuthorizeTimeout = o.Sockets.HandshakeTimeout
	o.Rooms.MaxWaitingBytes = o.Sockets.MaxQueueBytes
	o.Cluster.AuthorizeTimeout = o.Sockets.HandshakeTimeout
	o.Cluster.SaveInterval = o.Rooms.SaveInterval
	o.Cluster.RoomIdleTimeout = o.Rooms.IdleTimeout
	o.Cluster.Limits = o.Rooms.Limits
	o.Sockets.MaxMessageBytes = o.Rooms.Limits.MaxMessageBytes
	if o.Sockets.GatherDelay == 0 {
		o.Sockets.GatherDelay = -1 // there, 0 is the default
	}
}
