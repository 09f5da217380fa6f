package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed" // scripts
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrUnfit is wrapped by errors about a Redis that answers and cannot be used
// as it is: another password, version, certificate or setting is needed, and
// trying again before somebody has seen to that fails alike. Errors that may pass
// by themselves do not wrap it: Redis cannot be reached, loads, is full, or is a
// replica just now.
var ErrUnfit = errors.New("redis cannot be used as it is")

// redisError is an error that says all there is to say.
type redisError struct {
	text  string
	unfit bool
	cause error
}

func (e *redisError) Error() string        { return e.text }
func (e *redisError) Unwrap() error        { return e.cause }
func (e *redisError) Is(target error) bool { return e.unfit && target == ErrUnfit }

func unfit(format string, args ...any) error {
	return &redisError{text: fmt.Sprintf(format, args...), unfit: true}
}

// checkRedis makes sure, before a node takes part, that Redis can be reached
// and keeps what it is given, that the nodes that use it under the prefix
// have the same ring parameters, which the first node writes down, and that the
// user may do everything that a node does. In a Redis
// Cluster it looks at every master.
//
// The error is a sentence that names the address and says what to do, and
// holds no credentials; see ErrUnfit. What may be meant to be as it is, or what
// Redis does not tell, is logged as a warning.
func checkRedis(ctx context.Context, client redis.UniversalClient, prefix string, ring map[string]string, log *slog.Logger) error {
	switch c := client.(type) {
	case *redis.ClusterClient:
		o := c.Options()
		where, secret := strings.Join(o.Addrs, ", "), password(ctx, o.Password, o.CredentialsProvider, o.CredentialsProviderContext)
		err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return checkServer(ctx, node, node.Options().Addr, true, log)
		})
		if err != nil {
			return explain(err, where, secret)
		}
		return explain(settle(ctx, c, prefix, ring), where, secret)
	case *redis.Client:
		where := c.Options().Addr
		if where == "FailoverClient" { // as the library calls it
			where = "the address that the Sentinels name"
		}
		if err := checkServer(ctx, c, where, false, log); err != nil {
			return err
		}
		return explain(settle(ctx, c, prefix, ring), where, secretOf(ctx, c))
	default:
		return explain(settle(ctx, client, prefix, ring), "its address", "")
	}
}

