package canary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// client is one connection, used by one goroutine at a time.
type client struct {
	target
	id     string
	socket *websocket.Conn // nil until connected
}

const (
	// maxMessage bounds what the room may hold that is joined, in bytes.
	maxMessage = 64 << 20
	// maxAnswer is how much of a refusal is shown, in bytes.
	maxAnswer = 300
)

// connect joins the room and waits until the server has told what is in it.
func (k *client) connect(ctx context.Context, room, token string) error {
	query := k.url.Query()
	query.Set("roomId", room)
	query.Set("clientId", k.id)
	query.Set("token", token)
	full := k.url
	full.RawQuery = query.Encode()
	//nolint:bodyclose // Dial takes care of it
	socket, answer, err := websocket.Dial(ctx, full.String(), nil)
	if err != nil {
		return k.dialError(ctx, answer, err)
	}
	socket.SetReadLimit(maxMessage)
	k.socket = socket
	if err := k.write(ctx, map[string]any{"type": "reconnect", "lastTimestamp": 0, "protocolVersion": 2}); err != nil {
		return err
	}
	mismatch := false
	err = k.await(ctx, "the room's content", func(m message) bool {
		mismatch = m.Type == "version-mismatch"
		return mismatch || m.Type == "synced"
	})
	if mismatch {
		return errors.New("the server does not speak version 2 of the protocol")
	}
	return err
}

// dialError says what the server answered instead of opening a socket. The
// library's errors may quote the URL, and the token with it.
func (k *client) dialError(ctx context.Context, answer *http.Response, err error) error {
	if answer == nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no connection: %w", context.Cause(ctx))
		}
		for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
			err = next
		}
		return fmt.Errorf("no connection: %w", err)
	}
	said := answer.Status
	if reason := answer.Header.Get("Weft-Reason"); reason != "" {
		said += " (" + reason + ")"
	}
	if answer.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("the answer to the upgrade is none of a WebSocket server: %s", said)
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // as much as there is
	if line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); line != "" && strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") {
		said += ": " + line
	}
	return fmt.Errorf("answered with %s", said)
}

// send writes a patch of the canary's key.
func (k *client) send(ctx context.Context, id string, content map[string]any) error {
	return k.write(ctx, map[string]any{"type": "patch", "messageId": id, "documentPatches": []any{map[string]any{key: content}}})
}

func (k *client) write(ctx context.Context, m any) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := k.socket.Write(ctx, websocket.MessageText, text); err != nil {
		return k.ended(ctx, "to write", err)
	}
	return nil
}

// await reads until a message is the one.
func (k *client) await(ctx context.Context, what string, is func(message) bool) error {
	for {
		kind, text, err := k.socket.Read(ctx)
		if err != nil {
			return k.ended(ctx, what, err)
		}
		var m message
		if kind == websocket.MessageText && json.Unmarshal(text, &m) == nil && is(m) {
			return nil
		}
	}
}

// ended says why there was nothing more to read or write.
func (k *client) ended(ctx context.Context, what string, err error) error {
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return fmt.Errorf("waiting for %s: the server closed with %d %s", what, int(closed.Code), closed.Reason)
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
	}
	return fmt.Errorf("waiting for %s: the connection broke: %w", what, err)
}

// close ends the connection, in order if that is to be waited for.
func (k *client) close(inOrder bool) {
	switch {
	case k.socket == nil:
	case inOrder:
		_ = k.socket.Close(websocket.StatusNormalClosure, "") // it has done its work
	default:
		_ = k.socket.CloseNow()
	}
}
