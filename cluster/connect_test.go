package cluster

import (
	"context"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const testPassword = "hunter2"

func TestParseRedisURL(t *testing.T) {
	tls := func(o redis.UniversalOptions) redis.UniversalOptions { o.ClientName = "TLS"; return o }
	cases := map[string]redis.UniversalOptions{
		"redis://localhost":                         {Addrs: []string{"localhost:6379"}},
		"redis://localhost:1/":                      {Addrs: []string{"localhost:1"}},
		"redis://h_1.example-a.com:6380/3":          {Addrs: []string{"h_1.example-a.com:6380"}, DB: 3},
		"redis://:hunter2@h":                        {Addrs: []string{"h:6379"}, Password: testPassword},
		"redis://ada:hunter2@h/1":                   {Addrs: []string{"h:6379"}, Username: "ada", Password: testPassword, DB: 1},
		"redis://@h":                                {Addrs: []string{"h:6379"}},
		"redis://a%3Ab:%2Fp%40s%3As%23%25%3F%2C@h":  {Addrs: []string{"h:6379"}, Username: "a:b", Password: "/p@s:s#%?,"},
		"redis://:p,q:r@s@h":                        {Addrs: []string{"h:6379"}, Password: "p,q:r@s"},
		"redis://[::1]:7/2":                         {Addrs: []string{"[::1]:7"}, DB: 2},
		"redis://[fe80::1%eth0]":                    {Addrs: []string{"[fe80::1%eth0]:6379"}},
		"rediss://:hunter2@h":                       tls(redis.UniversalOptions{Addrs: []string{"h:6379"}, Password: testPassword}),
		"redis://a,b:2,[::1],[::2]:3":               {Addrs: []string{"a:6379", "b:2", "[::1]:6379", "[::2]:3"}, IsClusterMode: true},
		"redis://:hunter2@a,b/0":                    {Addrs: []string{"a:6379", "b:6379"}, Password: testPassword, IsClusterMode: true},
		"redis://a?cluster=true":                    {Addrs: []string{"a:6379"}, IsClusterMode: true},
		"redis://a/2?cluster=false":                 {Addrs: []string{"a:6379"}, DB: 2},
		"rediss://a/?cluster=true":                  tls(redis.UniversalOptions{Addrs: []string{"a:6379"}, IsClusterMode: true}),
		"redis+sentinel://s/main":                   {Addrs: []string{"s:26379"}, MasterName: "main"},
		"redis+sentinel://u:hunter2@s,t:1/my%20m/4": {Addrs: []string{"s:26379", "t:1"}, MasterName: "my m", DB: 4, Username: "u", Password: testPassword},
		"rediss+sentinel://s/m?sentinel_username=x&sentinel_password=hunter2": tls(redis.UniversalOptions{
			Addrs: []string{"s:26379"}, MasterName: "m", SentinelUsername: "x", SentinelPassword: testPassword}),
		"unix:///run/redis.sock":                          {Addrs: []string{"/run/redis.sock"}},
		"unix://u:hunter2@/run/a%20b/redis.sock?db=5":     {Addrs: []string{"/run/a b/redis.sock"}, Username: "u", Password: testPassword, DB: 5},
		"rediss://a,b?server_name=redis.example&cluster=": tls(redis.UniversalOptions{Addrs: []string{"a:6379", "b:6379"}, IsClusterMode: true}),
	}
	for text, want := range cases {
		got, err := ParseRedisURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		encrypted := want.ClientName == "TLS"
		want.ClientName = ""
		if (got.TLSConfig != nil) != encrypted {
			t.Errorf("%s: TLS %v", text, got.TLSConfig)
		}
		if encrypted && (got.TLSConfig.ServerName == "redis.example") != strings.Contains(text, "server_name") {
			t.Errorf("%s: server name %q", text, got.TLSConfig.ServerName)
		}
		got.TLSConfig = nil
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", text, *got, want)
		}
	}
}

func TestParseRedisURLRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "is not a URL",
		"localhost:6379":                      "is not a URL",
		"redis:localhost":                     "is not a URL",
		"http://:hunter2@h":                   "redis://",
		"REDIS://:hunter2@h":                  "redis://",
		"redis://":                            "no host",
		"redis:///0":                          "no host",
		"redis://:hunter2@":                   "no host",
		"redis://:6379":                       "no host",
		"redis://a,,b":                        "address 2",
		"redis://a, b":                        "blank",
		"redis://a\tb":                        "blank",
		"redis://a\nb":                        "blank",
		"redis://h:0":                         "port",
		"redis://h:65536":                     "port",
		"redis://h:http":                      "port",
		"redis://h:":                          "port",
		"redis://::1":                         "no host",
		"redis://[::1":                        "no host",
		"redis://h/one":                       "database",
		"redis://h/-1":                        "database",
		"redis://h/0/1":                       "database",
		"redis://a,b/1":                       "Redis Cluster",
		"redis://a/1?cluster=true":            "Redis Cluster",
		"redis://a,b?cluster=false":           "redis+sentinel://",
		"redis://a?cluster=yes":               "neither true nor false",
		"redis://a?cluster=true&cluster=true": "twice",
		"redis://a?db=1":                      "option",
		"redis://a?server_name=b":             "option",
		"redis://a?%zz":                       "percent-encoded",
		"redis://hunter2@h":                   "without a password",
		"redis://hunter2:@h":                  "without a password",
		"redis://a:hunter2%@h":                "%25",
		"redis://a:hunter2/x@h":               "percent-encode",
		"redis://a:hunter2?x@h":               "percent-encode",
		"redis://a:hunter2#x@h":               "percent-encode",
		"redis://h#hunter2":                   "percent-encode",
		"redis://h?hunter2":                   "option",
		"redis://a:hunter2/x":                 "port",
		"redis://:hunter2@a,redis://b":        "scheme twice",
		"redis://a:hunter2@b:c":               "port",
		"redis+sentinel://s":                  "Sentinels call",
		"redis+sentinel://s/":                 "Sentinels call",
		"redis+sentinel://s//1":               "Sentinels call",
		"redis+sentinel://s/%":                "Sentinels call",
		"redis+sentinel:///m":                 "no host",
		"redis+sentinel://s/m/x":              "database",
		"redis+sentinel://s/m?cluster=true":   "option",
		"unix://":                             "socket",
		"unix://run/redis.sock":               "socket",
		"unix:///a%":                          "percent-encoding",
		"unix:///a?db=x":                      "database",
		"redis://" + strings.Repeat("a", 254): "no host",
	} {
		o, err := ParseRedisURL(text)
		if err == nil {
			t.Errorf("%q is taken: %+v", text, o)
			continue
		}
		if got := err.Error(); !strings.Contains(got, want) || strings.Contains(got, testPassword) || strings.Contains(got, "\n") {
			t.Errorf("%q: %s, want %q in it and no password", text, got, want)
		}
	}
}

func FuzzParseRedisURL(f *testing.F) {
	for _, text := range []string{"redis://u:p@h:1,[::1]/0?cluster=true", "rediss+sentinel://s/m/1?sentinel_password=p", "unix://u:p@/a?db=1", "redis://:%"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseRedisURL(text)
		if (o == nil) != (err != nil) {
			t.Fatalf("%v, %v", o, err)
		}
		if err == nil && len(o.Addrs) == 0 {
			t.Fatal("no address")
		}
	})
}

func TestDescribe(t *testing.T) {
	for text, want := range map[string]string{
		"redis://u:hunter2@a,b":            "a:6379, b:6379",
		"redis+sentinel://u:hunter2@a,b/m": "m by the Sentinels a:26379, b:26379",
		"unix://u:hunter2@/run/a":          "/run/a",
	} {
		o, err := ParseRedisURL(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(o); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// ok answers what a client says when it connects, and hello to all else.
func ok(command []string) string {
	switch strings.ToUpper(command[0]) {
	case "HELLO":
		return "-ERR unknown command\r\n"
	case "COMMAND":
		return "*0\r\n"
	default:
		return "+OK\r\n"
	}
}

func connect(t *testing.T, o *redis.UniversalOptions, role clientRole) redis.UniversalClient {
	t.Helper()
	client := newClient(o, role)
	t.Cleanup(func() { client.Close() })
	return client
}

// What may have run is not sent twice, alone or in a pipeline, whatever the
// role and the kind of Redis.
func TestALostReplyIsNotRepeated(t *testing.T) {
	for _, clustered := range []bool{false, true} {
		for role, name := range map[clientRole]string{clientAppend: "append", clientRead: "read", clientControl: "control"} {
			var addr string
			f := startFakeRedis(t, func(command []string) string {
				switch strings.ToUpper(command[0]) {
				case "CLUSTER":
					return slotsAt(addr)
				case "INCR", "XREAD":
					return "" // done, and nobody hears of it
				}
				return ok(command)
			})
			addr = f.addr
			client := connect(t, &redis.UniversalOptions{Addrs: []string{f.addr}, IsClusterMode: clustered, MaxRetries: 5, MaxRedirects: 5}, role)
			if role == clientRead {
				if _, err := xread(t.Context(), client, 10, 0, []string{"s"}, "0"); err == nil {
					t.Errorf("%s: no error", name)
				}
				if n := f.count("XREAD"); n != 1 {
					t.Errorf("%s, cluster %v: sent %d times", name, clustered, n)
				}
				continue
			}
			if err := client.Incr(t.Context(), "k").Err(); err == nil {
				t.Errorf("%s: no error", name)
			}
			if n := f.count("INCR"); n != 1 {
				t.Errorf("%s, cluster %v: sent %d times", name, clustered, n)
			}
			_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "k"); return nil })
			if n := f.count("INCR"); n != 2 || err == nil {
				t.Errorf("%s, cluster %v: sent %d times in a pipeline, %v", name, clustered, n-1, err)
			}
		}
	}
}

