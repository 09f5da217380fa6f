package docker

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// process is `weft serve` on this machine.
type process struct {
	cmd   *exec.Cmd
	admin string // host:port
	out   bytes.Buffer
	ended chan struct{}
}

// runWeft starts the binary with a Redis and further flags. The test's end kills it.
func runWeft(t testing.TB, redisURL string, flags ...string) *process {
	t.Helper()
	return runBinary(t, []string{"WEFT_REDIS_URL=" + redisURL}, append([]string{"--dev", "--gossip-listen", loopback + ":0", "--peer-listen", loopback + ":0"}, flags...)...)
}

// runBinary starts the binary with variables and flags. The test's end kills it.
func runBinary(t testing.TB, env []string, flags ...string) *process {
	t.Helper()
	binary, err := weftBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{admin: fmt.Sprintf("%s:%d", loopback, freePort(t)), ended: make(chan struct{})}
	args := append([]string{"serve", "--log-format", "json", "--listen", loopback + ":0", "--admin-listen", p.admin}, flags...)
	p.cmd = exec.Command(binary, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the state says how it ended
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// end waits for the process to end.
func (p *process) end(t testing.TB) (code int, output string) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Fatalf("weft does not end:\n%s", &p.out)
	}
	return p.cmd.ProcessState.ExitCode(), p.out.String()
}

// awaitReady waits for /readyz to say so.
func (p *process) awaitReady(t testing.TB) {
	t.Helper()
	waitFor(t, "weft to be ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("weft has ended:\n%s", &p.out)
		default:
		}
		code, _, err := get("http://" + p.admin + "/readyz")
		return err == nil && code == 200
	})
}

// stop asks the process to end.
func (p *process) stop(t testing.TB) (code int, output string) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.end(t)
}

// What is wrong with Redis or the gossip ends weft at its start, with a sentence that says what to do,
// and with status 2 where trying again would fail alike.
func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	replica := startReplica(t, r)
	nodes := startRedisOn(t, r.network, "nodes", "--cluster-enabled", "yes")
	password := "a password/with+signs"
	with := func(user *url.Userinfo, r *redisServer, query string) string {
		u, err := url.Parse(r.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.RawQuery = user, query
		return u.String()
	}
	nowhere := fmt.Sprintf("%s:%d", loopback, freePort(t))

	cases := []struct {
		name   string
		config map[string]string // of Redis, until the case ends
		before []any             // a command
		after  []any
		url    string
		flags  []string
		code   int
		want   []string
	}{
		{name: "unreachable", url: "redis://:" + url.QueryEscape(password) + "@" + nowhere, code: 1,
			want: []string{"redis at " + nowhere + " cannot be reached", "connection refused"}},
		{name: "wrong password", config: map[string]string{"requirepass": password}, url: with(url.UserPassword("", password+"x"), r, ""), code: 2,
			want: []string{"redis-url: redis at " + r.addr(redisPort) + " refuses the user or the password"}},
		{name: "no password", config: map[string]string{"requirepass": password}, url: r.URL(), code: 2,
			want: []string{"wants a password", "redis://:password@host"}},
		{name: "evicting", config: map[string]string{"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, url: r.URL(), code: 2,
			want: []string{"maxmemory-policy allkeys-lru", "set it to noeviction"}},
		{name: "another ring", before: []any{"HSET", "other:cfg", "partitions", "128"}, after: []any{"DEL", "other:cfg"}, url: r.URL(), flags: []string{"--redis-prefix", "other:"}, code: 2,
			want: []string{`the prefix "other:"`, `"128"`, `"partitions"`, "run the same version of Weft"}},
		{name: "replica", url: replica.URL(), code: 1,
			want: []string{"is a replica", "name the master"}},
		{name: "one of a Redis Cluster", url: nodes.URL(), code: 2,
			want: []string{"belongs to a Redis Cluster", "?cluster=true"}},
		{name: "Redis Cluster without slots", url: with(nil, nodes, "cluster=true"), code: 1,
			want: []string{nodes.addr(redisPort)}},
		{name: "no Redis Cluster", url: with(nil, r, "cluster=true"), code: 2,
			want: []string{"is no Redis Cluster"}},
		{name: "no Sentinel", url: strings.Replace(r.URL(), "redis://", "redis+sentinel://", 1) + "/mymaster", code: 2,
			want: []string{"name the Sentinels"}},
		{name: "gossip elsewhere", url: r.URL(), flags: []string{"--gossip-listen", "192.0.2.1:7946"}, code: 1,
			want: []string{"gossip-listen", "192.0.2.1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { // one after the other: they share a Redis
			ctx := context.Background()
			for name, value := range c.config {
				was, err := r.Client().ConfigGet(ctx, name).Result()
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Client().ConfigSet(ctx, name, value).Err(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					_, err := r.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
						if name == "requirepass" { // a connection made meanwhile must say it
							p.Auth(ctx, value)
						}
						return p.ConfigSet(ctx, name, was[name]).Err()
					})
					if err != nil {
						t.Errorf("setting %s back: %v", name, err)
					}
				}()
			}
			if len(c.before) > 0 {
				if err := r.Client().Do(ctx, c.before...).Err(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := r.Client().Do(ctx, c.after...).Err(); err != nil {
						t.Error(err)
					}
				}()
			}
			code, output := runWeft(t, c.url, append([]string{"--start-timeout", "2s"}, c.flags...)...).end(t)
			last := output[strings.LastIndexByte(strings.TrimRight(output, "\n"), '\n')+1:]
			if code != c.code {
				t.Errorf("status %d, want %d:\n%s", code, c.code, output)
			}
			for _, want := range c.want {
				if !strings.Contains(strings.ReplaceAll(last, `\"`, `"`), want) {
					t.Errorf("%q is not in: %s", want, last)
				}
			}
			if strings.Contains(output, password) || strings.Contains(output, url.QueryEscape(password)) {
				t.Errorf("the password is shown:\n%s", output)
			}
		})
	}
}

// A Redis that keeps nothing gets a warning, and is used.
func TestStartWarnsOfARedisThatKeepsNothing(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "--appendonly", "no")
	p := runWeft(t, r.URL())
	p.awaitReady(t)
	code, output := p.stop(t)
	if code != 0 {
		t.Errorf("status %d:\n%s", code, output)
	}
	if !strings.Contains(output, "keeps nothing on disk") || !strings.Contains(output, "appendonly yes") {
		t.Errorf("no warning:\n%s", output)
	}
}

// The recommended settings are not warned of.
func TestStartIsContentWithAnAppendOnlyFile(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "--maxmemory", "1gb", "--maxmemory-policy", "noeviction")
	p := runWeft(t, r.URL())
	p.awaitReady(t)
	if code, output := p.stop(t); code != 0 || strings.Contains(output, "redis ") {
		t.Errorf("status %d:\n%s", code, output)
	}
}
