package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room/protocol"
)

// What is waited for is told each time, and logged when it changes and every
// few seconds.
func TestJoinWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var told []string
		w := waiting{log: slog.New(slog.NewTextHandler(&log, nil)), onWait: func(err error) { told = append(told, err.Error()) }}
		began := time.Now()
		err := w.until(t.Context(), func() error {
			switch since := time.Since(began); {
			case since < 25*time.Second:
				return fmt.Errorf("read 127.0.0.1:%d->10.0.0.1:6379: i/o timeout", 1024+since.Milliseconds())
			case since < 30*time.Second:
				return errors.New("redis is still loading")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(told); n < 15 || n > 60 {
			t.Errorf("%d attempts in half a minute", n)
		}
		if n := strings.Count(log.String(), "\n"); n < 3 || n > 4 || strings.Count(log.String(), "loading") != 1 {
			t.Errorf("logged:\n%s", &log)
		}
	})
}

func TestJoinEndsAtOnce(t *testing.T) {
	w := waiting{log: slog.New(slog.DiscardHandler)}
	for _, mine := range []error{unfit("wrong"), &hereError{errors.New("taken")}, fmt.Errorf("x: %w", unfit("wrong"))} {
		if err := w.until(t.Context(), func() error { return mine }); !errors.Is(err, mine) {
			t.Error(err)
		}
	}
}

// The error says what was waited for, even if the context's end cut the last
// attempt short.
func TestJoinSaysWhatItWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("a minute is over"))
		defer cancel()
		w := waiting{log: slog.New(slog.DiscardHandler)}
		began := time.Now()
		err := w.until(ctx, func() error {
			if time.Since(began) > 50*time.Second {
				<-ctx.Done()
				return ctx.Err()
			}
			return errors.New("redis is still loading")
		})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "redis is still loading; ") || !strings.HasSuffix(err.Error(), "a minute is over") || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// joinConfig is a node on this machine.
func joinConfig(addr string) Config {
	return Config{
		Redis: &redis.UniversalOptions{Addrs: []string{addr}}, NodeName: "a",
		GossipListen: "127.0.0.1:0", PeerListen: "127.0.0.1:0",
	}
}

func TestJoinOfAFakeRedis(t *testing.T) {
	for _, c := range []struct {
		name, first, then string
		unfit             bool
		want              string
	}{
		{name: "loads, then wants a password", first: "-LOADING Redis is loading the dataset in memory\r\n", then: "-NOAUTH Authentication required.\r\n", unfit: true, want: "wants a password"},
		{name: "is a replica, then refuses", first: "-READONLY You can't write against a read only replica.\r\n", then: "-NOPERM this user has no permissions to run the 'eval' command\r\n", unfit: true, want: "~weft:*"},
		{name: "hangs up, then is full", first: "", then: "-OOM command not allowed\r\n", want: "is full"},
		{name: "is down", first: "-CLUSTERDOWN The cluster is down\r\n", then: "-MASTERDOWN Link with MASTER is down\r\n", want: "has lost its master"},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var attempts atomic.Int64
			f := startFakeRedis(t, func(command []string) string {
				switch {
				case !strings.EqualFold(command[0], "INFO"):
					return ok(command)
				case attempts.Add(1) < 3:
					return c.first
				}
				return c.then
			})
			config := joinConfig(f.addr)
			waits := 0
			config.OnWait = func(err error) {
				if waits++; waits == 5 {
					cancel(errors.New("enough"))
				}
			}
			if c.first == "-READONLY You can't write against a read only replica.\r\n" {
				f.answer = func(command []string) string {
					switch strings.ToUpper(command[0]) {
					case "INFO":
						return bulk(goodInfo)
					case "EVALSHA":
						if attempts.Add(1) < 3 {
							return c.first
						}
						return c.then
					}
					return ok(command)
				}
			}
			_, err := Join(ctx, config)
			if err == nil || errors.Is(err, ErrUnfit) != c.unfit || !strings.Contains(err.Error(), c.want) {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 2, false: 5}[c.unfit]; waits != want {
				t.Errorf("it waited %d times, want %d", waits, want)
			}
		})
	}
}

