package cluster

import (
	"context"
	"fmt"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// A seat is in its room when the join has come back from the room's owner. Until
// then its socket hears nothing, and what ends it is an error of connect.

// connect adds a session and waits until its room has it, or refuses it. If the
// context ends before, the session leaves.
func (e *edge) connect(ctx context.Context, roomID string, o room.ConnectOptions) (room.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("join room %q: %w", roomID, err)
	}
	s, err := e.admit(roomID, o)
	if err != nil {
		return nil, err
	}
	select {
	case err = <-s.entered:
	case <-ctx.Done():
		err = s.giveUp(ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// admit adds a session, which is in the room when the log has its join.
func (e *edge) admit(roomID string, o room.ConnectOptions) (*seat, error) {
	if int(e.buffered.Load()) > e.inc.config.MaxBufferBytes {
		return nil, ErrOverloaded
	}
	p := &e.partitions[partitionOf(roomID)]
	s := newSeat(e, p, roomID, o)
	it := item{kind: itemJoin, room: roomID, session: s.id, client: o.Client, grant: o.Grant}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.closed.Load() {
		return nil, ErrLeft
	}
	r := p.rooms[roomID]
	if r == nil {
		r = &edgeRoom{byID: map[string]*seat{}}
		if p.rooms == nil {
			p.rooms = map[string]*edgeRoom{}
		}
		p.rooms[roomID] = r
	}
	r.seats = append(r.seats, s)
	r.byID[s.id] = s
	e.count.Add(1)
	e.sendLocked(p, s, it)
	return s, nil
}

// enterLocked tells connect that the session is in its room; the partition is locked.
func (s *seat) enterLocked() {
	if !s.joined {
		s.joined = true
		s.entered <- nil
	}
}

// endLocked closes the socket, or, if the session is not in its room yet, lets
// connect say why; the partition is locked.
func (s *seat) endLocked(c protocol.Close) {
	switch {
	case s.joined:
		s.socket.Close(c)
	case !s.left.Load():
		s.entered <- refusal(s.room, c)
	}
}

// giveUp lets the session leave, unless it has been decided meanwhile.
func (s *seat) giveUp(why error) error {
	s.partition.mu.Lock()
	defer s.partition.mu.Unlock()
	select {
	case err := <-s.entered:
		return err
	default:
	}
	s.edge.removeLocked(s)
	return fmt.Errorf("join room %q: %w", s.room, why)
}

// refusal is why a session was not taken into its room.
func refusal(roomID string, c protocol.Close) error {
	switch {
	case c == protocol.CloseRoomFull:
		return fmt.Errorf("join room %q: %w", roomID, room.ErrFull)
	case c.Code == protocol.CodeInternal:
		return fmt.Errorf("load room %q: %s", roomID, c.Reason)
	}
	return &notEntered{c}
}

// notEntered: the session was closed before its room had it. The client may come
// back at once; if its node goes, that is a [room.ErrClosed].
type notEntered struct{ close protocol.Close }

func (e *notEntered) Error() string {
	return "the session was closed before its room had it: " + e.close.Reason
}
func (e *notEntered) Is(target error) bool {
	return target == room.ErrClosed && e.close.Code == protocol.CloseRestart.Code
}
func (e *notEntered) CloseSocket() protocol.Close { return e.close }
