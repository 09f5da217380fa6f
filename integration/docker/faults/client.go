package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// minBackoff is the published client's. It doubles up to maxBackoff, which is shorter than the
	// published client's ten seconds so that a short run comes to rest.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 2 * time.Second
	// dialTimeout is longer than what a stopped node sleeps, since a browser waits as well.
	dialTimeout  = 15 * time.Second
	writeTimeout = 60 * time.Second
)

// Target is a node as clients know it, or what is in front of nodes.
type Target struct {
	Name, Addr string
	// Token returns a token for a room. Nil is for servers that take any.
	Token func(room string) string
}

// client edits one room, through one socket at a time. What has no ack when a socket closes is sent
// again when there is another.
//
// A frame holds
//
//	frame/<client>   mark: names the sending; every frame has it
//	u/<client>.<n>   an edit's own key, never touched again
//	shared/S         by: the edit; what the last frame of the room says counts
//	t/<client>       a component that comes and goes
type client struct {
	// Fixed after construction.
	id, room string
	targets  []Target
	home     int // in targets: which is tried first, then the next ones
	start    time.Time
	every    time.Duration
	pad      rawJSON

	at int // in targets; owned by stay

	mu       sync.Mutex
	conn     *websocket.Conn // nil while closed
	isSynced bool            // all reconnects of this socket have been answered
	rejoins  []string        // the marks of those that have not, "" for one without patches
	edits    int
	sendings int
	last     int64 // the timestamp up to which the document is complete
	waiting  []Patch
	inFlight map[string][]Patch // by mark
	document Patch
	events   []Event
	changed  chan struct{} // closed and replaced whenever one of the above changes
}

func newClient(id, room string, targets []Target, home int, start time.Time, every time.Duration, pad int) *client {
	return &client{
		id: id, room: room, targets: targets, home: home, at: home, start: start, every: every,
		pad:      mustMarshal(strings.Repeat("p", pad)),
		inFlight: map[string][]Patch{}, document: Patch{}, changed: make(chan struct{}),
	}
}

func (c *client) noteLocked(e Event) {
	e.At = time.Since(c.start)
	c.events = append(c.events, e)
	close(c.changed)
	c.changed = make(chan struct{})
}

// stay keeps the client connected until ctx ends.
func (c *client) stay(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		conn, err := c.dial(ctx)
		if err == nil {
			backoff = minBackoff
			c.open(ctx, conn)
			err = c.read(ctx, conn)
			c.closed(ctx, err)
			c.at = c.home
		} else {
			c.at = (c.at + 1) % len(c.targets)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		if err != nil {
			backoff = min(2*backoff, maxBackoff)
		}
	}
}

func (c *client) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return dial(ctx, c.targets[c.at], c.room, c.id)
}

