package wsconn

import (
	"context"
	"math/rand/v2"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// Refuse begins a drain: from now on upgrades are answered with 503, also those
// that wait to be authorized, or for their room; and weft_drain_sockets_remaining
// tells how many sockets are open. Those stay, until [Server.Drain] closes them, or
// something else does.
func (s *Server) Refuse() {
	s.mu.Lock()
	s.draining.Store(true) // locked, so that admit does not overlook it
	s.mu.Unlock()
	s.cancel()
}

// Drain begins a drain, and closes the sockets at a pace: rate a second, or as
// many as it takes to be through when four fifths of the time until the context's
// deadline are over; see [room.CloseAtPace]. They are closed in random order. It
// returns when the last has been told, not when it has ended: that is for
// [Server.Shutdown] to wait for. The error is the context's: some are still open.
func (s *Server) Drain(ctx context.Context, rate int, why protocol.Close) error {
	s.Refuse()
	open := s.open()
	rand.Shuffle(len(open), func(a, b int) { open[a], open[b] = open[b], open[a] })
	_, err := room.CloseAtPace(ctx, rate, len(open), func(i int) { open[i].closeWith(why, closedDrained) })
	return err
}

// open lists the sockets that are open.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	return open
}

// remaining is how many sockets a drain still has to close; 0 before it.
func (s *Server) remaining() float64 {
	if !s.draining.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(len(s.conns))
}

// Shutdown takes no more connections, closes those that are open, all at once,
// and waits for them to end; if the context ends first it cuts them off and
// returns its error. It waits for authorizers that do not heed their context
// only until then.
func (s *Server) Shutdown(ctx context.Context, why protocol.Close) error {
	s.mu.Lock()
	s.draining.Store(true)
	if s.closed == nil {
		s.closed = &why
	}
	s.mu.Unlock()
	s.cancel()
	open := s.open()
	for _, c := range open {
		c.Close(why)
	}
	ended, decided := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.tasks.Wait()
		s.ended.Do(func() { close(s.idle) })
		s.keeper.Wait()
	}()
	go func() {
		defer close(decided)
		<-ended
		s.asks.Wait()
	}()
	select {
	case <-decided:
		return nil
	case <-ctx.Done():
	}
	for _, c := range open {
		_ = c.net.Close()
	}
	<-ended
	return ctx.Err()
}
