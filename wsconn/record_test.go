package wsconn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

var closeRestart = protocol.CloseRestart

// record is a log handler that keeps everything, as text.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Enabled(context.Context, slog.Level) bool { return true }
func (r *record) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *record) WithGroup(string) slog.Handler            { return r }

func (r *record) Handle(ctx context.Context, e slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slog.NewTextHandler(&r.text, &slog.HandlerOptions{Level: slog.LevelDebug}).Handle(ctx, e)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// Neither a token nor what a document holds reaches the log, whatever happens.
func TestNothingSecretIsLogged(t *testing.T) {
	const token, content = "s3cr3t-t0k3n", "c0nt3nt"
	var log record
	logger := slog.New(&log)
	auth := authz.AuthorizerFunc(func(_ context.Context, info authz.Info) (room.Grant, error) {
		if info.Token != token {
			return room.Grant{}, errors.New("no such token: " + info.Token)
		}
		switch info.ClientID {
		case "denied":
			return room.Grant{}, authz.Deny("go away")
		case "failed":
			return room.Grant{}, errors.New("cannot look up " + token)
		case "panic":
			panic(token)
		}
		return room.Grant{Permission: room.ReadWrite}, nil
	})
	manager := newManager(t, room.Config{Logger: logger})
	url := listen(t, newServer(t, wsconn.Config{Rooms: manager, Authorizer: auth, Logger: logger}))
	query := func(client string) string { return url + "/?roomId=r&clientId=" + client + "&token=" + token }
	for _, url := range []string{
		url + "/?clientId=a&token=" + token,
		url + "/?roomId=r&clientId=a&token=" + token + "-old",
		query("denied"), query("failed"), query("panic"),
	} {
		if a := get(t, url, upgradeRequest("").Header); a.status < 400 || strings.Contains(fmt.Sprint(a), token) {
			t.Errorf("answered with %+v", a)
		}
	}
	for _, c := range []struct {
		url  string
		send []byte
	}{
		{query("a"), frame(ws.OpText, true, `{"type":"auth-refresh","token":"`+token+`-old"}`)},
		{query("a"), frame(ws.OpText, true, `{"type":"auth-refresh","token":{"`+token+`":1}}`)},
		{query("a"), frame(ws.OpText, true, `{"type":"patch","documentPatches":{"`+content+`":1}}`)},
		{query("a"), frame(ws.OpText, true, `{"type":"patch","documentPatches":[{"`+content+`":1}]}`)},
		{query("a"), frame(ws.OpText, true, content+"\xff")},
		{query("a"), frame(ws.OpBinary, true, content)},
	} {
		client := dial(t, c.url)
		client.raw(c.send)
		if _, reason, err := client.closeReason(); err != nil || strings.Contains(reason, token) {
			t.Errorf("closed with %q, %v", reason, err)
		}
		_, _ = io.Copy(io.Discard, client)
	}
	text := log.String()
	if n := strings.Count(text, "\n"); n < 6 {
		t.Errorf("only %d lines were logged", n)
	}
	for _, secret := range []string{token, content} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("logged: %s", text[max(0, i-200):i+len(secret)])
		}
	}
}