// checkServer looks at one server.
func checkServer(ctx context.Context, c *redis.Client, where string, clustered bool, log *slog.Logger) error {
	text, err := c.Info(ctx).Result()
	switch {
	case (redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown command")) && strings.Contains(strings.ToLower(err.Error()), "'info'"):
		log.Warn("redis does not tell about itself: make sure that it is version 6.2 or later, that its maxmemory-policy is noeviction, and that it keeps an append-only file", "redis", where)
		return nil
	case err != nil:
		return explain(err, where, secretOf(ctx, c))
	}
	config := func(name string) (value string, known bool) {
		values, err := c.ConfigGet(ctx, name).Result()
		if err != nil {
			return "", false // managed servers do not let one ask
		}
		value, known = values[name]
		return value, known
	}
	info := parseInfo(text)
	if info["role"] == "slave" && info["redis_mode"] != "sentinel" {
		return explainReplica(where, nil) // before its settings: its master's may differ
	}
	wrong, doubts := judge(info, config, clustered)
	if wrong != "" {
		return unfit("redis at %s %s", where, wrong)
	}
	for _, doubt := range doubts {
		log.Warn("redis "+doubt, "redis", where)
	}
	return nil
}

func secretOf(ctx context.Context, c *redis.Client) string {
	o := c.Options()
	return password(ctx, o.Password, o.CredentialsProvider, o.CredentialsProviderContext)
}

// parseInfo reads what the command INFO answers.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// judge says what is wrong with a server, or, if nothing is, what a user may
// want to change. All of it continues a sentence that begins with the server.
// config looks up a setting; it reports false if the server does not tell.
func judge(info map[string]string, config func(name string) (string, bool), clustered bool) (wrong string, doubts []string) {
	version := info["redis_version"]
	known, enough := atLeast62(version)
	switch {
	case info["redis_mode"] == "sentinel":
		return "is a Sentinel: begin the URL with redis+sentinel:// and end it with the name that the Sentinels give their Redis", nil
	case info["cluster_enabled"] == "1" && !clustered:
		return "belongs to a Redis Cluster: name several of its nodes, or add ?cluster=true to the URL", nil
	case known && !enough:
		return fmt.Sprintf("is version %s, which is too old: upgrade it to 6.2 or later", version), nil
	case !known:
		doubts = append(doubts, "does not say which version it is: make sure that it is 6.2 or later")
	}

	policy, limit := info["maxmemory_policy"], info["maxmemory"]
	if policy == "" {
		policy, _ = config("maxmemory-policy")
	}
	if limit == "" {
		limit, _ = config("maxmemory")
	}
	switch {
	case policy == "noeviction":
	case policy == "":
		doubts = append(doubts, "does not tell its maxmemory-policy: make sure that it is noeviction, since with any other a full Redis throws rooms away")
	case limit == "0":
		doubts = append(doubts, fmt.Sprintf("has the maxmemory-policy %s, with which it would throw rooms away once maxmemory were set: set it to noeviction", policy))
	default:
		return fmt.Sprintf("has the maxmemory-policy %s, with which it throws rooms away when it is full: set it to noeviction, in its configuration and by CONFIG SET maxmemory-policy noeviction", policy), nil
	}
	if doubt := doubtPersistence(info["aof_enabled"], config); doubt != "" {
		doubts = append(doubts, doubt)
	}
	return "", doubts
}

func doubtPersistence(aof string, config func(name string) (string, bool)) string {
	const advice = ": set appendonly yes and appendfsync everysec"
	if aof == "" {
		if text, known := config("appendonly"); known {
			aof = map[string]string{"yes": "1", "no": "0"}[text]
		}
	}
	switch aof {
	case "1":
		if sync, _ := config("appendfsync"); sync == "no" {
			return "leaves it to its system when the append-only file reaches the disk, so that a crash of its machine can lose half a minute of acknowledged work" + advice
		}
		return ""
	case "0":
		snapshots, known := config("save")
		switch {
		case !known:
			return "keeps no append-only file, so that a crash can lose acknowledged work" + advice
		case snapshots == "":
			return "keeps nothing on disk, so that its end loses every room" + advice
		}
		return "keeps snapshots only, so that a crash loses all acknowledged work since the last one" + advice
	}
	return "does not tell whether it keeps an append-only file, without which a crash can lose acknowledged work" + advice
}

// atLeast62 reports whether text is a version of Redis, and whether Weft can
// use it.
func atLeast62(text string) (known, enough bool) {
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 {
		return false, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil, major > 6 || major == 6 && minor >= 2
}

// settle is what is asked of Redis as a whole.
func settle(ctx context.Context, client redis.UniversalClient, prefix string, ring map[string]string) error {
	if err := agree(ctx, client, prefix, ring); err != nil {
		return err
	}
	// Else a user without XADD, say, would make a node that is ready and does nothing.
	return permitScript.Run(ctx, client, []string{prefix + "permit"}).Err()
}

//go:embed scripts/agree.lua
var agreeText string

//go:embed scripts/permit.lua
var permitText string

var (
	agreeScript  = redis.NewScript(agreeText)
	permitScript = redis.NewScript(permitText)
)

// agree makes sure that all nodes have the ring parameters that this one has.
func agree(ctx context.Context, client redis.UniversalClient, prefix string, ring map[string]string) error {
	var args []any
	for _, name := range slices.Sorted(maps.Keys(ring)) {
		args = append(args, name, ring[name])
	}
	other, err := agreeScript.Run(ctx, client, []string{prefix + "cfg"}, args...).StringSlice()
	if err != nil || len(other) < 2 {
		return err
	}
	name, theirs, mine := other[0], other[1], "does not know it"
	if value, ok := ring[name]; ok {
		mine = fmt.Sprintf("has %q", value)
	}
	return unfit("the nodes that share the prefix %q in Redis have %q for their parameter %q, and this node %s: run the same version of Weft on all of them, or give this one another prefix", prefix, theirs, name, mine)
}

// explain makes a sentence of an error of Redis at some address. Of a reply of
// Redis it keeps no more than the text, without the password, which a proxy
// may have quoted.
func explain(err error, where, password string) error {
	if err == nil || errors.As(err, new(*redisError)) || errors.As(err, new(*hereError)) {
		return err
	}
	is := func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) }
	has := func(part string) bool { return strings.Contains(err.Error(), part) }
	var reply redis.Error
	switch {
	case errors.As(err, new(x509.HostnameError)):
		return &redisError{unfit: true, cause: err, text: fmt.Sprintf("redis at %s has a TLS certificate for another name: name it as its certificate does, or add the option server_name to the URL: %v", where, err)}
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return &redisError{unfit: true, cause: err, text: fmt.Sprintf("redis at %s has a TLS certificate that is not trusted: name its authority by redis-ca-file, or renew it if it has expired: %v", where, err)}
	case has("tls: certificate required") || has("tls: bad certificate"):
		return unfit("redis at %s wants to see a TLS certificate of its clients, and Weft has none: set its tls-auth-clients to no or optional, and let users prove themselves by passwords", where)
	case has("all sentinels specified"):
		return explainSentinels(err)
	case is("WRONGPASS") || is("invalid password"):
		return unfit("redis at %s refuses the user or the password: check them in the URL, where special characters must be percent-encoded", where)
	case is("NOAUTH") || is("Authentication required"):
		return unfit("redis at %s wants a password: write redis://:password@host, or redis://user:password@host", where)
	case is("NOPERM") || has("ACL failure in script") || has("The user executing the script can't"):
		return unfit("redis at %s does not let this user do what Weft does: give it all commands on the keys with Weft's prefix, as in ACL SETUSER weft on >password ~weft:* +@all", where)
	case is("This instance has cluster support disabled"):
		return unfit("redis at %s is no Redis Cluster: name one host, without cluster=true", where)
	case is("DB index is out of range"):
		return unfit("redis at %s does not have so many databases: name another one in the URL, or raise the setting databases", where)
	case is("READONLY"):
		return explainReplica(where, err)
	case is("OOM") || isFull(err):
		return &redisError{cause: err, text: fmt.Sprintf("redis at %s is full: raise its maxmemory", where)}
	case is("MASTERDOWN"):
		return &redisError{cause: err, text: fmt.Sprintf("redis at %s is a replica that has lost its master: see that one of them is the master", where)}
	case is("LOADING"):
		return &redisError{cause: err, text: fmt.Sprintf("redis at %s is still loading what it kept: try again when it has finished", where)}
	case is("CLUSTERDOWN"):
		return &redisError{cause: err, text: fmt.Sprintf("redis at %s is a Redis Cluster that does not serve all of its slots: see redis-cli --cluster check, and try again when it does", where)}
	case errors.As(err, &reply) && !errors.Is(err, redis.Nil):
		text := reply.Error()
		if password != "" {
			text = strings.ReplaceAll(text, password, "…")
		}
		return &redisError{text: fmt.Sprintf("redis at %s refuses: %s", where, strings.Join(strings.Fields(text), " "))}
	case has("first record does not look like a TLS handshake"):
		return unfit("redis at %s speaks no TLS there: begin the URL with redis:// instead of rediss://, or name its TLS port", where)
	}
	return &redisError{cause: err, text: fmt.Sprintf("redis at %s cannot be reached: check the address, that Redis runs, and whether it speaks TLS there (rediss://) or not (redis://): %v", where, err)}
}

// explainReplica does so where nothing can be written to, as for the time in which
// a replica is about to become the master.
func explainReplica(where string, cause error) error {
	return &redisError{cause: cause, text: fmt.Sprintf("redis at %s is a replica, which nothing can be written to: name the master, or the Sentinels that know it, unless it is about to become the master", where)}
}

// explainSentinels does so where no Sentinel named a Redis.
func explainSentinels(err error) error {
	is := func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) }
	switch {
	case errors.Is(err, redis.Nil):
		return &redisError{cause: err, text: "the Sentinels know no Redis by the name that the URL ends with: it is what follows sentinel monitor in their configuration"}
	case is("unknown command"):
		return unfit("redis is there where the URL says that Sentinels are: name the Sentinels and their port, or begin the URL with redis://")
	case is("WRONGPASS") || is("NOAUTH") || is("invalid password"):
		return unfit("the Sentinels refuse the user or the password: set them by the options sentinel_username and sentinel_password of the URL; the others are Redis's own")
	}
	return &redisError{cause: err, text: fmt.Sprintf("the Sentinels cannot be reached: check their addresses, and that they run: %v", err)}
}