func dial(ctx context.Context, t Target, room, id string) (*websocket.Conn, error) {
	token := "any"
	if t.Token != nil {
		token = t.Token(room)
	}
	query := url.Values{"roomId": {room}, "clientId": {id}, "token": {token}}
	//nolint:bodyclose // Dial takes care of it
	conn, _, err := websocket.Dial(ctx, "ws://"+t.Addr+"/?"+query.Encode(), &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	return conn, nil
}

// open says hello on a new socket, with all that has no ack.
func (c *client) open(ctx context.Context, conn *websocket.Conn) {
	c.mu.Lock()
	c.conn, c.isSynced, c.rejoins = conn, false, nil
	c.noteLocked(Event{Kind: Opened, Node: c.targets[c.at].Name})
	text := c.reconnectLocked()
	c.mu.Unlock()
	c.write(ctx, conn, text)
}

func (c *client) reconnectLocked() []byte {
	message := map[string]any{"type": "reconnect", "protocolVersion": 2, "lastTimestamp": c.last}
	mark := ""
	if len(c.waiting) > 0 {
		var list json.RawMessage
		mark, list = c.sendLocked()
		message["documentPatches"] = list
	}
	c.rejoins = append(c.rejoins, mark)
	c.isSynced = false
	return mustMarshal(message)
}

// sendLocked turns what is waiting into one frame's list of patches, which is in flight from now on.
func (c *client) sendLocked() (mark string, list json.RawMessage) {
	c.sendings++
	mark = fmt.Sprintf("%s#%d", c.id, c.sendings)
	merged := Patch{"frame/" + c.id: {"_exists": rawJSON("true"), "mark": mustMarshal(mark)}}
	for _, p := range c.waiting {
		merged.merge(p)
	}
	list = mustMarshal([]Patch{merged})
	c.inFlight[mark] = c.waiting
	c.waiting = nil
	c.noteLocked(Event{Kind: Sent, Mark: mark, Text: list})
	return mark, list
}

// edit makes edits at its pace until the context ends.
func (c *client) edit(ctx context.Context) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		c.waiting = append(c.waiting, c.nextEdit())
		conn := c.conn
		var text []byte
		if conn != nil {
			mark, list := c.sendLocked()
			text = mustMarshal(map[string]any{"type": "patch", "messageId": mark, "documentPatches": list})
		}
		c.mu.Unlock()
		if conn != nil {
			c.write(ctx, conn, text)
		}
	}
}

func (c *client) nextEdit() Patch {
	c.edits++
	name := fmt.Sprintf("%s.%d", c.id, c.edits)
	p := Patch{
		"u/" + name: {"_exists": rawJSON("true"), "n": mustMarshal(c.edits)},
		"shared/S":  {"_exists": rawJSON("true"), "by": mustMarshal(name)},
	}
	if len(c.pad) > 2 {
		p["shared/S"]["pad"] = c.pad
	}
	switch c.edits % 10 {
	case 3:
		p["t/"+c.id] = map[string]rawJSON{"_exists": rawJSON("true"), "n": mustMarshal(c.edits)}
	case 8:
		p["t/"+c.id] = map[string]rawJSON{"_exists": rawJSON("false")}
	}
	return p
}

// write sends one text frame. That it failed shows in the reading.
func (c *client) write(ctx context.Context, conn *websocket.Conn, text []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	_ = conn.Write(ctx, websocket.MessageText, text)
}

func (c *client) read(ctx context.Context, conn *websocket.Conn) error {
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			_ = conn.CloseNow()
			return err
		}
		if err := c.heard(text); err != nil {
			_ = conn.CloseNow()
			return err
		}
	}
}

// incoming is any message of a server.
type incoming struct {
	Type            string
	MessageID       string
	ClientID        string
	Timestamp       *int64
	Since           int64
	DocumentPatches json.RawMessage
}

func (c *client) heard(text []byte) error {
	var m incoming
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("unreadable message: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Type {
	case "patch":
		if m.Timestamp == nil || m.DocumentPatches == nil {
			return nil
		}
		changes := keysOf(m.DocumentPatches)
		c.document.merge(changes)
		if m.ClientID == "" {
			c.noteLocked(Event{Kind: Diff, Timestamp: *m.Timestamp})
			return nil
		}
		c.completeLocked(*m.Timestamp)
		var mark string
		_ = json.Unmarshal(changes["frame/"+m.ClientID]["mark"], &mark) // without one, the checker says so
		c.noteLocked(Event{Kind: Broadcast, Mark: mark, Text: m.DocumentPatches, Timestamp: *m.Timestamp})
	case "ack":
		if m.Timestamp == nil {
			return errors.New("ack without a timestamp")
		}
		c.takeLocked(m.MessageID)
		c.completeLocked(*m.Timestamp)
		c.noteLocked(Event{Kind: Acked, Mark: m.MessageID, Timestamp: *m.Timestamp})
	case "synced":
		if m.Timestamp == nil || len(c.rejoins) == 0 {
			return errors.New("synced that nobody asked for")
		}
		mark := c.rejoins[0]
		c.rejoins = c.rejoins[1:]
		delete(c.inFlight, mark) // the diff had it
		c.isSynced = len(c.rejoins) == 0
		c.completeLocked(*m.Timestamp)
		c.noteLocked(Event{Kind: Synced, Mark: mark, Timestamp: *m.Timestamp})
	case "resync":
		c.noteLocked(Event{Kind: Resync, Timestamp: m.Since})
	case "clientCount":
	default:
		return fmt.Errorf("unexpected message of type %q", m.Type)
	}
	return nil
}

