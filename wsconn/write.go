package wsconn

import (
	"sync"
	"time"
)

// outbox is what a socket has to write, and who writes it. It is guarded by
// the conn's mu.
//
// There is at most one writer: whoever finds work and no writer starts one,
// which goes on while there is work and ends when there is none.
type outbox struct {
	queue  [][]byte // frames
	queued int      // bytes of queue that count against the bound
	// large is the length of one queued frame that does not count, so that a
	// whole document may go out to a socket with a bound far below it, and
	// edits may queue up behind. There is at most one.
	large   int
	answer  []byte // a pong to send before anything else
	writing bool
	waiting *time.Timer // until the gathering time is over; nil: not waiting
	began   int64       // when the last write did, nanoseconds since the server began
}

const (
	// batchBytes is how much one write takes together. It is also what may
	// stand between a socket and its close frame.
	batchBytes = 64 << 10
	// pieceBytes is how much of a large frame is written at a time: a write
	// must make progress within the write timeout.
	pieceBytes = 256 << 10
	// largeShare: a frame that would take more than this part of the bound
	// does not count against it.
	largeShare = 8
)

// admit queues a frame, or reports that there is no room for it.
func (o *outbox) admit(frame []byte, bound int) bool {
	switch {
	case o.large == 0 && len(frame) > bound/largeShare:
		o.large = len(frame)
	case o.queued+len(frame) > bound:
		return false
	default:
		o.queued += len(frame)
	}
	o.queue = append(o.queue, frame)
	return true
}

// control queues a frame that always has room.
func (o *outbox) control(frame []byte) {
	o.queued += len(frame)
	o.queue = append(o.queue, frame)
}

func (o *outbox) drop() {
	o.queue, o.queued, o.large, o.answer = nil, 0, 0, nil
}

// take removes what the next write writes: a run of small frames, or one that
// fills a write by itself.
func (o *outbox) take(batch [][]byte) [][]byte {
	if o.answer != nil {
		batch = append(batch, o.answer)
		o.answer = nil
	}
	n, size := 0, 0
	for n < len(o.queue) && (n == 0 || size+len(o.queue[n]) <= batchBytes) {
		size += len(o.queue[n])
		if o.large == len(o.queue[n]) {
			o.large = 0
		} else {
			o.queued -= len(o.queue[n])
		}
		n++
	}
	batch = append(batch, o.queue[:n]...)
	if n == len(o.queue) {
		// An idle socket keeps no queue, a busy one does not make a new one
		// for every message.
		clear(o.queue)
		o.queue = o.queue[:0]
		if cap(o.queue) > 64 {
			o.queue = nil
		}
	} else {
		clear(o.queue[:n]) // what is written may be large, and the queue's array lives on
		o.queue = o.queue[n:]
	}
	return batch
}

func (o *outbox) empty() bool { return len(o.queue) == 0 && o.answer == nil }

// wakeLocked sees to it that the queue is written: at once if the socket has
// been quiet or it is urgent, otherwise when the gathering time is over.
func (c *conn) wakeLocked(urgent bool) {
	switch {
	case c.writing:
	case c.waiting != nil:
		if urgent && c.waiting.Stop() {
			c.waiting = nil
			c.startLocked() // in place of the timer's, which the tasks count
			c.tasks.Done()
		}
	default:
		rest := time.Duration(0)
		if gather := c.server.config.GatherDelay; gather > 0 && !urgent {
			rest = gather - time.Duration(c.server.now()-c.began)
		}
		if rest <= 0 {
			c.startLocked()
			return
		}
		c.gatherLocked(rest)
	}
}

func (c *conn) startLocked() {
	c.writing = true
	c.tasks.Go(c.write)
}

func (c *conn) gatherLocked(d time.Duration) {
	c.tasks.Add(1)
	c.waiting = time.AfterFunc(d, func() {
		defer c.tasks.Done()
		c.mu.Lock()
		c.waiting, c.writing = nil, true
		c.mu.Unlock()
		c.write()
	})
}

var (
	batches = sync.Pool{New: func() any { return new([][]byte) }}
	buffers = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes+1<<10); return &b }}
)

// write writes until there is nothing left, or too little to write before the
// gathering time is over.
func (c *conn) write() {
	batch := batches.Get().(*[][]byte)
	defer batches.Put(batch)
	*batch = (*batch)[:0]
	for c.next(batch) {
		if err := c.writeBatch(*batch); err != nil {
			c.mu.Lock()
			c.drop()
			_ = c.net.Close() // which the reader sees
			c.mu.Unlock()
		}
		clear(*batch)
	}
}

// next takes the next batch, or ends the writing. A batch that is not empty is
// the one that has just been written.
func (c *conn) next(batch *[][]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.empty() {
		c.writing = false
		if c.closing && !c.isDrained {
			c.isDrained = true
			close(c.drained)
		}
		return false
	}
	now := c.server.now()
	if len(*batch) > 0 && !c.closing && c.queued+c.large < batchBytes {
		if rest := c.server.config.GatherDelay - time.Duration(now-c.began); rest > 0 {
			c.writing = false
			c.gatherLocked(rest)
			return false
		}
	}
	c.began = now
	*batch = c.take((*batch)[:0])
	return true
}

// writeBatch writes frames in one go, or a large one piece by piece.
func (c *conn) writeBatch(batch [][]byte) error {
	m := c.server.metrics
	m.sent.Add(float64(len(batch)))
	rest := batch[0]
	if len(batch) > 1 {
		buffer := buffers.Get().(*[]byte)
		defer buffers.Put(buffer)
		*buffer = (*buffer)[:0]
		for _, frame := range batch {
			*buffer = append(*buffer, frame...)
		}
		rest = *buffer
	}
	for len(rest) > 0 {
		piece := rest[:min(len(rest), pieceBytes)]
		c.writeSince.Store(c.server.now())
		n, err := c.net.Write(piece)
		c.writeSince.Store(0)
		m.writes.Inc()
		m.sentBytes.Add(float64(n))
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}
