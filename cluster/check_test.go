package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const goodInfo = "# Server\r\nredis_version:7.4.1\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:1073741824\r\nmaxmemory_policy:noeviction\r\n" +
	"# Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n"

// settings is a server's CONFIG GET; nil is one that does not let one ask.
type settings map[string]string

func (s settings) get(name string) (string, bool) { v, ok := s[name]; return v, ok }

func TestJudge(t *testing.T) {
	open := settings{"appendfsync": "everysec", "save": "3600 1 300 100"}
	cases := []struct {
		name      string
		old, new  string // what to replace in the good answer
		settings  settings
		clustered bool
		wrong     string
		doubts    []string
	}{
		{name: "good", settings: open},
		{name: "good, and no CONFIG"},
		{name: "6.2", old: "7.4.1", new: "6.2.0"},
		{name: "10.0", old: "7.4.1", new: "10.0.0"},
		{name: "6.0", old: "7.4.1", new: "6.0.16", wrong: "is version 6.0.16, which is too old: upgrade it to 6.2 or later"},
		{name: "5.0", old: "7.4.1", new: "5.0.14", wrong: "is version 5.0.14"},
		{name: "odd version", old: "7.4.1", new: "unstable", doubts: []string{"does not say which version"}},
		{name: "no version", old: "redis_version:7.4.1\r\n", doubts: []string{"does not say which version"}},
		{name: "in a cluster", old: "cluster_enabled:0", new: "cluster_enabled:1", clustered: true},
		{name: "of a cluster", old: "cluster_enabled:0", new: "cluster_enabled:1", wrong: "?cluster=true"},
		{name: "sentinel", old: "redis_mode:standalone", new: "redis_mode:sentinel", wrong: "redis+sentinel://"},
		{name: "evicts", old: "noeviction", new: "allkeys-lru", wrong: "has the maxmemory-policy allkeys-lru"},
		{name: "evicts leases", old: "noeviction", new: "volatile-ttl", wrong: "has the maxmemory-policy volatile-ttl"},
		{name: "would evict", old: "maxmemory:1073741824\r\nmaxmemory_policy:noeviction", new: "maxmemory:0\r\nmaxmemory_policy:allkeys-lru", doubts: []string{"has the maxmemory-policy allkeys-lru, with which it would"}},
		{name: "evicts, says CONFIG", old: "maxmemory:1073741824\r\nmaxmemory_policy:noeviction\r\n", settings: settings{"maxmemory": "1", "maxmemory-policy": "allkeys-lfu"}, wrong: "allkeys-lfu"},
		{name: "does not evict, says CONFIG", old: "maxmemory:1073741824\r\nmaxmemory_policy:noeviction\r\n", settings: settings{"maxmemory": "1", "maxmemory-policy": "noeviction"}},
		{name: "evicts perhaps", old: "maxmemory:1073741824\r\nmaxmemory_policy:noeviction\r\n", doubts: []string{"does not tell its maxmemory-policy"}},
		{name: "evicts, limit unknown", old: "maxmemory:1073741824\r\nmaxmemory_policy:noeviction", new: "maxmemory_policy:allkeys-lru", wrong: "allkeys-lru"},
		{name: "keeps nothing", old: "aof_enabled:1", new: "aof_enabled:0", settings: settings{"save": ""}, doubts: []string{"keeps nothing on disk"}},
		{name: "keeps snapshots", old: "aof_enabled:1", new: "aof_enabled:0", settings: open, doubts: []string{"keeps snapshots only"}},
		{name: "keeps no AOF", old: "aof_enabled:1", new: "aof_enabled:0", doubts: []string{"keeps no append-only file"}},
		{name: "keeps what?", old: "aof_enabled:1\r\n", doubts: []string{"does not tell whether it keeps"}},
		{name: "keeps, says CONFIG", old: "aof_enabled:1\r\n", settings: settings{"appendonly": "yes"}},
		{name: "syncs some time", settings: settings{"appendfsync": "no"}, doubts: []string{"leaves it to its system"}},
		{name: "tells nothing", old: goodInfo, doubts: []string{"does not say which version", "does not tell its maxmemory-policy", "does not tell whether it keeps"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := goodInfo
			if c.old != "" {
				if text = strings.Replace(goodInfo, c.old, c.new, 1); text == goodInfo {
					t.Fatalf("there is no %q", c.old)
				}
			}
			wrong, doubts := judge(parseInfo(text), c.settings.get, c.clustered)
			if (wrong == "") != (c.wrong == "") || !strings.Contains(wrong, c.wrong) {
				t.Errorf("wrong: %q, want %q", wrong, c.wrong)
			}
			if len(doubts) != len(c.doubts) {
				t.Fatalf("doubts: %q, want %q", doubts, c.doubts)
			}
			for i, want := range c.doubts {
				if !strings.HasPrefix(doubts[i], want) {
					t.Errorf("doubt: %q, want %q", doubts[i], want)
				}
			}
		})
	}
}