// completeLocked notes how far the document is complete: before the diff has come, it is not, though
// broadcasts may have.
func (c *client) completeLocked(timestamp int64) {
	if c.isSynced {
		c.last = max(c.last, timestamp)
	}
}

// takeLocked applies a frame of this client's, now that it has its place among the others'.
func (c *client) takeLocked(mark string) {
	frame := Patch{"frame/" + c.id: {"_exists": rawJSON("true"), "mark": mustMarshal(mark)}}
	for _, p := range c.inFlight[mark] {
		frame.merge(p)
	}
	c.document.merge(frame)
	delete(c.inFlight, mark)
}

// closed puts what was in flight back in front of what waits.
func (c *client) closed(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.isSynced = nil, false
	c.requeueLocked()
	e := Event{Kind: Closed, Code: 1006, Reason: reasonOf(err)}
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		e.Code, e.Reason = int(ce.Code), ce.Reason
	}
	if ctx.Err() != nil {
		e.Code = 0
	}
	c.noteLocked(e)
}

func (c *client) requeueLocked() {
	var again []Patch
	marks := make([]string, 0, len(c.inFlight))
	for mark := range c.inFlight {
		marks = append(marks, mark)
	}
	slices.SortFunc(marks, func(a, b string) int { return sending(a) - sending(b) })
	for _, mark := range marks {
		again = append(again, c.inFlight[mark]...)
	}
	clear(c.inFlight)
	c.waiting = append(again, c.waiting...)
}

func sending(mark string) (n int) {
	_, _ = fmt.Sscanf(mark[strings.LastIndexByte(mark, '#')+1:], "%d", &n)
	return n
}

// settle waits until all that the client did has its ack, then asks for what it may have missed: after
// that it has seen all that there is if everybody else has stopped, too.
func (c *client) settle(ctx context.Context) error {
	return c.wait(ctx, func() bool {
		return c.conn != nil && c.isSynced && len(c.inFlight) == 0 && len(c.waiting) == 0
	})
}

func (c *client) refresh(ctx context.Context) error {
	c.mu.Lock()
	conn := c.conn
	var text []byte
	if conn != nil {
		text = c.reconnectLocked()
	}
	c.mu.Unlock()
	if conn != nil {
		c.write(ctx, conn, text)
	}
	return c.settle(ctx)
}

// wait returns when holds, which is called with mu held, does.
func (c *client) wait(ctx context.Context, holds func() bool) error {
	for {
		c.mu.Lock()
		done, changed := holds(), c.changed
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ackedLocked is how many edits have their acks, which come in the order of the edits.
func (c *client) ackedLocked() int { return c.edits - c.unackedLocked() }

func (c *client) unackedLocked() int {
	n := len(c.waiting)
	for _, edits := range c.inFlight {
		n += len(edits)
	}
	return n
}

func (c *client) recording() Recording {
	c.mu.Lock()
	defer c.mu.Unlock()
	unacked := c.unackedLocked()
	return Recording{Client: c.id, Room: c.room, Events: c.events, Document: c.document, Unacked: unacked}
}

// reasonOf is an error in short; those of the network repeat the addresses.
func reasonOf(err error) string {
	s := err.Error()
	return s[strings.LastIndexByte(s, ':')+1:]
}

func mustMarshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values always encode
	}
	return b
}
