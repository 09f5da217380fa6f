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
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/authz"
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
// is set for it.
func TestSharedRoomsAreHandedOverBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLogLines()
		node := &fakeNode{}
		sockets, err := wsconn.NewServer(wsconn.Config{Rooms: node, Authorizer: authz.Insecure{}})
		if err != nil {
			t.Fatal(err)
		}
		status := func() int { // of a bad handshake
			answer, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Upgrade", "websocket")
			sockets.ServeHTTP(answer, r)
			return answer.Code
		}
		meanwhile := 0
		node.leave = func(ctx context.Context) error {
			meanwhile = status()
			<-ctx.Done()
			return errors.New("3 partitions are still here")
		}
		began := time.Now()
		err = (&sharedRooms{node, 7 * time.Second, time.Minute, newLogger(lines, "info", "text")}).end(sockets)
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("it took %v", took)
		}
		if !slices.Equal(node.left, []protocol.Close{protocol.CloseRestart}) || meanwhile == http.StatusServiceUnavailable || status() != http.StatusServiceUnavailable {
			t.Errorf("left with %v; the socket server answered %d meanwhile and %d afterwards", node.left, meanwhile, status())
		}
		if err == nil || !strings.Contains(err.Error(), "3 partitions are still here") {
			t.Error(err)
		}
	})
}

// serveShared runs `weft serve` with a Redis at an address, to its end.
func serveShared(t *testing.T, ctx context.Context, address string) (code int, log string) {
	t.Helper()
	var text bytes.Buffer
	args := []string{"weft", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0"}
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret, "WEFT_REDIS_URL": "redis://:" + testSecret + "@" + address}
	code = run(ctx, args, pairs(env), &text, &text)
	if strings.Contains(text.String(), testSecret) {
		t.Errorf("the password is shown:\n%s", &text)
	}
	return code, text.String()
}

// Trying again may help, so that this is not a bad setting.
func TestRedisThatCannotBeReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	code, log := serveShared(t, t.Context(), l.Addr().String())
	if want := fmt.Sprintf("redis at %s cannot be reached", l.Addr()); code != exitFailed || !strings.Contains(log, want) {
		t.Errorf("status %d, want %q in:\n%s", code, want, log)
	}
}

func TestRedisThatRefuses(t *testing.T) {
	address := answerAll(t, "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	code, log := serveShared(t, t.Context(), address)
	want := fmt.Sprintf("weft: redis-url: redis at %s refuses the user or the password: check them in the URL, where special characters must be percent-encoded\n", address)
	if code != exitSetting || log != want {
		t.Errorf("status %d, %q, want %q", code, log, want)
	}
}

func TestSignalWhileJoining(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, log := serveShared(t, ctx, answerAll(t, "-LOADING Redis is loading the dataset in memory\r\n")); code != exitOK {
		t.Errorf("status %d:\n%s", code, log)
	}
}

// answerAll is a server that says the same to whatever it is sent.
func answerAll(t *testing.T, reply string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
