package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// A new token changes what a session may do, in the order of its messages; one
// that is refused, and one about which nobody decides, ends it.
func TestTokenRefreshThroughANode(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	defer close(hangs)
	authorize := func(r room.TokenRefresh) (room.Grant, error) {
		switch r.Token {
		case "read":
			return room.Grant{Permission: room.ReadOnly}, nil
		case "hang": // whatever its context says
			<-hangs
		}
		return room.Grant{}, errors.New("secret")
	}
	n := startNode(t, startRealRedis(t), func(c *Config) { c.AuthorizeTimeout = 50 * time.Millisecond })
	enter := func(client string) *witness {
		w := &witness{t: t}
		var err error
		w.session, err = n.Connect(t.Context(), "r", room.ConnectOptions{
			Client: client, Socket: w, Grant: room.Grant{Permission: room.ReadWrite}, OnTokenRefresh: authorize,
		})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	reader := enter("reader")
	reader.drawn("before")
	reader.say(`{"type":"auth-refresh","token":"read"}`)
	eventually(t, "the session to be read-only", func() bool {
		info, err := reader.session.Info()
		return err == nil && info.Permission == room.ReadOnly
	})
	reader.drawn("after") // acknowledged, and not applied
	if again := visit(t, n, "r", "again"); !again.has(`"before"`) || again.has(`"after"`) {
		t.Errorf("the room has %q", again.frames)
	}
	for _, token := range []string{"no", "hang"} {
		w := enter(token)
		w.say(`{"type":"auth-refresh","token":%q}`, token)
		eventually(t, "the session to be closed", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.closed != nil
		})
		if want := protocol.PolicyViolation("authorization failed"); *w.closed != want {
			t.Errorf("%s: %v", token, *w.closed)
		}
	}
	w := enter("last")
	w.say(`{"type":"auth-refresh","token":"hang"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Leave(ctx, protocol.CloseRestart); err != nil {
		t.Error(err)
	}
}
