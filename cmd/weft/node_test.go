package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// fakeNode notes what it is told, and leaves as its function does.
type fakeNode struct {
	leave func(ctx context.Context) error
	left  []protocol.Close
}

func (f *fakeNode) Connect(context.Context, string, room.ConnectOptions) (room.Session, error) {
	return nil, room.ErrClosed
}

func (f *fakeNode) Leave(ctx context.Context, c protocol.Close) error {
	f.left = append(f.left, c)
	return f.leave(ctx)
}

// The rooms are handed over while the sockets are still open, in the time that
// is set for it; new ones are not taken meanwhile.
func TestSharedRoomsAreHandedOverBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLogger(newLogLines(), "info", "text")
		node := &fakeNode{}
		sockets, err := wsconn.NewServer(wsconn.Config{Rooms: node, Authorizer: authz.Insecure{}})
		if err != nil {
			t.Fatal(err)
		}
		var h health
		ready, taken := "", 0
		node.leave = func(ctx context.Context) error {
			ready = strings.Join(h.troubles(), ", ")
			answer, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/?roomId=r&clientId=c&token=t", nil)
			r.Header.Set("Upgrade", "websocket")
			sockets.ServeHTTP(answer, r)
			taken = answer.Code
			<-ctx.Done()
			return errors.New("3 partitions are still here")
		}
		began := time.Now()
		o := &settings.Server{DrainTimeout: 7 * time.Second, ShutdownTimeout: time.Minute}
		err = end(o, &h, &listener{}, sockets, &sharedRooms{node, o.DrainTimeout, log})
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("it took %v", took)
		}
		if !slices.Equal(node.left, []protocol.Close{protocol.CloseRestart}) || ready != "shutting down" || taken != http.StatusServiceUnavailable {
			t.Errorf("left with %v, while /readyz said %q and a new socket got %d", node.left, ready, taken)
		}
		if err == nil || !strings.Contains(err.Error(), "3 partitions are still here") {
			t.Error(err)
		}
	})
}

// serveShared runs `weft serve` with a Redis at an address, to its end.
func serveShared(ctx context.Context, t *testing.T, address string) (code int, log string) {
	t.Helper()
	var text bytes.Buffer
	args := []string{"weft", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--start-timeout", "1s"}
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret, "WEFT_REDIS_URL": "redis://:" + testSecret + "@" + address}
	code = run(ctx, args, pairs(env), &text, &text)
	if strings.Contains(text.String(), testSecret) {
		t.Errorf("the password is shown:\n%s", &text)
	}
	return code, text.String()
}

// Trying again may help, so that this is not a bad setting.
func TestRedisThatCannotBeReached(t *testing.T) {
	address := freeAddress(t)
	code, log := serveShared(t.Context(), t, address)
	for _, want := range []string{fmt.Sprintf("redis at %s cannot be reached", address), "start-timeout is over, which is 1s"} {
		if code != exitFailed || !strings.Contains(log, want) {
			t.Errorf("status %d, want %q in:\n%s", code, want, log)
		}
	}
}

// freeAddress is one at which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// launchShared starts `weft serve` with a Redis at an address, which it waits for.
func launchShared(t *testing.T, redis string) (s *instance, admin, public string) {
	t.Helper()
	admin, public = freeAddress(t), freeAddress(t)
	s = launchWithout(t, withSecret, "--listen", public, "--admin-listen", admin, "--gossip-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0",
		"--redis-url-file", writeFile(t, "redis://"+redis+"\n"))
	if _, ok := s.log.await("this node cannot take part yet", s.status); !ok {
		t.Fatalf("it does not wait:\n%s", s.log)
	}
	return s, admin, public
}

// While Redis is away weft is alive, says what it waits for, and takes no
// clients; a Redis that refuses it when it comes is for somebody to mend.
func TestStartWaitsForRedis(t *testing.T) {
	address := freeAddress(t)
	s, admin, public := launchShared(t, address)
	if status, body, _ := get(t, admin, "/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d %q", status, body)
	}
	if status, body, _ := get(t, admin, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "starting\nredis at "+address+" cannot be reached") {
		t.Errorf("/readyz: %d %q", status, body)
	}
	if c, err := net.DialTimeout("tcp", public, patience); err == nil {
		c.Close()
		t.Error("the client port is open")
	}
	answerAllAt(t, address, "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	if code := s.wait(t); code != exitSetting || !strings.Contains(s.log.String(), "weft: redis-url-file: redis at "+address+" refuses the user or the password") {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

// What may be right later is no bad setting, but is told in the setting's name.
func TestTemporaryTrouble(t *testing.T) {
	o := new(settings.Server)
	table := o.Table()
	if _, problems := table.Read(settings.Sources{Args: []string{"--gossip-listen", "192.0.2.1:1"}}); len(problems) > 0 {
		t.Fatal(problems)
	}
	for want, bad := range map[string]*room.ConfigError{
		`gossip-listen: "192.0.2.1:1" is taken (from --gossip-listen)`: {Field: "cluster.Config.GossipListen", Problem: errors.New("is taken"), Temporary: true},
		"gossip-advertise: is not set":                                 {Field: "cluster.Config.GossipAdvertise", Problem: errors.New("is not set")},
		"x.Config.Y is none":                                           {Field: "x.Config.Y", Problem: errors.New("is none")},
	} {
		err := table.Translate(fmt.Errorf("joining: %w", bad))
		if !strings.HasSuffix(err.Error(), want) || errors.Is(err, settings.ErrWrong) != strings.HasPrefix(want, "gossip-advertise") {
			t.Errorf("got %v, a bad setting: %v; want %s", err, errors.Is(err, settings.ErrWrong), want)
		}
	}
}

func TestSignalWhileRedisIsAway(t *testing.T) {
	s, _, _ := launchShared(t, freeAddress(t))
	if code := s.end(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

// A Redis that comes while weft waits for it is joined.
func TestStartJoinsTheRedisThatComes(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed: integration/docker tests this, too")
	}
	address := freeAddress(t)
	s, admin, public := launchShared(t, address)
	_, port, _ := net.SplitHostPort(address)
	redis := exec.CommandContext(t.Context(), path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Wait() }) // the test's context has ended it
	if _, ok := s.log.await("ready", s.status); !ok {
		t.Fatalf("it is not ready:\n%s", s.log)
	}
	if status, body, _ := get(t, admin, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %q", status, body)
	}
	s.listen = public
	awaitText(t, s.dial(t, "r", mint(t, "r")), `"clientCount"`)
	if code := s.end(t); code != exitOK {
		t.Errorf("status %d:\n%s", code, s.log)
	}
}

func TestRedisThatRefuses(t *testing.T) {
	address := answerAll(t, "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	code, log := serveShared(t.Context(), t, address)
	want := fmt.Sprintf("weft: redis-url: redis at %s refuses the user or the password: check them in the URL, where special characters must be percent-encoded\n", address)
	if code != exitSetting || log != want {
		t.Errorf("status %d, %q, want %q", code, log, want)
	}
}

func TestSignalWhileJoining(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, log := serveShared(ctx, t, answerAll(t, "-LOADING Redis is loading the dataset in memory\r\n")); code != exitOK {
		t.Errorf("status %d:\n%s", code, log)
	}
}

// answerAll is a server that says the same to whatever it is sent.
func answerAll(t *testing.T, reply string) (address string) {
	t.Helper()
	return answerAllAt(t, "127.0.0.1:0", reply)
}

func answerAllAt(t *testing.T, where, reply string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", where)
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := io.WriteString(c, reply); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		tasks.Wait()
	})
	return l.Addr().String()
}
