package wsconn

import (
	"sync"
)

// outbox is what a socket has to write, and who writes it. It is guarded by
// the conn's mu.
//
// There is at most one writer: whoever finds work and no writer starts one,
// which goes on while there is work and ends when there is none.
type outbox struct {
	queue  [][]byte // frames, those before head gone
	head   int
	queued int // bytes of queue that count against the bound
	// large is the length of one queued frame that does not count, so that a
	// whole document may go out to a socket with a bound far below it, and
	// edits may queue up behind. There is at most one.
	large    int
	answer   []byte // a pong to send before anything else
	writing  bool
	slot     int64   // of the gatherer, in which it will be written; 0: it does not wait
	patience urgency // with which it waits
	began    int64   // when the last write did, nanoseconds since the server began
}

const (
	// batchBytes is how much one write takes together. It is also what may
	// stand between a socket and its close frame.
	batchBytes = 64 << 10
	// pieceBytes is how much of a large frame is written at a time: a write
	// must make progress within the write timeout.
	pieceBytes = 64 << 10
	// largeShare: a frame that would take more than this part of the bound
	// does not count against it.
	largeShare = 8
	// keepQueue is up to how many frames an empty queue's array is kept for.
	keepQueue = 64
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
	o.push(frame)
	return true
}

// control queues a frame that always has room.
func (o *outbox) control(frame []byte) {
	o.queued += len(frame)
	o.push(frame)
}

func (o *outbox) push(frame []byte) {
	if o.head > keepQueue && o.head > len(o.queue)/2 {
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
	o.queue = append(o.queue, frame)
}

// pop removes the first frame.
func (o *outbox) pop() []byte {
	frame := o.queue[o.head]
	o.queue[o.head] = nil // it may be large, and the queue's array lives on
	o.head++
	if o.large == len(frame) {
		o.large = 0
	} else {
		o.queued -= len(frame)
	}
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
		if cap(o.queue) > keepQueue {
			o.queue = nil
		}
	}
	return frame
}

func (o *outbox) drop() {
	o.queue, o.head, o.queued, o.large, o.answer = nil, 0, 0, 0, nil
}

// take removes what the next write writes: a frame that fills a write by itself,
// or a run of small ones, copied into the buffer. It returns how many.
func (o *outbox) take(buffer *[]byte) (data []byte, frames int) {
	data = (*buffer)[:0]
	if o.answer != nil {
		data, frames = append(data, o.answer...), 1
		o.answer = nil
	}
	for ; o.head < len(o.queue); frames++ {
		size := len(o.queue[o.head])
		if len(data)+size <= batchBytes {
			data = append(data, o.pop()...)
			continue
		}
		if len(data) == 0 {
			return o.pop(), 1 // alone, and not copied
		}
		break
	}
	*buffer = data
	return data, frames
}

func (o *outbox) empty() bool { return o.head == len(o.queue) && o.answer == nil }

// urgency is how long what is queued may be gathered.
type urgency int

const (
	urgent urgency = iota // not at all
	soon                  // for the gathering time
	soft                  // for twice that: presence
)

// wakeLocked sees to it that the queue is written: at once if the socket has
// been quiet or it is urgent, otherwise when the gathering time is over.
func (c *conn) wakeLocked(u urgency) {
	switch {
	case c.writing:
	case u == urgent:
		c.startLocked()
	case c.slot == 0 || u < c.patience:
		c.patience = u
		now := c.server.now()
		if rest := c.server.gatherer.rest(c.began, now, u); rest > 0 {
			c.slot = c.server.gatherer.wait(c, now, rest)
		} else {
			c.slot = c.server.gatherer.soon(c)
		}
	}
}

func (c *conn) startLocked() {
	c.writing, c.slot = true, 0
	c.tasks.Go(func() { c.write(nil) })
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes); return &b }}

// write is the writer: it writes what is left of a batch that was begun, and
// goes on until there is nothing to write, or too little before the gathering
// time is over.
func (c *conn) write(rest []byte) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	for begun := rest != nil; ; begun = true {
		if err := c.writeAll(rest); err != nil {
			c.mu.Lock()
			c.drop()
			_ = c.net.Close() // which the reader sees
			c.mu.Unlock()
		}
		var more bool
		if rest, more = c.next(buffer, begun); !more {
			return
		}
	}
}

// next takes the next batch, or ends the writing; begun says that this is not
// the writer's first.
func (c *conn) next(buffer *[]byte, begun bool) (data []byte, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.empty() {
		c.writing = false
		if c.closing && !c.isDrained {
			c.isDrained = true
			close(c.drained)
		}
		return nil, false
	}
	now := c.server.now()
	if begun && !c.closing && c.queued+c.large < batchBytes {
		if rest := c.server.gatherer.rest(c.began, now, soon); rest > 0 {
			c.patience = soon
			c.writing, c.slot = false, c.server.gatherer.wait(c, now, rest)
			return nil, false
		}
	}
	c.began = now
	data, frames := c.take(buffer)
	c.server.metrics.sent.Add(float64(frames))
	c.server.gatherer.count(frames, now)
	return data, true
}

// writeAll writes to the socket, a piece at a time, for as long as each makes
// progress.
func (c *conn) writeAll(data []byte) error {
	for len(data) > 0 {
		c.writeSince.Store(c.server.now() + 1)
		n, err := c.net.write(data[:min(len(data), pieceBytes)])
		c.writeSince.Store(0)
		c.wrote(n)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (c *conn) wrote(n int) {
	c.server.metrics.writes.Inc()
	c.server.metrics.sentBytes.Add(float64(n))
}
