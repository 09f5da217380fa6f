package load

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// Workload names what the writers of a run do.
type Workload string

const (
	// Document moves blocks that are already there: patches of one or two fields.
	Document Workload = "document"
	// Presence moves every writer's cursor: ephemeral patches, which no server keeps on disk.
	Presence Workload = "presence"
	// Pen appends points to each writer's stroke by buffer deltas.
	Pen Workload = "pen"
	// Idle only connects and holds, to see what an open connection costs.
	Idle Workload = "idle"
	// Large is Document in a big room, with somebody joining it afresh every JoinInterval.
	Large Workload = "large"
)

// Workloads lists every Workload, in the order in which a help text names them.
func Workloads() []Workload { return []Workload{Document, Presence, Pen, Idle, Large} }

// Errors that Run returns before it connects anything.
var (
	// ErrConfig is wrapped by every error about a Config that makes no sense.
	ErrConfig = errors.New("load: bad setting")
	// ErrRemote is returned for a URL that leaves this machine when AllowRemote is not set.
	ErrRemote = errors.New("load: refusing a host that is not loopback")
)

// Bounds of one run. They keep a slip of the finger from taking a machine down.
const (
	maxClients    = 200_000
	maxComponents = 2_000_000
	maxRate       = 500.0
	maxDuration   = 24 * time.Hour
)

// plainName is what a room prefix may be: it goes into JSON and file names as it is.
var plainName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// Config says what to do to which server. The zero value of every field but URL is usable.
//
// The flags of `weft load` that fill it in:
//
//	--url                  URL
//	--workload             Workload
//	--rooms                Rooms
//	--clients              Clients (per room)
//	--writers              Writers (per room)
//	--rate                 Rate (patches per writer per second)
//	--duration             Duration
//	--warmup               Warmup
//	--drain                Drain
//	--components           Components (per room)
//	--no-seed              NoSeed
//	--stroke-points        StrokePoints
//	--points-per-patch     PointsPerPatch
//	--join-interval        JoinInterval
//	--join-timeout         JoinTimeout
//	--ramp-timeout         RampTimeout
//	--dials                Dials
//	--room-prefix          RoomPrefix
//	--token                Token, the same for all
//	--auth-jwt-secret      Token, minted for each room (WEFT_AUTH_JWT_SECRET)
//	--pid                  PID
//	--children             Children
//	--allow-remote         AllowRemote
//	--json                 prints the Report as JSON instead of Report.WriteText
//	--write-snapshot FILE  only writes WriteSnapshot(FILE, Components) and ends
type Config struct {
	// URL of the server, ws: or wss:, any path. A query is kept; roomId, clientId and token are added.
	URL string
	// AllowRemote permits a URL whose host is not this machine's loopback.
	AllowRemote bool

	// Workload; empty: Document.
	Workload Workload
	// Rooms; 0: 1. They are called RoomPrefix-0, RoomPrefix-1, …
	Rooms int
	// RoomPrefix; empty: "load". Two runs at once against one server need different ones: a run
	// takes every tagged patch in its rooms for its own.
	RoomPrefix string
	// Clients that connect to each room; 0: 10.
	Clients int
	// Writers are the first so many clients of each room; 0: all of them. Idle has none.
	Writers int
	// Rate is the number of patches per writer per second, up to 500; 0: 10.
	Rate float64

	// Warmup is the time under load before the measured window; 0: 2 s, negative: none.
	Warmup time.Duration
	// Duration of the measured window; 0: 10 s.
	Duration time.Duration
	// Drain is the longest wait, after the window, for what is still under way; 0: 5 s, negative: none.
	Drain time.Duration

	// Components that each room holds before the writers start; 0: 100, for Large 100 000.
	Components int
	// NoSeed: the rooms hold their components already (see WriteSnapshot), so do not create them.
	NoSeed bool
	// StrokePoints is how long a Pen stroke grows before the writer begins another; 0: 4000.
	StrokePoints int
	// PointsPerPatch is how many points one Pen patch appends; 0: 4.
	PointsPerPatch int

	// JoinInterval is the time between two fresh joins of Large; 0: 2 s.
	JoinInterval time.Duration
	// JoinTimeout bounds every connection from its dial to `synced`; 0: 30 s.
	JoinTimeout time.Duration
	// RampTimeout bounds the time in which all clients connect and the rooms are seeded; 0: 2 min.
	RampTimeout time.Duration
	// Dials is how many connections are being made at once during the ramp; 0: 32.
	Dials int

	// Token returns the token that a client connects with; nil: the word "load", which a server
	// without authorization takes. It is called from several goroutines at once.
	Token func(room, client string) string

	// PID of the server's process on this machine, whose CPU and memory are then reported; 0: none.
	PID int
	// Children adds the processes that PID has started, and theirs.
	Children bool
}

