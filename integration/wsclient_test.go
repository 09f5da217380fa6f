package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// barrier is a frame that the server answers with `version-mismatch`, to its sender alone, and that
// changes nothing. Frames of one socket are answered in order, so once the answer is there,
// everything sent before has been handled.
const barrier = `{"type":"reconnect","protocolVersion":99,"lastTimestamp":0}`

// wsClient is a WebSocket client that keeps every frame it gets, in order, until someone takes it.
type wsClient struct {
	conn *websocket.Conn

	mu      sync.Mutex
	frames  []frame       // not yet taken
	closed  *closeInfo    // set once, when reading has ended
	changed chan struct{} // closed and replaced whenever one of the above changes
}

// frame is one text frame, as it came and as JavaScript reads it.
type frame struct {
	text  string
	value map[string]any
}

func (f frame) kind() string {
	s, _ := f.value["type"].(string)
	return s
}

// closeInfo is how a socket ended: the close frame's code and reason, 1005 for a close frame without
// a code, 1006 for an end without a close frame.
type closeInfo struct {
	code   int
	reason string
}

func (c *closeInfo) String() string { return fmt.Sprintf("closed %d %q", c.code, c.reason) }

// notUpgraded is the error of a dial that was answered with an HTTP status.
type notUpgraded struct {
	status       int
	label, words string // the Weft-Reason header and the body
}

func (e *notUpgraded) Error() string {
	return fmt.Sprintf("answered with status %d, %s: %s", e.status, e.label, e.words)
}

// dial opens a socket. The caller says goodbye by leave or drop. The error may
// be a *notUpgraded.
func dial(url string) (*wsClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil && answer != nil && answer.StatusCode != http.StatusSwitchingProtocols {
		words, _ := io.ReadAll(answer.Body)
		return nil, &notUpgraded{answer.StatusCode, answer.Header.Get("Weft-Reason"), strings.TrimSpace(string(words))}
	}
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	c := &wsClient{conn: conn, changed: make(chan struct{})}
	go c.read()
	return c, nil
}

// mustDial is dial for a test that cannot go on without; the socket is dropped when the test ends.
func mustDial(t testing.TB, url string) *wsClient {
	t.Helper()
	c, err := dial(url)
	if err != nil {
		t.Fatal(strings.ReplaceAll(err.Error(), "eyJ", "…"))
	}
	t.Cleanup(c.drop)
	return c
}

// read ends with the socket: whoever made the client drops it at the latest when the test ends.
func (c *wsClient) read() {
	for {
		typ, text, err := c.conn.Read(context.Background())
		c.mu.Lock()
		switch {
		case err == nil && typ == websocket.MessageText:
			f := frame{text: string(text)}
			v, err := parseJS(text)
			object, ok := v.(map[string]any)
			if err != nil || !ok {
				object = map[string]any{"type": "unreadable", "text": f.text}
			}
			f.value = object
			c.frames = append(c.frames, f)
		case err == nil:
			c.frames = append(c.frames, frame{
				text:  fmt.Sprintf("binary frame %q", text),
				value: map[string]any{"type": "binary", "text": string(text)},
			})
		default:
			var ce websocket.CloseError
			if errors.As(err, &ce) {
				c.closed = &closeInfo{int(ce.Code), ce.Reason}
			} else {
				c.closed = &closeInfo{code: 1006}
			}
		}
		close(c.changed)
		c.changed = make(chan struct{})
		done := c.closed != nil
		c.mu.Unlock()
		if done {
			return
		}
	}
}

// send writes one text frame. An error means that the socket is gone, which reading tells better.
func (c *wsClient) send(text string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.conn.Write(ctx, websocket.MessageText, []byte(text))
}

// sendPieces writes one message in fragments.
func (c *wsClient) sendPieces(pieces []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w, err := c.conn.Writer(ctx, websocket.MessageText)
	if err != nil {
		return
	}
	for _, piece := range pieces {
		if _, err := w.Write([]byte(piece)); err != nil {
			return
		}
	}
	_ = w.Close()
}

// leave says goodbye and waits until the server has, too.
func (c *wsClient) leave() { _ = c.conn.Close(websocket.StatusNormalClosure, "") }

// drop cuts the connection.
func (c *wsClient) drop() { _ = c.conn.CloseNow() }

var errPatience = errors.New("waited in vain")

