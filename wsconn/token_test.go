package wsconn_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// forMinutes grants as long as the token says.
var forMinutes = authz.AuthorizerFunc(func(_ context.Context, info authz.Info) (room.Grant, error) {
	lasts, err := time.ParseDuration(info.Token)
	if err != nil {
		return room.Grant{}, authz.Deny("token is no duration")
	}
	grant := room.Grant{Permission: room.ReadWrite}
	if lasts > 0 {
		grant.Expires = time.Now().Add(lasts)
	}
	if info.Request == nil {
		grant.Metadata = json.RawMessage(`"refreshed"`)
	}
	return grant, nil
})

// alive keeps a client's end of a pipe read and its pings answered, until the
// close frame, of which it sends the body.
func alive(c *client) <-chan string {
	closed := make(chan string, 1)
	go func() {
		for {
			f, err := ws.ReadFrame(c)
			switch {
			case err != nil:
				closed <- err.Error()
				return
			case f.Header.OpCode == ws.OpPing:
				_, _ = c.Write(frame(ws.OpPong, true, ""))
			case f.Header.OpCode == ws.OpClose:
				closed <- string(f.Payload)
				return
			}
		}
	}()
	return closed
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manager := newManager(t, room.Config{})
		server := newServer(t, wsconn.Config{Rooms: manager, Authorizer: forMinutes})
		began := time.Now()
		client := plug(t, server, "roomId=r&clientId=a&token=1m")
		if body := <-alive(client); body != closeBody(1008, "token expired") {
			t.Errorf("closed with %q", body)
		}
		between(t, began, 85*time.Second, 85*time.Second) // a minute and the grace
		synctest.Wait()
		if n := manager.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestExpiredOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := authz.AuthorizerFunc(func(context.Context, authz.Info) (room.Grant, error) {
			return room.Grant{Permission: room.ReadOnly, Expires: time.Now().Add(-time.Hour)}, nil
		})
		client := plug(t, newServer(t, wsconn.Config{Rooms: newLobby(), Authorizer: auth}), who)
		if body := <-alive(client); body != closeBody(1008, "token expired") {
			t.Errorf("closed with %q", body)
		}
	})
}

func TestRefreshProlongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manager := newManager(t, room.Config{})
		client := plug(t, newServer(t, wsconn.Config{Rooms: manager, Authorizer: forMinutes, TokenGrace: 10 * time.Second}), "roomId=r&clientId=a&token=1m")
		closed := alive(client)
		for range 5 {
			time.Sleep(65 * time.Second) // within the grace
			client.send(`{"type":"auth-refresh","token":"1m"}`)
			synctest.Wait()
		}
		r, _ := manager.Existing("r")
		if s := r.Sessions(); len(s) != 1 || string(s[0].Metadata) != `"refreshed"` {
			t.Fatalf("sessions are %v", s)
		}
		began := time.Now()
		if body := <-closed; body != closeBody(1008, "token expired") {
			t.Errorf("closed with %q", body)
		}
		between(t, began, 70*time.Second, 70*time.Second)
	})
}

// A token that does not end takes the place of one that does, and the other
// way round.
func TestRefreshWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manager := newManager(t, room.Config{})
		client := plug(t, newServer(t, wsconn.Config{Rooms: manager, Authorizer: forMinutes}), "roomId=r&clientId=a&token=1m")
		closed := alive(client)
		client.send(`{"type":"auth-refresh","token":"0s"}`)
		time.Sleep(time.Hour)
		client.send(`{"type":"auth-refresh","token":"1m"}`)
		began := time.Now()
		if body := <-closed; body != closeBody(1008, "token expired") {
			t.Errorf("closed with %q", body)
		}
		between(t, began, 85*time.Second, 85*time.Second)
	})
}

func TestRefusedRefreshCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manager := newManager(t, room.Config{})
		client := plug(t, newServer(t, wsconn.Config{Rooms: manager, Authorizer: forMinutes}), "roomId=r&clientId=a&token=1m")
		closed := alive(client)
		client.send(`{"type":"auth-refresh","token":"stolen"}`)
		if body := <-closed; body != closeBody(1008, "token is no duration") {
			t.Errorf("closed with %q", body)
		}
		synctest.Wait()
		if n := manager.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

// A refresh that waits for the session counts from when it is handled, not
// from the token that it replaces.
func TestRefreshBeforeTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rooms := newManager(t, room.Config{})
		slow := authz.AuthorizerFunc(func(ctx context.Context, info authz.Info) (room.Grant, error) {
			if info.Request != nil {
				time.Sleep(time.Second)
			}
			return forMinutes(ctx, info)
		})
		began := time.Now()
		p := newPlain(t)
		c := accept(t, p, wsconn.AcceptOptions{Rooms: rooms, Authorizer: slow, URL: "/?roomId=r&clientId=a&token=1m", Request: upgradeRequest("")})
		c.OnMessage([]byte(`{"type":"auth-refresh","token":"5m"}`))
		if got := <-p.closed; got != "1008 token expired" {
			t.Errorf("closed with %q", got)
		}
		between(t, began, 326*time.Second, 326*time.Second)
	})
}
