package wsconn

import (
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/room/protocol"
)

// keep looks after all sockets at intervals: it pings them, closes those that
// do not answer or are as old as they may get, and cuts off those whose writes
// make no progress. One goroutine for all costs less than a timer for each.
func (s *Server) keep() {
	shortest := min(s.config.PingInterval, s.config.PongTimeout, s.config.WriteTimeout)
	tick := time.NewTicker(min(max(shortest/4, time.Millisecond), quietAfter))
	defer tick.Stop()
	var open []*conn
	for {
		select {
		case <-s.idle:
			s.refusals.flush(true)
			return
		case <-tick.C:
		}
		s.refusals.flush(false)
		open = open[:0]
		s.mu.Lock()
		for c := range s.conns {
			open = append(open, c)
		}
		s.mu.Unlock()
		for _, c := range open {
			s.check(c)
		}
		clear(open)
	}
}

// quietAfter is how long a socket has nothing to say before it is treated as
// one of the many that only listen.
const quietAfter = 250 * time.Millisecond

// closeOld is told to a socket that is as old as it may get.
var closeOld = protocol.Close{Code: protocol.CodeRestart, Reason: "this connection is old; come back"}

var pingFrame = ws.MustCompileFrame(ws.NewPingFrame(nil))

func (s *Server) check(c *conn) {
	now := s.now()
	if since := c.writeSince.Load(); since != 0 && time.Duration(now-since) > s.config.WriteTimeout {
		c.cut(closedStalled)
		return
	}
	if c.retire != 0 && inTicks(now) >= c.retire && !s.draining.Load() {
		c.closeWith(closeOld, closedOld)
	}
	if c.grown.Load() && time.Duration(now-c.lastRead.Load()) > quietAfter {
		c.interrupt()
	}
	if sent := c.pingSent.Load(); sent != 0 {
		switch {
		case c.lastRead.Load() >= sent-1:
			c.pingSent.Store(0)
		case c.handling.Load():
			c.pingSent.Store(now + 1) // it is the room that keeps it from being heard
		case time.Duration(now-sent) > s.config.PongTimeout:
			c.closeWith(protocol.CloseDeadPeer, closedDead)
		}
		return
	}
	if time.Duration(now-c.lastPing.Load()) >= s.config.PingInterval {
		c.lastPing.Store(now)
		c.pingSent.Store(now + 1)
		c.ping()
	}
}

func (c *conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.control(pingFrame)
		c.wakeLocked(urgent)
	}
}