// check looks at a Redis that answers as a function says.
func check(t *testing.T, o redis.UniversalOptions, answer func(command []string) string) (log string, err error) {
	t.Helper()
	f := startFakeRedis(t, answer)
	o.Addrs = []string{f.addr}
	var text bytes.Buffer
	err = checkRedis(t.Context(), connect(t, &o, clientControl), "weft:", map[string]string{"partitions": "271"}, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil && !strings.Contains(err.Error(), f.addr) && !strings.Contains(err.Error(), "nodes that share") {
		t.Errorf("the address is not in: %v", err)
	}
	if strings.Contains(text.String(), testPassword) || err != nil && strings.Contains(err.Error(), testPassword) {
		t.Errorf("the password is shown: %v, %s", err, &text)
	}
	return text.String(), err
}

func TestCheckRedis(t *testing.T) {
	// info answers INFO and the script so, and does not let one ask for settings.
	answers := func(info, script string) func([]string) string {
		return func(command []string) string {
			switch strings.ToUpper(command[0]) {
			case "INFO":
				return info
			case "CONFIG":
				return "-NOPERM this user has no permissions to run the 'config|get' command\r\n"
			case "EVALSHA":
				return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
			case "EVAL":
				return script
			}
			return ok(command)
		}
	}
	always := func(reply string) func([]string) string { return func([]string) string { return reply } }
	good, same := bulk(goodInfo), "*0\r\n"
	cases := []struct {
		name   string
		answer func([]string) string
		want   string // of the error; empty for none
		log    string // what must be in it; empty for an empty one
		fit    bool   // the error may go by itself
	}{
		{name: "good", answer: answers(good, same)},
		{name: "old", answer: answers(bulk("redis_version:4.0.1\r\n"), same), want: "upgrade it"},
		{name: "evicts", answer: answers(bulk(strings.Replace(goodInfo, "noeviction", "allkeys-lru", 1)), same), want: "set it to noeviction"},
		{name: "keeps nothing", answer: answers(bulk(strings.Replace(goodInfo, "aof_enabled:1", "aof_enabled:0", 1)), same), log: "keeps no append-only file"},
		{name: "tells nothing", answer: answers("-NOPERM this user has no permissions to run the 'info' command\r\n", same), log: "does not tell about itself"},
		{name: "no INFO", answer: answers("-ERR unknown command 'INFO'\r\n", same), log: "does not tell about itself"},
		{name: "other ring", answer: answers(good, "*2\r\n"+bulk("partitions")+bulk("128")), want: `the nodes that share the prefix "weft:" in Redis have "128" for their parameter "partitions", and this node has "271": run the same version`},
		{name: "newer ring", answer: answers(good, "*2\r\n"+bulk("colour")+bulk("blue")), want: `have "blue" for their parameter "colour", and this node does not know it`},
		{name: "no scripts", answer: answers(good, "-NOPERM this user has no permissions to run the 'eval' command\r\n"), want: "~weft:*"},
		{name: "not every command", answer: func(command []string) string {
			if strings.HasPrefix(strings.ToUpper(command[0]), "EVAL") && strings.Contains(command[3], "permit") {
				return "-ERR ACL failure in script: User weft has no permissions to run the 'xadd' command\r\n"
			}
			return answers(good, same)(command)
		}, want: "~weft:*"},
		{name: "full", answer: answers(good, "-OOM command not allowed when used memory > 'maxmemory'.\r\n"), want: "maxmemory", fit: true},
		{name: "read only", answer: answers(good, "-READONLY You can't write against a read only replica.\r\n"), want: "is a replica", fit: true},
		{name: "replica", answer: answers(bulk(strings.NewReplacer("role:master", "role:slave", "noeviction", "allkeys-lru").Replace(goodInfo)), same), want: "is a replica", fit: true},
		{name: "replica without its master", answer: always("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"), want: "has lost its master", fit: true},
		{name: "no keys in scripts", answer: answers(good, "-ERR ACL failure in script: User weft has no permissions to access one of the keys\r\n"), want: "~weft:*"},
		{name: "wrong password", answer: always("-WRONGPASS invalid username-password pair or user is disabled.\r\n"), want: "refuses the user or the password"},
		{name: "old wrong password", answer: always("-ERR invalid password\r\n"), want: "refuses the user or the password"},
		{name: "loading", answer: always("-LOADING Redis is loading the dataset in memory\r\n"), want: "still loading", fit: true},
		{name: "cluster down", answer: answers(good, "-CLUSTERDOWN The cluster is down\r\n"), want: "does not serve all of its slots", fit: true},
		{name: "quotes the password", answer: always("-ERR unknown command 'AUTH' with args beginning with: 'hunter2'\r\n"), want: "refuses: ", fit: true},
		{name: "silent", answer: always(""), want: "cannot be reached", fit: true},
		{name: "no Redis", answer: always("HTTP/1.1 400 Bad Request\r\n\r\n"), want: "cannot be reached", fit: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log, err := check(t, redis.UniversalOptions{Password: testPassword}, c.answer)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && (errors.Is(err, ErrUnfit) == c.fit || strings.Contains(err.Error(), "\n")) {
				t.Errorf("unfit: %v: %v", errors.Is(err, ErrUnfit), err)
			}
			if (c.log == "") != (log == "") || !strings.Contains(log, c.log) {
				t.Errorf("log %q, want %q", log, c.log)
			}
		})
	}
}

