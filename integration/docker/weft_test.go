package docker

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/weftsync/weft/authz"
)

const (
	weftPort  = 8080
	adminPort = 9090
	// weftAlias is, on the network, the name of all nodes together.
	weftAlias = "weft"
	// secret signs every token of these tests, those of the npm clients too.
	secret = "integration-secret-of-enough-bytes-for-hs256"
)

// weftServer is a node of Weft in a container.
type weftServer struct{ *box }

// startWeft runs Weft's own image on a network, under its name and that of all nodes, and waits until
// it is ready. env are settings, such as "WEFT_STORE=memory".
func startWeft(t testing.TB, name string, network *testcontainers.DockerNetwork, env ...string) *weftServer {
	t.Helper()
	return &weftServer{start(t, planWeft(t, name, network, env...))}
}

func planWeft(t testing.TB, name string, network *testcontainers.DockerNetwork, env ...string) plan {
	t.Helper()
	settings := map[string]string{"WEFT_AUTH_JWT_SECRET": secret}
	for _, setting := range env {
		key, value, _ := strings.Cut(setting, "=")
		maps.Copy(settings, map[string]string{key: value})
	}
	return plan{
		name:    name,
		aliases: []string{weftAlias},
		network: network,
		image:   needImage(t, weftImage),
		env:     settings,
		ports:   []int{weftPort, adminPort},
		strict:  true,
		ready:   wait.ForHTTP("/readyz").WithPort("9090/tcp"),
	}
}

// Restart starts it after Kill or Stop, and waits until it is ready.
func (w *weftServer) Restart(t testing.TB) {
	t.Helper()
	w.Start(t)
	waitFor(t, w.name+" to be ready", func() bool {
		code, _, err := get("http://" + w.addr(adminPort) + "/readyz")
		return err == nil && code == http.StatusOK
	})
}

// URL is where a client of this machine connects to this node.
func (w *weftServer) URL() string { return "ws://" + w.addr(weftPort) + "/" }

// token is good for an hour.
func token(t testing.TB, room string) string {
	t.Helper()
	token, err := authz.Mint([]byte(secret), authz.MintConfig{Room: room, Write: true, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// dial connects a client to a server's URL. The socket is cut when the test ends.
func dial(t testing.TB, server, room, client string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	q := url.Values{"roomId": {room}, "clientId": {client}, "token": {token(t, room)}}
	conn, _, err := websocket.Dial(ctx, server+"?"+q.Encode(), nil)
	if err != nil {
		t.Fatalf("connecting %s: %v", client, err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// exchangeOn sends a patch with this message id, and waits until it is acknowledged.
func exchangeOn(t testing.TB, conn *websocket.Conn, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := sendPatch(ctx, conn, id)
	if err == nil {
		err = readUntil(ctx, conn, fmt.Sprintf("%q", id))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sendPatch(ctx context.Context, conn *websocket.Conn, id string) error {
	patch := fmt.Appendf(nil, `{"type":"patch","messageId":%q,"documentPatches":[{"k/A":{"_exists":true,"by":%q}}]}`, id, id)
	return conn.Write(ctx, websocket.MessageText, patch)
}

// readUntil reads until a message has the text in it.
func readUntil(ctx context.Context, conn *websocket.Conn, text string) error {
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", text, err)
		}
		if strings.Contains(string(message), text) {
			return nil
		}
	}
}

func get(url string) (code int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestWeftInItsImageStopsInOrderAndKeepsItsRooms(t *testing.T) {
	t.Parallel()
	w := startWeft(t, "weft-1", newNetwork(t), "WEFT_SAVE_INTERVAL=1h") // so that the end saves
	exchangeOn(t, dial(t, w.URL(), "r", "ann"), "m1")
	if code := w.Stop(t); code != 0 {
		t.Errorf("exit code %d after docker stop", code)
	}
	w.Restart(t)
	conn := dial(t, w.URL(), "r", "bob")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)); err != nil {
		t.Fatal(err)
	}
	if err := readUntil(ctx, conn, `"by":"m1"`); err != nil {
		t.Error(err)
	}
}
