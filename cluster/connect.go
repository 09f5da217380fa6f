package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ParseRedisURL reads where Redis is, and how to get in:
//
//	redis://user:password@host:6379/0        one Redis; rediss:// with TLS
//	unix://user:password@/run/redis.sock     one Redis, by its socket; ?db=1 for another database
//	redis://:password@host1,host2,host3      a Redis Cluster, by some of its nodes
//	redis://host?cluster=true                a Redis Cluster, by one of its nodes
//	redis+sentinel://:password@host1,host2/mymaster/0
//	                                         the Redis that Sentinels call mymaster; rediss+sentinel:// with TLS
//
// Ports that are left out are 6379, and 26379 of Sentinels. User and password
// are Redis's own, percent-encoded where need be; those of Sentinels are the
// options sentinel_username and sentinel_password. The option server_name is
// the name to expect in Redis's certificate if it is not the host's own, as
// where the nodes of a Redis Cluster tell each other's bare IP addresses.
//
// Everything else of the result is unset. An error never quotes the URL, and so
// holds no password.
func ParseRedisURL(s string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, errors.New("is not a URL such as redis://user:password@host:6379")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("has a blank or a control character: percent-encode what belongs to the password")
	}
	rest, query, _ := strings.Cut(rest, "?")
	login, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		login, path = rest[:i], rest[i+1:]
	}
	hosts := login[strings.LastIndexByte(login, '@')+1:]
	switch {
	case strings.Contains(rest, "://"):
		return nil, errors.New("names the scheme twice: put only commas between addresses, as in redis://host1,host2")
	case strings.ContainsAny(path+query, "@") || strings.Contains(rest+query, "#"):
		return nil, errors.New("has an @ or # where none can be: percent-encode /, ?, # and @ in the password")
	}
	o := &redis.UniversalOptions{}
	if err := parseLogin(o, strings.TrimSuffix(login[:len(login)-len(hosts)], "@")); err != nil {
		return nil, err
	}
	options, err := parseQuery(scheme, query)
	if err != nil {
		return nil, err
	}

	port, db := "6379", path
	switch scheme {
	case "redis", "rediss":
	case "redis+sentinel", "rediss+sentinel":
		port = "26379"
		o.MasterName, db, _ = strings.Cut(path, "/")
		if o.MasterName, err = url.PathUnescape(o.MasterName); err != nil || o.MasterName == "" {
			return nil, errors.New("does not say how the Sentinels call their Redis: redis+sentinel://host1,host2/mymaster")
		}
		o.SentinelUsername, o.SentinelPassword = options["sentinel_username"], options["sentinel_password"]
	case "unix":
		if hosts != "" || path == "" {
			return nil, errors.New("has no path of a socket: unix:///run/redis.sock, or unix://user:password@/run/redis.sock")
		}
		file, err := url.PathUnescape("/" + path)
		if err != nil {
			return nil, errors.New("has a path with a % that is no percent-encoding")
		}
		o.Addrs = []string{file}
		if o.DB, err = parseDB(options["db"]); err != nil {
			return nil, err
		}
		return o, nil
	default:
		return nil, errors.New("begins with none of redis://, rediss://, unix://, redis+sentinel:// and rediss+sentinel://")
	}

	if o.Addrs, err = parseHosts(hosts, port); err != nil {
		return nil, err
	}
	if o.DB, err = parseDB(db); err != nil {
		return nil, err
	}
	if o.MasterName == "" {
		if o.IsClusterMode, err = parseCluster(options["cluster"], len(o.Addrs)); err != nil {
			return nil, err
		}
	}
	if o.IsClusterMode && o.DB != 0 {
		return nil, errors.New("names a database, and a Redis Cluster has none but 0")
	}
	if strings.HasPrefix(scheme, "rediss") {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: options["server_name"]}
	}
	return o, nil
}

func parseLogin(o *redis.UniversalOptions, login string) error {
	user, password, ok := strings.Cut(login, ":")
	var err1, err2 error
	o.Username, err1 = url.PathUnescape(user)
	o.Password, err2 = url.PathUnescape(password)
	switch {
	case err1 != nil || err2 != nil:
		return errors.New("has a user or a password with a % that is no percent-encoding: write %25")
	case login != "" && (!ok || password == ""):
		return errors.New("has a user without a password: write user:password@host, or :password@host")
	}
	return nil
}