// withDefaults returns c with every zero field filled in.
func (c Config) withDefaults() Config {
	def(&c.Workload, Document)
	def(&c.Rooms, 1)
	def(&c.RoomPrefix, "load")
	def(&c.Clients, 10)
	def(&c.Rate, 10)
	def(&c.Warmup, 2*time.Second)
	def(&c.Duration, 10*time.Second)
	def(&c.Drain, 5*time.Second)
	def(&c.StrokePoints, 4000)
	def(&c.PointsPerPatch, 4)
	def(&c.JoinInterval, 2*time.Second)
	def(&c.JoinTimeout, 30*time.Second)
	def(&c.RampTimeout, 2*time.Minute)
	def(&c.Dials, 32)
	if c.Workload == Large {
		def(&c.Components, 100_000)
	}
	def(&c.Components, 100)
	def(&c.Writers, c.Clients)
	if c.Workload == Idle {
		c.Writers = 0
	}
	c.Warmup, c.Drain = max(c.Warmup, 0), max(c.Drain, 0)
	if c.Token == nil {
		c.Token = func(string, string) string { return "load" }
	}
	return c
}

// def sets *field to value if it is the zero value.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate expects a Config that has its defaults.
func (c Config) validate() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "ws" && u.Scheme != "wss") {
		// The URL is not repeated: it may carry a token.
		return fmt.Errorf("%w: url: want ws://host:port or wss://host:port", ErrConfig)
	}
	if !c.AllowRemote && !isLoopback(u.Hostname()) {
		return fmt.Errorf("%w: %q (allow it explicitly if the load on it is yours to make)", ErrRemote, u.Hostname())
	}
	for _, check := range []struct {
		bad  bool
		what string
	}{
		{!slices.Contains(Workloads(), c.Workload), fmt.Sprintf("workload: %q is not one of %v", c.Workload, Workloads())},
		{!plainName.MatchString(c.RoomPrefix), "room prefix: only letters, digits, dots, dashes and underscores"},
		{c.Rooms < 1 || c.Rooms > maxClients, fmt.Sprintf("rooms: %d", c.Rooms)},
		{c.Clients < 1 || c.Clients > maxClients/c.Rooms, fmt.Sprintf("clients: %d in each of %d rooms: at most %d in all", c.Clients, c.Rooms, maxClients)},
		{c.Writers < 0 || c.Writers > c.Clients, fmt.Sprintf("writers: %d of %d clients", c.Writers, c.Clients)},
		{c.Rate <= 0 || c.Rate > maxRate, fmt.Sprintf("rate: %v a second: more than 0, at most %v", c.Rate, maxRate)},
		{c.Duration < time.Millisecond || c.Duration > maxDuration, fmt.Sprintf("duration: %v", c.Duration)},
		{c.Warmup > maxDuration, fmt.Sprintf("warmup: %v", c.Warmup)},
		{c.Drain > time.Hour, fmt.Sprintf("drain: %v", c.Drain)},
		{c.Components < 1 || c.Components > maxComponents, fmt.Sprintf("components: %d: at most %d", c.Components, maxComponents)},
		{c.StrokePoints < 1 || c.StrokePoints > 100_000, fmt.Sprintf("stroke points: %d", c.StrokePoints)},
		{c.PointsPerPatch < 1 || c.PointsPerPatch > c.StrokePoints, fmt.Sprintf("points per patch: %d", c.PointsPerPatch)},
		{c.JoinInterval < 10*time.Millisecond, fmt.Sprintf("join interval: %v", c.JoinInterval)},
		{c.JoinTimeout < 0 || c.RampTimeout < 0, "a timeout is negative"},
		{c.Dials < 1 || c.Dials > 1000, fmt.Sprintf("dials: %d", c.Dials)},
		{c.PID < 0, fmt.Sprintf("pid: %d", c.PID)},
		{c.PID > 0 && runtime.GOOS != "linux", "pid: a process can be measured on Linux only"},
	} {
		if check.bad {
			return fmt.Errorf("%w: %s", ErrConfig, check.what)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
