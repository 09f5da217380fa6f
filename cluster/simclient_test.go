package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weftsync/weft/room"
)

// simClient is a client as the published one behaves: it sends what it has not
// had acknowledged again when it comes back. Every patch creates a key of its
// own and bears a mark that no other sending of it has, so that a patch which is
// lost or applied twice shows.
type simClient struct {
	w       *world
	number  int
	room    string
	node    *node // nil: closed
	session string
	tries   int
	sent    int

	last     int64 // the last timestamp
	joined   bool
	synced   bool
	rejoined bool              // the last reconnect has been sent
	unacked  map[string]string // key → the message that carries it
	acked    map[string]bool
	view     map[string]bool
	marks    map[string]bool
}

func newSimClient(w *world, number int) *simClient {
	return &simClient{
		w: w, number: number, room: roomName(number % simRooms),
		unacked: map[string]string{}, acked: map[string]bool{}, view: map[string]bool{}, marks: map[string]bool{},
	}
}

// act does what a client might do next.
func (c *simClient) act() {
	switch {
	case c.node == nil:
		c.connect()
	case !c.node.up || c.node.paused:
		if c.w.chance(20) {
			c.leave() // it has waited for long enough
		}
	case c.w.chance(4):
		c.leave()
	default:
		c.send()
	}
}

func (c *simClient) connect() {
	n := c.w.nodes[c.w.rng.IntN(len(c.w.nodes))]
	if !n.up || n.paused {
		return
	}
	c.tries++
	c.session = fmt.Sprintf("c%d.%d", c.number, c.tries)
	c.node, c.joined, c.synced = n, false, false
	n.edge.sessions[c.session] = c
	n.edge.sender.add(item{kind: itemJoin, room: c.room, session: c.session, client: fmt.Sprint("c", c.number), grant: room.Grant{Permission: room.ReadWrite}})
	c.reconnect()
}

func (c *simClient) reconnect() {
	patch := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(c.unacked)) {
		patch[key] = c.component()
		c.unacked[key] = "synced"
	}
	message := map[string]any{"type": "reconnect", "protocolVersion": 2, "lastTimestamp": c.last}
	if len(patch) > 0 {
		message["documentPatches"] = []any{patch}
	}
	c.say(message)
}

func (c *simClient) component() map[string]any {
	c.sent++
	return map[string]any{"_exists": true, "mark": fmt.Sprintf("%s/%d", c.session, c.sent)}
}

func (c *simClient) say(message any) {
	text, _ := json.Marshal(message)
	c.node.edge.sender.add(item{kind: itemMessage, room: c.room, session: c.session, text: text})
}

func (c *simClient) send() {
	component := c.component()
	id := fmt.Sprint(component["mark"])
	key := fmt.Sprintf("c%d/%d", c.number, c.sent)
	c.unacked[key] = id
	c.view[key] = true
	c.say(map[string]any{"type": "patch", "messageId": id, "documentPatches": []any{map[string]any{key: component}}})
}

// leave closes the socket from the client's side.
func (c *simClient) leave() {
	n := c.node
	delete(n.edge.sessions, c.session)
	n.edge.sender.add(item{kind: itemLeave, room: c.room, session: c.session})
	c.closed()
}

func (c *simClient) closed() { c.node, c.synced = nil, false }

// settle brings a client to rest: connected, and told all that there is.
func (c *simClient) settle() {
	if c.node == nil {
		c.connect()
	} else if c.synced && len(c.unacked) == 0 && !c.rejoined {
		c.rejoined = true
		c.reconnect()
	}
}

type patches []map[string]struct{ Mark string }

func (c *simClient) receive(text []byte) error {
	var m struct {
		Type, ClientID, MessageID string
		Timestamp                 *int64
		DocumentPatches           patches
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	switch m.Type {
	case "ack":
		if c.synced && *m.Timestamp != c.last+1 {
			return fmt.Errorf("ack at %d after %d", *m.Timestamp, c.last)
		}
		return c.acknowledge(m.MessageID, *m.Timestamp)
	case "synced":
		c.synced = true
		return c.acknowledge("synced", *m.Timestamp)
	case "resync":
		return fmt.Errorf("the room has lost what the client has seen: %s", text)
	case "patch":
		if m.DocumentPatches == nil {
			return nil
		}
		if m.ClientID != "" {
			if c.synced && *m.Timestamp != c.last+1 {
				return fmt.Errorf("edit at %d after %d", *m.Timestamp, c.last)
			}
			if err := c.mark(m.DocumentPatches); err != nil {
				return err
			}
		}
		for _, p := range m.DocumentPatches {
			for key := range p {
				c.view[key] = true
			}
		}
		if c.synced || m.ClientID == "" {
			c.last = max(c.last, *m.Timestamp)
		}
	}
	return nil
}

func (c *simClient) acknowledge(id string, timestamp int64) error {
	c.last = max(c.last, timestamp)
	for key, message := range c.unacked {
		if message == id {
			delete(c.unacked, key)
			c.acked[key] = true
		}
	}
	return nil
}

// mark notes the marks of somebody's edit: one that comes again was applied
// twice.
func (c *simClient) mark(list patches) error {
	for _, p := range list {
		for key, component := range p {
			id := key + " " + component.Mark
			if c.marks[id] {
				return fmt.Errorf("%s was applied twice", strings.TrimSpace(id))
			}
			c.marks[id] = true
		}
	}
	return nil
}