// queryOptions are what may follow the question mark, by scheme.
var queryOptions = map[string][]string{
	"redis":           {"cluster"},
	"rediss":          {"cluster", "server_name"},
	"redis+sentinel":  {"sentinel_username", "sentinel_password"},
	"rediss+sentinel": {"sentinel_username", "sentinel_password", "server_name"},
	"unix":            {"db"},
}

func parseQuery(scheme, query string) (map[string]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("has options after the ? that are not percent-encoded as they should be")
	}
	options := map[string]string{}
	for name, texts := range values {
		known, ok := queryOptions[scheme]
		if ok && !slices.Contains(known, name) { // not quoted: it may be half of a password
			return nil, fmt.Errorf("has an option that %s:// does not have: there is %s, and a ? in a password must be percent-encoded", scheme, strings.Join(known, ", "))
		}
		if len(texts) > 1 {
			return nil, errors.New("has an option twice")
		}
		options[name] = texts[0]
	}
	return options, nil
}

func parseHosts(list, port string) ([]string, error) {
	var addrs []string
	for i, host := range strings.Split(list, ",") {
		if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") || !strings.Contains(host, ":") {
			host += ":" + port
		}
		name, number, err := net.SplitHostPort(host)
		if err != nil || !isHost(name) {
			return nil, fmt.Errorf("has no host, or none that can be one, as address %d: host:port, or [::1]:port", i+1)
		}
		if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("has no port between 1 and 65535 in address %d; a /, ? or # in a password must be percent-encoded", i+1)
		}
		addrs = append(addrs, net.JoinHostPort(name, number))
	}
	return addrs, nil
}

// isHost reports whether name can be a host name or an IP address.
func isHost(name string) bool {
	if net.ParseIP(name) != nil {
		return true
	}
	if zoned, _, ok := strings.Cut(name, "%"); ok {
		return net.ParseIP(zoned) != nil
	}
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func parseDB(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	db, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, errors.New("has a database that is not a number such as 0; a / in a password must be percent-encoded")
	}
	return int(db), nil
}

func parseCluster(text string, hosts int) (bool, error) {
	switch {
	case text == "" || text == "true":
		return hosts > 1 || text == "true", nil
	case text != "false":
		return false, errors.New("has the option cluster, which is neither true nor false")
	case hosts > 1:
		return false, errors.New("names several hosts, and cluster=false; if they are Sentinels, begin with redis+sentinel://")
	}
	return false, nil
}

// describe names Redis in logs and errors: addresses, never who gets in.
func describe(o *redis.UniversalOptions) string {
	where := strings.Join(o.Addrs, ", ")
	if o.MasterName != "" {
		return fmt.Sprintf("%s by the Sentinels %s", o.MasterName, where)
	}
	return where
}

// clientRole is what a connection to Redis is for, which decides how long it
// may wait. Roles do not share connections, so that a lease need not wait
// behind a checkpoint.
type clientRole int

const (
	// clientAppend writes what is large: appends, outputs, checkpoints.
	clientAppend clientRole = iota
	// clientRead reads streams, for which it blocks up to maxBlock: see xread.
	clientRead
	// clientControl does what is small and must be quick or known to have failed:
	// leases, claims.
	clientControl
)

const (
	// maxBlock is the longest that a read may wait in Redis. While it does, the
	// library does not heed the context's end.
	maxBlock = time.Second
	// readSlack is how much later than that an answer may be.
	readSlack      = 1500 * time.Millisecond
	appendTimeout  = 3 * time.Second // Redis stalls up to 2 s while a slow disk syncs its AOF
	controlTimeout = 500 * time.Millisecond
	dialTimeout    = time.Second

	// connIdleTime is when an unused connection goes: before NATs forget it.
	connIdleTime = 5 * time.Minute

	// slotsInterval is how old may be what a client knows of a Redis Cluster. A
	// master that is dead redirects nobody to its successor.
	slotsInterval = time.Second

	// maxConns bounds a role's connections to one Redis. They are made when they
	// are needed. In a Redis Cluster no read can span two partitions, so that
	// each partition read takes a connection of its own.
	maxConns            = 16
	maxReadConnsCluster = 512
)