// A certificate that is not trusted, or for another name, is for a person to mend.
func TestJoinOfARedisWithAnotherCertificate(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, kind := range map[string]redis.UniversalOptions{"one": {}, "Redis Cluster": {IsClusterMode: true}, "Sentinels": {MasterName: "m"}} {
		config := joinConfig(server.Listener.Addr().String())
		config.OnWait = func(err error) { t.Errorf("%s: it waits for %v", name, err) }
		config.Redis.IsClusterMode, config.Redis.MasterName = kind.IsClusterMode, kind.MasterName
		config.Redis.TLSConfig = &tls.Config{}
		if _, err := Join(t.Context(), config); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "is not trusted") {
			t.Errorf("%s: %v", name, err)
		}
		if err := TrustOnly(config.Redis, ca); err != nil {
			t.Fatal(err)
		}
		config.Redis.TLSConfig.ServerName = "redis.internal"
		if _, err := Join(t.Context(), config); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "for another name") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := TrustOnly(&redis.UniversalOptions{}, ca); err == nil {
		t.Error("an authority without TLS")
	}
	if err := TrustOnly(&redis.UniversalOptions{TLSConfig: &tls.Config{}}, []byte("-----BEGIN CERTIFICATE")); err == nil {
		t.Error("half a certificate")
	}
}

// A port that is taken does not become free by waiting.
func TestJoinWithAPortThatIsTaken(t *testing.T) {
	addr := startRealRedis(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for field, change := range map[string]func(*Config){
		"PeerListen":   func(c *Config) { c.PeerListen = l.Addr().String() },
		"GossipListen": func(c *Config) { c.GossipListen = l.Addr().String() },
	} {
		config := joinConfig(addr)
		change(&config)
		config.OnWait = func(err error) { t.Errorf("it waits for %v", err) }
		if _, err := Join(t.Context(), config); err == nil || !strings.Contains(err.Error(), field) || errors.Is(err, ErrUnfit) {
			t.Error(err)
		}
	}
}

// startRealRedis runs redis-server, or skips the test if there is none.
func startRealRedis(t *testing.T, args ...string) (addr string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed, so this is not tested here but in integration/docker")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	runRealRedis(t, path, addr, args...)
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := c.Ping(t.Context()).Err()
		if err == nil || redis.HasErrorPrefix(err, "NOAUTH") {
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func runRealRedis(t *testing.T, path, addr string, args ...string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(path, append([]string{"--bind", host, "--port", port, "--dir", t.TempDir(), "--save", "", "--appendonly", "no"}, args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// A node that is started before its Redis takes part when that is there; new
// connections use the password as it is then.
func TestJoinOfARedisThatComesLater(t *testing.T) {
	noLeaks(t)
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed, so this is not tested here but in integration/docker")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := joinConfig(addr)
	config.Redis.Password = "old"
	credentials := NewCredentials(config.Redis)
	waits := 0
	config.OnWait = func(err error) {
		if waits++; waits == 2 {
			if !strings.Contains(err.Error(), "redis at "+addr+" cannot be reached") {
				t.Error(err)
			}
			credentials.Set("", "new")
			runRealRedis(t, path, addr, "--requirepass", "new")
		}
	}
	node, err := Join(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if waits < 2 || !node.Ready() {
		t.Errorf("after %d waits the node is ready: %v", waits, node.Ready())
	}
	if err := node.Leave(t.Context(), protocol.CloseRestart); err != nil {
		t.Error(err)
	}
	credentials.Set("", "wrong")
	if _, err := Join(t.Context(), config); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "refuses the user or the password") {
		t.Error(err)
	}
}

// A user that may not use Weft's keys, or a Redis that throws rooms away, is for a
// person to mend.
func TestJoinOfARealRedisThatIsUnfit(t *testing.T) {
	addr := startRealRedis(t, "--user", "weft", "on", ">secret", "~other:*", "+@all", "--maxmemory", "100mb")
	admin := redis.NewClient(&redis.Options{Addr: addr})
	defer admin.Close()
	config := joinConfig(addr)
	config.Redis.Username, config.Redis.Password = "weft", "secret"
	if _, err := Join(t.Context(), config); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "~weft:*") {
		t.Error(err)
	}
	for _, rule := range []string{"~weft:*", "-hset", "+hset", "-zadd"} {
		if err := admin.Do(t.Context(), "acl", "setuser", "weft", rule).Err(); err != nil {
			t.Fatal(err)
		}
		if rule[0] == '-' { // the first is of a command, the other of one in a script
			if _, err := Join(t.Context(), config); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "~weft:*") {
				t.Errorf("%s: %v", rule, err)
			}
		}
	}
	if err := admin.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), config); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "noeviction") {
		t.Error(err)
	}
}