// The slots of a dead master of a Redis Cluster are found at its successor soon,
// though nobody tells the client.
func TestASuccessorInARedisClusterIsFound(t *testing.T) {
	var first, second *fakeRedis
	var failed atomic.Bool
	answer := func(command []string) string {
		if strings.EqualFold(command[0], "CLUSTER") {
			if failed.Load() {
				return slotsAt(second.addr)
			}
			return "*2\r\n" + slots(0, 16382, first.addr) + slots(16383, 16383, second.addr)
		}
		return ok(command)
	}
	first = startFakeRedis(t, func(command []string) string {
		if failed.Load() {
			return ""
		}
		return answer(command)
	})
	second = startFakeRedis(t, answer)
	client := connect(t, &redis.UniversalOptions{Addrs: []string{first.addr, second.addr}}, clientAppend)
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil || first.count("SET") != 1 {
		t.Fatalf("%v, %d at the first", err, first.count("SET"))
	}
	failed.Store(true)
	began := time.Now()
	for client.Set(t.Context(), "k", "v", 0).Err() != nil {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it is not found")
		}
		time.Sleep(time.Millisecond)
	}
	if second.count("SET") != 1 {
		t.Errorf("%d at the second", second.count("SET"))
	}
}

func TestNewClientLeavesItsOptions(t *testing.T) {
	o, err := ParseRedisURL("rediss://u:hunter2@a,b")
	if err != nil {
		t.Fatal(err)
	}
	before := *o
	connect(t, o, clientRead)
	if !reflect.DeepEqual(before, *o) {
		t.Errorf("changed to %+v", *o)
	}
}

func TestXRead(t *testing.T) {
	var command []string
	f := startFakeRedis(t, func(c []string) string {
		if c[0] != "xread" {
			return ok(c)
		}
		command = c
		return "*1\r\n*2\r\n" + bulk("b") + "*1\r\n*2\r\n" + bulk("1-2") + "*2\r\n" + bulk("f") + bulk("v")
	})
	client := connect(t, &redis.UniversalOptions{Addrs: []string{f.addr}}, clientRead)
	got, err := xread(t.Context(), client, 10, time.Hour, []string{"a", "b"}, "0-1", "0-2")
	want := []redis.XStream{{Stream: "b", Messages: []redis.XMessage{{ID: "1-2", Values: map[string]any{"f": "v"}}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, want := strings.Join(command, " "), "xread count 10 block 1000 streams a b 0-1 0-2"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestXReadOfNothing(t *testing.T) {
	f := startFakeRedis(t, func(c []string) string {
		if c[0] == "xread" {
			if c[3] == "block" {
				t.Error("it blocks")
			}
			return "*-1\r\n"
		}
		return ok(c)
	})
	client := connect(t, &redis.UniversalOptions{Addrs: []string{f.addr}}, clientRead)
	if got, err := xread(t.Context(), client, 10, 0, []string{"a"}, "0"); err != nil || len(got) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A Redis that says nothing more is noticed after the role's time, not 10 s
// after the time for which the read blocks.
func TestXReadOfADeadRedis(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	f := startFakeRedis(t, func(c []string) string {
		if c[0] == "xread" {
			<-release
			return ""
		}
		return ok(c)
	})
	client := connect(t, &redis.UniversalOptions{Addrs: []string{f.addr}}, clientRead).(*redis.Client)
	if got := client.Options().ReadTimeout; got != maxBlock+readSlack {
		t.Errorf("read timeout %v", got)
	}
	began := time.Now()
	_, err := xread(t.Context(), client.WithTimeout(50*time.Millisecond), 10, time.Second, []string{"a"}, "0")
	if took := time.Since(began); err == nil || took > 5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = xread(ctx, client, 10, time.Second, []string{"a"}, "0"); err == nil {
		t.Error("the context's deadline does not count")
	}
}
