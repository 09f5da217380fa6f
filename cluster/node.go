package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// Node is one process of a cluster. It takes the place of a [room.Manager]: a
// socket handler connects sessions to it, whoever owns their rooms. Make it
// with [Join]. It is safe for concurrent use.
type Node struct {
	config  Config
	clients clients
	stats   stats

	life    atomic.Pointer[incarnation]
	ctx     context.Context // ends when the node leaves
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	leaving sync.Mutex
	keys    sync.Mutex // one SetGossipKeys at a time
	left    bool
}

// Errors of a node.
var (
	// ErrLeft: the node has left its cluster.
	ErrLeft = fmt.Errorf("the node has left the cluster: %w", room.ErrClosed)
	// ErrOverloaded: the node buffers as much as it may; Redis is slow, or away.
	ErrOverloaded error = overloaded{}
	// ErrNoAnswer: what another node has answered got lost. What was asked of it
	// may have been done, and may be asked again.
	ErrNoAnswer = errors.New("the answer of another node got lost; ask again")
)

type overloaded struct{}

func (overloaded) Error() string { return "as much waits for Redis as may: it is slow or away" }

// CloseSocket is what a socket handler tells the client.
func (overloaded) CloseSocket() protocol.Close {
	return protocol.Close{Code: protocol.CodeTryLater, Reason: "server is overloaded"}
}

// live begins a new incarnation whenever one has to end.
func (n *Node) live() {
	for {
		i := n.life.Load()
		select {
		case <-n.ctx.Done():
			return
		case why := <-i.ended:
			n.config.Logger.Error("the node begins anew, and its sockets close: their clients come back", "node", i.id, "reason", why)
		}
		n.stats.rebirths.Add(1)
		i.abandon()
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			again, err := begin(n.ctx, &n.config, n.clients, &n.stats)
			if err == nil {
				n.life.Store(again)
				break
			}
			n.config.Logger.Error("the node cannot begin anew; it tries again", "error", err)
			select {
			case <-n.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

// Connect adds a session to a room, wherever its owner is, and returns when the
// room has it: what the socket gets from then on may come before Connect returns.
// While Redis is away it waits. If ctx ends before, the session leaves.
//
// The errors are the context's, [room.ErrFull], [ErrOverloaded], [ErrLeft], one
// that has a method CloseSocket() protocol.Close if the session had to end before
// the room had it (the client may come back at once), which is a [room.ErrClosed]
// if its node had to, and another if the room cannot be loaded.
// After an error the socket has got nothing, and has not been closed.
func (n *Node) Connect(ctx context.Context, roomID string, o room.ConnectOptions) (room.Session, error) {
	if o.OnTokenRefresh == nil {
		o.OnTokenRefresh = n.config.OnTokenRefresh
	}
	return n.life.Load().edge.connect(ctx, roomID, o)
}

// Sessions lists the sessions of a room, on all nodes, sorted by their ids. The
// errors are the context's, [ErrLeft], [ErrOverloaded] and [ErrNoAnswer].
func (n *Node) Sessions(ctx context.Context, roomID string) ([]room.SessionInfo, error) {
	r, err := n.life.Load().edge.ask(ctx, item{kind: itemSessions, room: roomID})
	if err != nil {
		return nil, err
	}
	return r.sessions, nil
}

// SetPermission changes what a session may do, whichever node it is connected
// to, and returns when that holds. The errors are [room.ErrNoSession], the
// context's, [ErrLeft], [ErrOverloaded] and [ErrNoAnswer].
func (n *Node) SetPermission(ctx context.Context, roomID, session string, p room.Permission) error {
	return n.change(ctx, item{kind: itemRegrant, room: roomID, session: session, grant: room.Grant{Permission: p}})
}

// SetMetadata replaces a session's metadata, nil leaving none; else it is like
// [Node.SetPermission].
func (n *Node) SetMetadata(ctx context.Context, roomID, session string, metadata json.RawMessage) error {
	if metadata == nil {
		metadata = json.RawMessage{}
	}
	return n.change(ctx, item{kind: itemRegrant, room: roomID, session: session, grant: room.Grant{Metadata: metadata}})
}

// Disconnect closes a session's socket, whichever node it is connected to, and
// removes the session; else it is like [Node.SetPermission].
func (n *Node) Disconnect(ctx context.Context, roomID, session string, c protocol.Close) error {
	return n.change(ctx, item{kind: itemDisconnect, room: roomID, session: session, close: c})
}

func (n *Node) change(ctx context.Context, it item) error {
	r, err := n.life.Load().edge.ask(ctx, it)
	if err == nil && !r.found {
		err = room.ErrNoSession
	}
	return err
}

// Ready reports whether the node takes part: it has a valid lease and is not leaving.
func (n *Node) Ready() bool {
	return n.ctx.Err() == nil && n.life.Load().lease.valid()
}

// Troubles says, a sentence each, what somebody should see to although the node may take part.
func (n *Node) Troubles() []string { return n.life.Load().headroom.full() }

// Leave hands the node's partitions over to the others, closes its sockets with
// c, Config.DrainRate a second or as fast as ctx demands, and takes the node out of the cluster. Everything
// acknowledged is in Redis all the time, so an error, which says what was not
// done before ctx ended, means that the others need some seconds to notice.
func (n *Node) Leave(ctx context.Context, c protocol.Close) error {
	n.leaving.Lock()
	defer n.leaving.Unlock()
	if n.left {
		return nil
	}
	n.left = true
	n.cancel()
	n.tasks.Wait()
	err := n.life.Load().leave(ctx, c)
	return errors.Join(err, n.clients.close())
}
