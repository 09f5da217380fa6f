package wsconn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// crowd connects clients through pipes, which answer pings and closes. It sends
// the body of each one's close frame.
func crowd(t testing.TB, server *wsconn.Server, n int) <-chan string {
	t.Helper()
	closed := make(chan string, n)
	for i := range n {
		c := plug(t, server, fmt.Sprintf("roomId=r%d&clientId=%d&token=t", i%7, i))
		body := alive(c)
		go func() {
			closed <- <-body
			_, _ = c.Write(frame(0x8, true, closeBody(1012, "")))
			c.Close()
		}()
	}
	return closed
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		reg := prometheus.NewRegistry()
		server := newServer(t, wsconn.Config{Rooms: newManager(t, room.Config{}), Registerer: reg})
		closed := crowd(t, server, n)
		synctest.Wait()
		remaining := func() float64 { return value(t, reg, "weft_drain_sockets_remaining") }
		if got := remaining(); got != 0 {
			t.Errorf("%v remain before the drain", got)
		}
		server.Refuse()
		if got := remaining(); got != n || len(closed) > 0 {
			t.Errorf("%v remain, %d are closed, when the drain has begun", got, len(closed))
		}
		knock(server, upgradeRequest(who)).expect(t, 503, "draining", "server is restarting")

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- server.Drain(ctx, 100, closeRestart) }()
		for second := range 4 {
			time.Sleep(time.Second)
			synctest.Wait()
			if got, want := remaining(), float64(n-100*(second+1)); math.Abs(got-want) > 2 {
				t.Errorf("%v remain after %v, want %v", got, time.Since(began), want)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for range n {
			if body := <-closed; body != closeBody(1012, "server is restarting") {
				t.Fatalf("closed with %q", body)
			}
		}
		if err := server.Shutdown(ctx, closeRestart); err != nil {
			t.Error(err)
		}
		expectCloses(t, reg, map[string]float64{"drain": n})
		expectRefusals(t, reg, map[string]float64{"draining": 1})
	})
}

// The deadline wins over the rate.
func TestDrainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, wsconn.Config{Rooms: newManager(t, room.Config{})})
		closed := crowd(t, server, 100)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if err := server.Drain(ctx, 1, closeRestart); err != nil {
			t.Error(err)
		}
		between(t, began, 7900*time.Millisecond, 8100*time.Millisecond)
		synctest.Wait()
		if len(closed) != 100 {
			t.Errorf("%d are closed", len(closed))
		}
	})
}

func TestDrainGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, wsconn.Config{Rooms: newManager(t, room.Config{})})
		closed := crowd(t, server, 10)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2500*time.Millisecond, cancel)
		if err := server.Drain(ctx, 1, closeRestart); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if len(closed) != 3 || server.Connections() != 7 {
			t.Errorf("%d are closed, %d connected", len(closed), server.Connections())
		}
	})
}

// Those who wait to be authorized, or for their room, are told at once.
func TestDrainWhileAuthorizing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth, rooms := newGate(), newLobby()
		joining := make(chan struct{})
		rooms.connect = func(context.Context) error { close(joining); time.Sleep(time.Minute); return nil } // not heeding its end
		server := newServer(t, wsconn.Config{Rooms: rooms, Authorizer: auth})
		answers := make(chan answer, 2)
		for i := range 2 {
			go func() { answers <- knock(server, upgradeRequest(who)) }()
			next(t, auth.asked)
			if i == 0 {
				auth.say <- nil
				<-joining
			}
		}
		began := time.Now()
		server.Refuse()
		for range 2 {
			a := <-answers
			a.expect(t, 503, "draining", "server is restarting")
		}
		between(t, began, 0, 0)
		time.Sleep(time.Minute)
		next(t, next(t, rooms.guests).left)
	})
}

// It is too late for that while the answer is under way: then the socket is
// closed like the rest.
func TestDrainWhileUpgrading(t *testing.T) {
	rooms := newLobby()
	server := newServer(t, wsconn.Config{Rooms: rooms})
	asked, let := make(chan struct{}, 1), make(chan struct{})
	near, far := net.Pipe()
	defer near.Close()
	go server.ServeHTTP(&slowHijacker{hijacker{ResponseRecorder: httptest.NewRecorder(), conn: far}, asked, let}, upgradeRequest(who))
	next(t, asked)
	if err := server.Drain(t.Context(), 1, closeRestart); err != nil {
		t.Fatal(err)
	}
	close(let)
	in := bufio.NewReader(near)
	if response, err := http.ReadResponse(in, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response, err)
	}
	(&client{t: t, Conn: near, reader: in}).expectClose(1012, "server is restarting")
	next(t, next(t, rooms.guests).left)
}

