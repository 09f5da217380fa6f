package load

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// echo is a server just good enough to be put under load: it broadcasts and acks patches, keeps
// their components, and hands them to whoever joins.
type echo struct {
	// Fixed after construction.
	dropEvery  int  // leave out every so-manieth delivery; 0: none
	closeAfter int  // close the sender with 1013 after so many patches; 0: never
	fragment   bool // send every message in two frames, with a ping between them
	noSync     bool // never answer the first frame
	url        string

	mu         sync.Mutex
	rooms      map[string]map[*echoConn]string // to client id
	components map[string]int                  // room to the number of components created in it
	deltas     int                             // buffer deltas seen
	deliveries int
	patches    int
	pongs      int
	dials      []*http.Request
}

type echoConn struct {
	net.Conn
	mu  sync.Mutex
	out bytes.Buffer
}

func newEcho(t *testing.T, e *echo) *echo {
	t.Helper()
	e.rooms, e.components = map[string]map[*echoConn]string{}, map[string]int{}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/"
	return e
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	c := &echoConn{Conn: conn}
	room, id := r.URL.Query().Get("roomId"), r.URL.Query().Get("clientId")
	e.mu.Lock()
	e.dials = append(e.dials, r)
	if e.rooms[room] == nil {
		e.rooms[room] = map[*echoConn]string{}
	}
	e.rooms[room][c] = id
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.rooms[room], c)
		e.mu.Unlock()
		c.Close()
	}()
	for {
		frame, err := ws.ReadFrame(c)
		if err != nil {
			return
		}
		if frame.Header.OpCode == ws.OpPong {
			e.mu.Lock()
			e.pongs++
			e.mu.Unlock()
			continue
		}
		if frame.Header.OpCode != ws.OpText {
			return
		}
		if e.message(c, room, id, ws.UnmaskFrameInPlace(frame).Payload) != nil {
			return
		}
	}
}

type echoMessage struct {
	Type             string           `json:"type"`
	ClientID         string           `json:"clientId"`
	MessageID        string           `json:"messageId,omitempty"`
	DocumentPatches  []map[string]any `json:"documentPatches,omitempty"`
	EphemeralPatches []map[string]any `json:"ephemeralPatches,omitempty"`
}

func (e *echo) message(c *echoConn, room, id string, payload []byte) error {
	var m echoMessage
	if err := json.Unmarshal(payload, &m); err != nil {
		return err
	}
	if m.Type == "reconnect" {
		if e.noSync {
			return nil
		}
		// What the room holds: more than fits any buffer, with a tag that must not be counted.
		stored := `{"type":"patch","clientId":"","documentPatches":[{"old/Block":{"sentAt":1,"text":"` +
			strings.Repeat("x", 3*maxInspect) + `"}}],"timestamp":1}`
		e.send(c, stored)
		e.send(c, `{"type":"synced","timestamp":1}`)
		return nil
	}
	for _, patch := range m.DocumentPatches {
		for _, component := range patch {
			fields := component.(map[string]any)
			e.mu.Lock()
			if fields["_exists"] == true {
				e.components[room]++
			}
			if buf, ok := fields["points"].(map[string]any); ok && buf["__buf"] == 1.0 {
				e.deltas++
			}
			e.mu.Unlock()
		}
	}
	out, err := json.Marshal(echoMessage{Type: "patch", ClientID: id, DocumentPatches: m.DocumentPatches, EphemeralPatches: m.EphemeralPatches})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.patches++
	patches := e.patches
	var others []*echoConn
	for other := range e.rooms[room] {
		if other == c {
			continue
		}
		if e.deliveries++; e.dropEvery == 0 || e.deliveries%e.dropEvery != 0 {
			others = append(others, other)
		}
	}
	e.mu.Unlock()
	for _, other := range others {
		e.send(other, string(out))
	}
	e.send(c, `{"type":"ack","messageId":"`+m.MessageID+`","timestamp":2}`)
	if e.closeAfter > 0 && patches > e.closeAfter {
		c.mu.Lock()
		defer c.mu.Unlock()
		body := ws.NewCloseFrameBody(ws.StatusCode(1013), "slow consumer")
		return wsutil.WriteServerMessage(c, ws.OpClose, body)
	}
	return nil
}

// send writes in one piece or, to be unkind, in two frames with a ping between them.
func (e *echo) send(c *echoConn, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Reset()
	frames := []ws.Frame{ws.NewTextFrame([]byte(message))}
	if e.fragment {
		half := len(message) / 2
		frames = []ws.Frame{
			ws.NewFrame(ws.OpText, false, []byte(message[:half])),
			ws.NewPingFrame([]byte("still there?")),
			ws.NewFrame(ws.OpContinuation, true, []byte(message[half:])),
		}
	}
	for _, frame := range frames {
		ws.MustWriteFrame(&c.out, frame)
	}
	_, _ = c.Write(c.out.Bytes()) // a client that has gone is noticed by its reader
}