// newClient connects for one role. It keeps of o who Redis is and how to get
// in; timeouts, retries and pools are the role's.
//
// A client of any role tries once: what may have reached Redis it never sends
// again by itself, since a script that ran though its answer was lost would
// run twice. Unless it reads, it does not follow the redirections of a Redis
// Cluster either, because there the library repeats lost commands under the
// same bound; it fails the command, reads the slots anew, and gets it right
// when it is called again.
func newClient(o *redis.UniversalOptions, role clientRole) redis.UniversalClient {
	c := *o
	if c.TLSConfig != nil {
		c.TLSConfig = c.TLSConfig.Clone()
	}
	c.ContextTimeoutEnabled = true
	c.MaxRetries, c.MaxRedirects = -1, -1
	c.DialerRetries = 1
	c.DialTimeout = dialTimeout
	c.PoolSize, c.PoolTimeout = maxConns, dialTimeout
	c.MinIdleConns, c.MaxIdleConns, c.MaxActiveConns = 0, 0, 0
	c.ConnMaxIdleTime = connIdleTime
	c.PipelinePoolSize = -1 // pipelines share the connections
	// Nothing here needs RESP3 or an optional command at connect; proxies and
	// old servers may know neither.
	c.Protocol = 2
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	// Replicas may lack what was just written.
	c.ReadOnly, c.RouteByLatency, c.RouteRandomly = false, false, false

	clustered := c.MasterName == "" && (c.IsClusterMode || len(c.Addrs) > 1)
	switch role {
	case clientAppend:
		c.ReadTimeout, c.WriteTimeout = appendTimeout, appendTimeout
	case clientRead:
		c.ReadTimeout, c.WriteTimeout = maxBlock+readSlack, dialTimeout
		c.MaxRedirects = 2 // xread forbids the repetition
		if clustered {
			c.PoolSize = maxReadConnsCluster
		}
	case clientControl:
		c.DialTimeout, c.PoolTimeout = controlTimeout, controlTimeout
		c.ReadTimeout, c.WriteTimeout = controlTimeout, controlTimeout
	}
	if role != clientControl { // what is small is late, or lost
		c.Dialer = steadyDialer(&c)
	}
	if clustered {
		cluster := c.Cluster()
		cluster.ClusterStateReloadInterval = slotsInterval
		return redis.NewClusterClient(cluster)
	}
	return redis.NewUniversalClient(&c)
}

// xread reads what came into streams after ids, which belong to them one by
// one, at most count entries of each. If there is nothing it waits for up to block, at most maxBlock; 0 is not to wait. Streams without news are not in
// the result, which may be empty. In a Redis Cluster all streams must be in
// one slot.
//
// The context's deadline cuts the wait short, its cancellation does not.
//
// It is not the library's XRead because that one adds 10 s to the time after
// which a connection that has died is noticed, and in a Redis Cluster repeats
// a read that timed out, unseen.
func xread(ctx context.Context, client processor, count int, block time.Duration, streams []string, ids ...string) ([]redis.XStream, error) {
	args := make([]any, 0, 6+2*len(streams))
	args = append(args, "xread", "count", count)
	if block > 0 {
		args = append(args, "block", max(1, min(block, maxBlock).Milliseconds()))
	}
	args = append(args, "streams")
	first := len(args)
	for _, name := range streams {
		args = append(args, name)
	}
	for _, id := range ids {
		args = append(args, id)
	}
	cmd := onceCmd{redis.NewXStreamSliceCmd(ctx, args...)}
	cmd.SetFirstKeyPos(int8(first))
	if err := client.Process(ctx, cmd); err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	return cmd.Val(), nil
}

// processor is a client, or one connection of it.
type processor interface {
	Process(ctx context.Context, cmd redis.Cmder) error
}

// onceCmd is a command that the library does not repeat by itself.
type onceCmd struct{ *redis.XStreamSliceCmd }

func (onceCmd) NoRetry() bool { return true }