// What a node of a cluster closes because it goes away is no close by a room.
func TestDrainByTheRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		rooms := newLobby()
		server := newServer(t, wsconn.Config{Rooms: rooms, Registerer: reg})
		a, b := alive(plug(t, server, who)), alive(plug(t, server, who))
		next(t, rooms.guests).Socket.Close(closeRestart)
		server.Refuse()
		next(t, rooms.guests).Socket.Close(closeRestart)
		<-a
		<-b
		expectCloses(t, reg, map[string]float64{"room": 1, "drain": 1})
	})
}

func TestMaxConnectionAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		reg := prometheus.NewRegistry()
		server := newServer(t, wsconn.Config{Rooms: newManager(t, room.Config{}), MaxConnectionAge: 10 * time.Minute, Registerer: reg})
		began := time.Now()
		closed := crowd(t, server, n)
		var first, last time.Duration
		perTen := map[int]int{}
		for i := range n {
			if body := <-closed; body != closeBody(1012, "this connection is old; come back") {
				t.Fatalf("closed with %q", body)
			}
			last = time.Since(began)
			if i == 0 {
				first = last
			}
			perTen[int(last.Seconds()/10)]++
		}
		if first < 9*time.Minute || last > 11*time.Minute+time.Second || last-first < 90*time.Second {
			t.Errorf("closed from %v to %v", first, last)
		}
		for ten, count := range perTen {
			if count > n/3 {
				t.Errorf("%d were closed from second %d to %d", count, 10*ten, 10*ten+10)
			}
		}
		synctest.Wait()
		expectCloses(t, reg, map[string]float64{"max_age": n})
	})
}

// By itself a socket may get as old as it likes.
func TestNoMaxConnectionAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := crowd(t, newServer(t, wsconn.Config{Rooms: newManager(t, room.Config{})}), 1)
		time.Sleep(5 * time.Hour)
		if len(closed) > 0 {
			t.Errorf("closed with %q", <-closed)
		}
	})
}

// Of many refusals there is a line a second for each reason, and the lines
// count them all.
func TestRefusalsAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token = "s3cr3t t0k3n"
		var log record
		auth := authz.AuthorizerFunc(func(_ context.Context, info authz.Info) (room.Grant, error) {
			if info.ClientID == "down" {
				return room.Grant{}, errors.New("dial tcp 10.0.0.7:443: no route, asking /?t=s3cr3t+t0k3n for " + info.Token)
			}
			return room.Grant{}, authz.DenyAs(authz.ExpiredToken, "token expired")
		})
		server, err := wsconn.NewServer(wsconn.Config{Rooms: newLobby(), Authorizer: auth, Logger: slog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		longRoom := strings.Repeat("r", 5000)
		come := func(client string, n int) {
			for range n {
				knock(server, upgradeRequest("roomId="+longRoom+"&clientId="+client+"&token=s3cr3t+t0k3n"))
			}
		}
		for range 10 { // ten times in two and a half seconds
			come("old", 100)
			come("down", 1)
			time.Sleep(250 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		come("old", 1)
		come("old", 1) // which is told at the end
		if err := server.Shutdown(t.Context(), protocol.CloseRestart); err != nil {
			t.Error(err)
		}
		counts := map[string]int{}
		lines := map[string]int{}
		for line := range strings.Lines(log.String()) {
			_, rest, _ := strings.Cut(line, "reason=")
			var reason string
			var count int
			if _, err := fmt.Sscanf(strings.Replace(rest, "count=", "", 1), "%s %d", &reason, &count); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			counts[reason] += count
			lines[reason]++
			if len(line) > 500 {
				t.Errorf("a line of %d bytes", len(line))
			}
			if reason == "authorizer_down" && !strings.Contains(line, "no route") {
				t.Errorf("it does not say why: %s", line)
			}
		}
		if counts["expired_token"] != 1002 || counts["authorizer_down"] != 10 {
			t.Errorf("the lines count %v", counts)
		}
		if lines["expired_token"] > 6 || lines["authorizer_down"] > 4 {
			t.Errorf("there are lines: %v", lines)
		}
		for _, secret := range []string{token, "s3cr3t+t0k3n"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("logged: %s", log.String())
			}
		}
	})
}