// await waits until holds says yes to the frames that nobody took yet, or the socket is closed. It
// reports whether holds said yes; the error says that neither happened.
func (c *wsClient) await(holds func(frames []frame) bool) (bool, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		ok, closed, changed := holds(c.frames), c.closed != nil, c.changed
		c.mu.Unlock()
		if ok || closed {
			return ok, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false, errPatience
		}
	}
}

// take removes and returns what has come so far, and tells whether the socket has ended.
func (c *wsClient) take() ([]frame, *closeInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames = nil
	return frames, c.closed
}

func countKind(frames []frame, kind string) int {
	n := 0
	for _, f := range frames {
		if f.kind() == kind {
			n++
		}
	}
	return n
}

// settle sends a barrier and takes all frames up to its answer, which is left out. mismatches tells
// how many `version-mismatch` frames are still due for what was sent before.
func (c *wsClient) settle(mismatches int) ([]frame, *closeInfo, error) {
	c.send(barrier)
	done, err := c.await(func(frames []frame) bool {
		return countKind(frames, "version-mismatch") > mismatches
	})
	frames, closed := c.take()
	if done {
		// The answer is the last mismatch, and nothing follows it while only one client acts. A
		// frame that does follow is kept for the comparison.
		for i := len(frames) - 1; i >= 0; i-- {
			if frames[i].kind() == "version-mismatch" {
				frames = append(frames[:i:i], frames[i+1:]...)
				break
			}
		}
	}
	return frames, closed, err
}

// The helpers below serve tests that talk to one server and fail at once.

// mustSee waits for a frame of the kind, skipping others, and removes everything up to it.
func (c *wsClient) mustSee(t testing.TB, kind string) frame {
	t.Helper()
	return c.mustSeeWhere(t, kind, func(f frame) bool { return f.kind() == kind })
}

// mustSeeWhere is mustSee for any condition; what names it in the failure.
func (c *wsClient) mustSeeWhere(t testing.TB, what string, match func(frame) bool) frame {
	t.Helper()
	at := -1
	ok, err := c.await(func(frames []frame) bool {
		for i, f := range frames {
			if match(f) {
				at = i
				return true
			}
		}
		return false
	})
	if !ok {
		frames, closed := c.take()
		t.Fatalf("no frame %q came (%v, %v); instead: %v", what, err, closed, texts(frames))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.frames[at]
	c.frames = c.frames[at+1:]
	return f
}

// mustEnd waits for the end of the socket.
func (c *wsClient) mustEnd(t testing.TB) closeInfo {
	t.Helper()
	if _, err := c.await(func([]frame) bool { return false }); err != nil {
		frames, _ := c.take()
		t.Fatalf("the socket was not closed; frames: %v", texts(frames))
	}
	_, closed := c.take()
	return *closed
}

// mustSettle passes a barrier and returns what came before its answer.
func (c *wsClient) mustSettle(t testing.TB) []frame {
	t.Helper()
	frames, closed, err := c.settle(0)
	if err != nil || closed != nil {
		t.Fatalf("the socket should be alive: %v, %v", closed, err)
	}
	return frames
}

// mustPatch sends document patches and waits for their ack, whose timestamp it returns.
func (c *wsClient) mustPatch(t testing.TB, messageID, documentPatches string) float64 {
	t.Helper()
	c.send(fmt.Sprintf(`{"type":"patch","messageId":%q,"documentPatches":%s}`, messageID, documentPatches))
	ack := c.mustSeeWhere(t, "ack "+messageID, func(f frame) bool {
		return f.kind() == "ack" && f.value["messageId"] == messageID
	})
	return ack.value["timestamp"].(float64)
}

// mustSync asks for everything since the timestamp; the answer is the merged diff (nil if there is
// none) and the room's timestamp.
func (c *wsClient) mustSync(t testing.TB, since float64) (diff map[string]any, timestamp float64) {
	t.Helper()
	c.send(fmt.Sprintf(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":%v}`, since))
	for {
		f := c.mustSeeWhere(t, "synced", func(f frame) bool {
			return f.kind() == "synced" || f.kind() == "patch" && f.value["clientId"] == "" && f.value["documentPatches"] != nil
		})
		if f.kind() == "synced" {
			return diff, f.value["timestamp"].(float64)
		}
		diff = f.value["documentPatches"].([]any)[0].(map[string]any)
	}
}

func texts(frames []frame) []string {
	out := make([]string, len(frames))
	for i, f := range frames {
		out[i] = f.text
		if len(out[i]) > 2000 {
			out[i] = out[i][:2000] + "…"
		}
	}
	return out
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%#v", v)
	}
	return string(b)
}
