package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/weftsync/weft/integration/local"
)

// client is a socket in a room. It answers nothing and keeps no document; it counts what it gets.
type client struct {
	id   string
	node *local.Node
	conn *websocket.Conn
	done chan struct{} // closed when the socket has ended

	patches, presences atomic.Int64 // of others

	mu     sync.Mutex
	sent   int
	asked  map[int]time.Time // since when what has no ack waits
	waited []wait
}

// wait is how long a patch waited for its ack.
type wait struct{ from, to time.Time }

func (w wait) length() time.Duration { return w.to.Sub(w.from) }

const joinTimeout = 30 * time.Second

// join connects a client and returns when it is in the room.
func join(ctx context.Context, n *local.Node, room, id string) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	query := url.Values{"roomId": {room}, "clientId": {id}, "token": {"any"}}
	//nolint:bodyclose // Dial takes care of it
	conn, _, err := websocket.Dial(ctx, "ws://"+n.Addr+"/?"+query.Encode(), &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.Name, err)
	}
	conn.SetReadLimit(-1)
	c := &client{id: id, node: n, conn: conn, done: make(chan struct{}), asked: map[int]time.Time{}}
	err = conn.Write(ctx, websocket.MessageText, []byte(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`))
	for synced := false; err == nil && !synced; {
		var text []byte
		_, text, err = conn.Read(ctx)
		synced = typeOf(text) == "synced"
	}
	if err != nil {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("join by %s: %w", n.Name, err)
	}
	go c.read()
	return c, nil
}

// leave closes the socket and returns when that is done.
func (c *client) leave() {
	_ = c.conn.CloseNow()
	<-c.done
}

func leaveAll(list []*client) {
	for _, c := range list {
		c.leave()
	}
}

// typeOf is a message's type, which is its first member.
func typeOf(text []byte) string {
	rest, ok := bytes.CutPrefix(text, []byte(`{"type":"`))
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 {
		return ""
	}
	return string(rest[:end])
}

func (c *client) read() {
	defer close(c.done)
	for {
		_, text, err := c.conn.Read(context.Background()) // leave ends it
		if err != nil {
			_ = c.conn.CloseNow()
			return
		}
		switch typeOf(text) {
		case "ack":
			c.acked(text, time.Now())
		case "patch":
			if bytes.Contains(text, []byte(`"documentPatches"`)) {
				c.patches.Add(1)
			} else {
				c.presences.Add(1)
			}
		}
	}
}

func (c *client) acked(text []byte, now time.Time) {
	var m struct{ MessageID string }
	if json.Unmarshal(text, &m) != nil {
		return
	}
	n, err := strconv.Atoi(m.MessageID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if from, ok := c.asked[n]; ok && err == nil {
		c.waited = append(c.waited, wait{from, now})
		delete(c.asked, n)
	}
}

// take returns the waits since it was last called.
func (c *client) take() []wait {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.waited
	c.waited = nil
	return list
}

func (c *client) unacked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// What a client sends.
type sending string

const (
	documentPatch sending = "documentPatches"
	presencePatch sending = "ephemeralPatches" // has no ack
)

// write sends one patch of this client's own component.
func (c *client) write(what sending, from time.Time) error {
	c.mu.Lock()
	c.sent++
	n := c.sent
	if what == documentPatch {
		c.asked[n] = from
	}
	c.mu.Unlock()
	text := fmt.Appendf(nil, `{"type":"patch","messageId":"%d",%q:[{"block/%s":{"_exists":true,"x":%d,"y":%d,"who":%q}}]}`,
		n, what, c.id, n, n%1000, c.id)
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, text)
}

// writeAll lets clients send, each at its pace, until the context ends, and returns how much they sent.
func writeAll(ctx context.Context, list []*client, what sending, every time.Duration) int64 {
	var total atomic.Int64
	var all sync.WaitGroup
	for _, c := range list {
		all.Go(func() {
			next := time.Now().Add(rand.N(every))
			for {
				from := next // if writing the one before took longer than it may
				if ahead := time.Until(next); ahead > 0 {
					select {
					case <-ctx.Done():
						return
					case <-time.After(ahead):
					}
					from = time.Now() // a timer may be late by a millisecond, which is nobody's wait
				} else if ctx.Err() != nil {
					return
				}
				if c.write(what, from) != nil {
					return // its node was stopped
				}
				total.Add(1)
				next = next.Add(every)
			}
		})
	}
	all.Wait()
	return total.Load()
}

var errLostAcks = errors.New("patches without an ack")

// drain waits until everything has its ack.
func drain(ctx context.Context, list []*client) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for _, c := range list {
		for c.unacked() > 0 {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%w: %d of one client on %s", errLostAcks, c.unacked(), c.node.Name)
			case <-c.done:
				return fmt.Errorf("a socket on %s has closed", c.node.Name)
			}
		}
	}
	return nil
}

// writeFor lets clients send for a time and returns how much they sent, when all has its ack.
func writeFor(ctx context.Context, list []*client, what sending, every, d time.Duration) (int64, error) {
	writing, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	n := writeAll(writing, list, what, every)
	if ctx.Err() != nil {
		return n, ctx.Err()
	}
	return n, drain(ctx, list)
}

// waitsOf takes the waits of all.
func waitsOf(list []*client) (all []time.Duration) {
	for _, c := range list {
		for _, w := range c.take() {
			all = append(all, w.length())
		}
	}
	return all
}
