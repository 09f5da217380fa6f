package main

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// options are the settings of `weft serve`.
type options struct {
	listen, adminListen string
	pprof, dev          bool

	store, dataDir                string
	saveInterval, roomIdleTimeout time.Duration

	maxMessageBytes, maxBufferLength   int
	maxDocumentBytes, maxPresenceBytes int
	maxSessionsPerRoom                 int
	maxConnections, maxQueueBytes      int

	gather                         time.Duration
	pingInterval, pongTimeout      time.Duration
	handshakeTimeout, writeTimeout time.Duration
	tokenGrace, shutdownTimeout    time.Duration
	allowedOrigins                 []string
	logLevel, logFormat            string
	cluster                        clusterOptions
	auth                           authOptions

	local []*setting // what means something without a cluster only
}

const (
	storeFile   = "file"
	storeMemory = "memory"
)

// shortest is the least that a duration can be set to where none at all makes
// no sense.
const shortest = time.Millisecond

// settings lists the settings, which fill o in. It sets o to the defaults.
func (o *options) settings() []*setting {
	o.local = []*setting{
		choiceSetting("store", &o.store, storeFile, "where rooms are kept; memory forgets them when weft ends", storeFile, storeMemory),
		textSetting("data-dir", &o.dataDir, "./data", "FOLDER", "folder of the file store, created if need be"),
	}
	return slices.Concat(
		in("Listening",
			addressSetting("listen", &o.listen, ":8080", "where browsers connect; port 0 takes a free one, which the log names", false),
			addressSetting("admin-listen", &o.adminListen, "127.0.0.1:9090", "where /livez, /readyz and /metrics are; empty for nowhere", true),
			switchSetting("pprof", &o.pprof, "serve /debug/pprof at the admin address"),
			listSetting("allowed-origins", &o.allowedOrigins, "ORIGIN,…", "origins of the pages that may connect, such as https://app.example.com; none given means any", checkOrigin),
			switchSetting("dev", &o.dev, "for development only: any token may read and write every room, and / is the playground"),
		),
		in("Storage", append(o.local,
			durationSetting("save-interval", &o.saveInterval, 2*time.Second, shortest, "how long after a change a room is saved"),
			durationSetting("room-idle-timeout", &o.roomIdleTimeout, time.Minute, shortest, "how long a room without clients stays in memory"),
		)...),
		o.cluster.settings(),
		in("Limits",
			sizeSetting("max-message-bytes", &o.maxMessageBytes, 32<<20, 1<<10, "longest message from a client; a client may send a whole document in one"),
			countSetting("max-buffer-length", &o.maxBufferLength, 1_000_000, 1, "most elements that an array changed by a delta may have"),
			sizeSetting("max-document-bytes", &o.maxDocumentBytes, 256<<20, 1<<10, "largest document of a room"),
			sizeSetting("max-presence-bytes", &o.maxPresenceBytes, 4<<20, 1<<10, "largest presence of a client"),
			countSetting("max-sessions-per-room", &o.maxSessionsPerRoom, 10_000, 1, "most sockets in a room"),
			countSetting("max-connections", &o.maxConnections, 100_000, 1, "most sockets in all"),
			sizeSetting("max-queue-bytes", &o.maxQueueBytes, 8<<20, 1<<10, "most that may wait for a slow client; beyond it the client is closed, comes back, and gets what it missed"),
		),
		in("Timing",
			durationSetting("gather", &o.gather, 4*time.Millisecond, 0, "how long messages for a client are gathered into one write, after one that went out at once; 0 for not at all"),
			durationSetting("ping-interval", &o.pingInterval, 25*time.Second, shortest, "time between two pings"),
			durationSetting("pong-timeout", &o.pongTimeout, 10*time.Second, shortest, "how long a client may take to answer a ping"),
			durationSetting("handshake-timeout", &o.handshakeTimeout, 10*time.Second, shortest, "how long a client may take to send its request, and its authorization to be decided"),
			durationSetting("write-timeout", &o.writeTimeout, 10*time.Second, shortest, "how long a write to a client may make no progress"),
			durationSetting("token-grace", &o.tokenGrace, 25*time.Second, shortest, "how long after its token has expired a client may stay without a new one"),
			durationSetting("shutdown-timeout", &o.shutdownTimeout, 30*time.Second, shortest, "how long the end may take, in which rooms are saved"),
		),
		in("Logging",
			choiceSetting("log-level", &o.logLevel, "info", "least that is logged", "debug", "info", "warn", "error"),
			choiceSetting("log-format", &o.logFormat, "text", "how it is logged, to the standard error", "text", "json"),
		),
		o.auth.settings(),
	)
}

// in puts settings under a heading of the help.
func in(heading string, settings ...*setting) []*setting {
	settings[0].heading = heading
	return settings
}

// keeper names what keeps the rooms.
func (o *options) keeper() string {
	if o.cluster.on() {
		return "redis"
	}
	return o.store
}

// check finds what no setting can find by itself.
func (o *options) check() error {
	if o.pprof && o.adminListen == "" {
		return badSetting("pprof", "needs an admin-listen address, which is empty")
	}
	if err := o.cluster.check(o.local); err != nil {
		return err
	}
	return o.auth.check(o.dev)
}

func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || origin != strings.ToLower(u.Scheme+"://"+u.Host) {
		return errors.New("has something that is not an origin, such as https://app.example.com")
	}
	return nil
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
