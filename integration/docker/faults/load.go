package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// LoadConfig says who edits what.
type LoadConfig struct {
	Targets          []Target // clients spread over them evenly, those of a room over different ones
	Rooms            int
	ClientsPerRoom   int
	PatchesPerSecond int // of all clients
	RoomPrefix       string
	Pad              int // bytes that every patch has beside what it needs
}

// Load is clients at work.
type Load struct {
	start   time.Time
	clients []*client

	stopEdits, stopSockets context.CancelFunc
	editors, sockets       sync.WaitGroup
}

// StartLoad connects the clients and lets them edit. The caller ends it by Finish.
func StartLoad(c LoadConfig) *Load {
	l := &Load{start: time.Now()}
	edits, stopEdits := context.WithCancel(context.Background())
	sockets, stopSockets := context.WithCancel(context.Background())
	l.stopEdits, l.stopSockets = stopEdits, stopSockets
	every := time.Second * time.Duration(c.Rooms*c.ClientsPerRoom) / time.Duration(c.PatchesPerSecond)
	for i := range c.Rooms {
		for j := range c.ClientsPerRoom {
			l.clients = append(l.clients, newClient(fmt.Sprintf("c%d.%d", i, j), RoomName(c.RoomPrefix, i), c.Targets, (i+j)%len(c.Targets), l.start, every, c.Pad))
		}
	}
	for i, c := range l.clients {
		l.sockets.Go(func() { c.stay(sockets) })
		l.editors.Go(func() {
			// Not all at once.
			select {
			case <-time.After(every * time.Duration(i) / time.Duration(len(l.clients))):
				c.edit(edits)
			case <-edits.Done():
			}
		})
	}
	return l
}

// RoomName is the name of a load's i-th room.
func RoomName(prefix string, i int) string { return fmt.Sprintf("%sroom-%d", prefix, i) }

// Since is the time since the run began: the clock of all recordings.
func (l *Load) Since() time.Duration { return time.Since(l.start) }

// AwaitSynced returns when every client is connected.
func (l *Load) AwaitSynced(ctx context.Context) error {
	for _, c := range l.clients {
		if err := c.wait(ctx, func() bool { return c.isSynced }); err != nil {
			return fmt.Errorf("waiting for %s to be synced: %w", c.id, err)
		}
	}
	return nil
}

// AwaitAcked returns when all edits made before the call have their acks.
func (l *Load) AwaitAcked(ctx context.Context) error {
	made := make([]int, len(l.clients))
	for i, c := range l.clients {
		c.mu.Lock()
		made[i] = c.edits
		c.mu.Unlock()
	}
	for i, c := range l.clients {
		if err := c.wait(ctx, func() bool { return c.ackedLocked() >= made[i] }); err != nil {
			return fmt.Errorf("waiting for the acks of %s: %w", c.id, err)
		}
	}
	return nil
}

// Finish ends the edits, waits until all have their acks, and everybody has seen everything, for as long
// as ctx lasts; then it closes the sockets. What was not acked by then the recordings say.
func (l *Load) Finish(ctx context.Context) []Recording {
	l.stopEdits()
	l.editors.Wait()
	for _, step := range []func(*client, context.Context) error{(*client).settle, (*client).refresh} {
		var all sync.WaitGroup
		for _, c := range l.clients {
			all.Go(func() { _ = step(c, ctx) }) // the recording says what is missing
		}
		all.Wait()
	}
	l.stopSockets()
	l.sockets.Wait()
	recordings := make([]Recording, len(l.clients))
	for i, c := range l.clients {
		recordings[i] = c.recording()
	}
	return recordings
}

// ReadFinal reads a room as a client does that knows nothing.
func ReadFinal(ctx context.Context, t Target, room string) (Final, error) {
	f := Final{Node: t.Name, Room: room, Document: Patch{}}
	conn, err := dial(ctx, t, room, "reader")
	if err != nil {
		return f, fmt.Errorf("reading %s at %s: %w", room, t.Name, err)
	}
	defer conn.CloseNow()
	hello := mustMarshal(map[string]any{"type": "reconnect", "protocolVersion": 2, "lastTimestamp": 0})
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return f, fmt.Errorf("reading %s at %s: %w", room, t.Name, err)
	}
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return f, fmt.Errorf("reading %s at %s: %w", room, t.Name, err)
		}
		var m incoming
		if err := json.Unmarshal(text, &m); err != nil {
			return f, fmt.Errorf("reading %s at %s: %w", room, t.Name, err)
		}
		switch {
		case m.Type == "patch" && m.Timestamp != nil:
			f.Document.merge(keysOf(m.DocumentPatches))
		case m.Type == "synced" && m.Timestamp != nil:
			f.Timestamp = *m.Timestamp
			return f, conn.Close(websocket.StatusNormalClosure, "")
		}
	}
}