func TestCheckRedisWantsAPassword(t *testing.T) {
	_, err := check(t, redis.UniversalOptions{}, func([]string) string { return "-NOAUTH Authentication required.\r\n" })
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "redis://:password@host") {
		t.Error(err)
	}
}

func TestCheckRedisIsNoCluster(t *testing.T) {
	_, err := check(t, redis.UniversalOptions{IsClusterMode: true}, func(command []string) string {
		if strings.EqualFold(command[0], "CLUSTER") {
			return "-ERR This instance has cluster support disabled\r\n"
		}
		return ok(command)
	})
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "is no Redis Cluster") {
		t.Error(err)
	}
}

func TestCheckRedisUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, clustered := range []bool{false, true} {
		o := &redis.UniversalOptions{Addrs: []string{addr}, IsClusterMode: clustered, Username: "ada", Password: testPassword}
		err = checkRedis(t.Context(), connect(t, o, clientControl), "weft:", nil, slog.New(slog.DiscardHandler))
		if err == nil || errors.Is(err, ErrUnfit) || strings.Contains(err.Error(), testPassword) ||
			!strings.HasPrefix(err.Error(), "redis at "+addr+" cannot be reached: check the address, ") || strings.Count(err.Error(), "cannot be reached") != 1 {
			t.Errorf("cluster %v: %v", clustered, err)
		}
	}
}

func TestCheckRedisHeedsItsContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	f := startFakeRedis(t, func([]string) string { <-release; return "" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := checkRedis(ctx, connect(t, &redis.UniversalOptions{Addrs: []string{f.addr}}, clientControl), "weft:", nil, slog.New(slog.DiscardHandler))
	if err == nil || errors.Is(err, ErrUnfit) {
		t.Error(err)
	}
}

func TestCheckRedisBySentinels(t *testing.T) {
	for _, c := range []struct{ reply, want string }{
		{"*-1\r\n", "know no Redis by the name"},
		{"-ERR unknown command 'sentinel', with args beginning with: 'get-master-addr-by-name'\r\n", "begin the URL with redis://"},
		{"-NOAUTH Authentication required.\r\n", "sentinel_password"},
		{"", "cannot be reached"},
	} {
		f := startFakeRedis(t, func(command []string) string {
			if strings.EqualFold(command[0], "SENTINEL") {
				return c.reply
			}
			return ok(command)
		})
		o := &redis.UniversalOptions{Addrs: []string{f.addr}, MasterName: "m", Password: testPassword}
		err := checkRedis(t.Context(), connect(t, o, clientControl), "weft:", nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrUnfit) != strings.HasPrefix(c.reply, "-") || strings.Contains(err.Error(), testPassword) {
			t.Errorf("%q: %v", c.reply, err)
		}
	}
}

func TestCheckRedisLooksAtEveryMaster(t *testing.T) {
	var good, bad *fakeRedis
	node := func(policy string) *fakeRedis {
		return startFakeRedis(t, func(command []string) string {
			switch strings.ToUpper(command[0]) {
			case "CLUSTER":
				return "*2\r\n" + slots(0, 8191, good.addr) + slots(8192, 16383, bad.addr)
			case "INFO":
				return bulk(strings.NewReplacer("noeviction", policy, "cluster_enabled:0", "cluster_enabled:1").Replace(goodInfo))
			case "EVALSHA":
				return "*0\r\n"
			}
			return ok(command)
		})
	}
	good, bad = node("noeviction"), node("allkeys-random")
	o := &redis.UniversalOptions{Addrs: []string{good.addr}, IsClusterMode: true}
	err := checkRedis(t.Context(), connect(t, o, clientControl), "weft:", nil, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrUnfit) || !strings.HasPrefix(err.Error(), "redis at "+bad.addr+" has the maxmemory-policy allkeys-random") {
		t.Error(err)
	}
}

func TestExplainWantsAClientCertificate(t *testing.T) {
	err := explain(&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, "redis:6379", "")
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "tls-auth-clients") {
		t.Error(err)
	}
}
