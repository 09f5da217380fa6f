package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sweepEvery is how often a receiver looks at its connections. Latencies are up to this much too
// long, for every server alike.
const sweepEvery = time.Millisecond

// receivers read many connections each, once a millisecond, instead of one goroutine a connection
// that is woken by every frame. That costs the load a fraction; and, since on one machine the
// sender's system call pays for waking the reader, it keeps the load from making the server look
// expensive. Browsers on other machines cost a server no such wakes either.
type receivers struct {
	list []*receiver
	next atomic.Uint32
	quit chan struct{}
	wait sync.WaitGroup
}

// receiver is one goroutine with an epoll set.
type receiver struct {
	// Fixed after construction.
	epoll   int
	scratch *scratch

	// mu is held during a sweep, so that whoever holds it knows that no client's reading side runs.
	mu      sync.Mutex
	clients map[int32]*client // by descriptor
	events  []syscall.EpollEvent
}

// startReceivers starts one for each processor. The caller stops them, after all clients are closed.
func startReceivers(rec *recorder) (*receivers, error) {
	r := &receivers{quit: make(chan struct{})}
	for range runtime.GOMAXPROCS(0) {
		epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			r.stop()
			return nil, fmt.Errorf("load: epoll: %w", err)
		}
		one := &receiver{
			epoll: epoll, scratch: rec.newScratch(),
			clients: map[int32]*client{}, events: make([]syscall.EpollEvent, 512),
		}
		r.list = append(r.list, one)
		r.wait.Go(func() { one.run(r.quit) })
	}
	return r, nil
}

func (r *receivers) stop() {
	close(r.quit)
	r.wait.Wait()
	for _, one := range r.list {
		_ = syscall.Close(one.epoll)
	}
}

// adopt takes conn's descriptor away from the runtime's own poller, which would be woken by every
// frame, and gives it to a receiver. It does nothing, and says so, if conn is no plain TCP connection.
func (r *receivers) adopt(c *client, conn net.Conn, early []byte) (adopted bool, err error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false, nil
	}
	file, err := tcp.File() // a duplicate: closing the original leaves the connection open
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	_ = tcp.Close()
	fd, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		return false, err
	}
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return false, err
	}
	one := r.list[int(r.next.Add(1))%len(r.list)]
	w := &fdWire{fd: fd, client: c, receiver: one}

	one.mu.Lock()
	defer one.mu.Unlock()
	c.conn = w
	if err := c.process(early, one.scratch); err != nil {
		c.finish(err)
		return true, nil
	}
	err = syscall.EpollCtl(one.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(fd)})
	if err != nil {
		_ = syscall.Close(fd)
		return false, fmt.Errorf("epoll: %w", err)
	}
	one.clients[int32(fd)] = c
	return true, nil
}

func (r *receiver) run(quit <-chan struct{}) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.sweep()
		case <-quit:
			return
		}
	}
}

// sweep reads, once, every connection that has something to read; again, if that were so many that
// there may be more.
func (r *receiver) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 64 {
		n, err := syscall.EpollWait(r.epoll, r.events, 0)
		if err != nil {
			return // EINTR: the next sweep is soon
		}
		for _, event := range r.events[:n] {
			c := r.clients[event.Fd]
			if c == nil {
				continue
			}
			if err := r.receive(c, int(event.Fd)); err != nil {
				r.removeLocked(event.Fd)
				c.finish(err)
			}
		}
		if n < len(r.events) {
			return
		}
	}
}

// receive reads fd until it is empty or, lest one connection starve the others, a few times.
func (r *receiver) receive(c *client, fd int) error {
	for range 16 {
		n, err := syscall.Read(fd, r.scratch.buf)
		switch {
		case err == syscall.EAGAIN || err == syscall.EINTR:
			return nil // if there is more, the next sweep sees it: the set is level-triggered
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		if err := c.process(r.scratch.buf[:n], r.scratch); err != nil {
			return err
		}
		if n < len(r.scratch.buf) {
			return nil
		}
	}
	return nil
}

func (r *receiver) removeLocked(fd int32) {
	delete(r.clients, fd)
	// It can only fail if the descriptor is not in the set, which is what we want.
	_ = syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil)
}

// fdWire is a connection that a receiver reads.
type fdWire struct {
	client   *client
	receiver *receiver

	mu       sync.Mutex
	fd       int // -1 when closed
	deadline atomic.Int64
}

// longestWait bounds a write for which no deadline is set: a receiver that answers a ping must not
// wait for ever for a server that does not read.
const longestWait = 10 * time.Second

// SetWriteDeadline never fails. Unlike a net.Conn's, it ends a write only that has to wait.
func (w *fdWire) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		w.deadline.Store(0)
	} else {
		w.deadline.Store(t.UnixNano())
	}
	return nil
}

func (w *fdWire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	began := time.Now()
	written := 0
	for {
		if w.fd < 0 {
			return written, net.ErrClosed
		}
		n, err := syscall.Write(w.fd, b[written:])
		written += max(n, 0)
		switch {
		case written == len(b):
			return written, nil
		case err == nil || err == syscall.EINTR:
		case err != syscall.EAGAIN:
			return written, err
		default:
			d := w.deadline.Load()
			if d != 0 && time.Now().UnixNano() > d || time.Since(began) > longestWait {
				return written, os.ErrDeadlineExceeded
			}
			time.Sleep(sweepEvery) // the server does not read: let it
		}
	}
}

func (w *fdWire) Close() error {
	w.receiver.mu.Lock()
	defer w.receiver.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return net.ErrClosed
	}
	if w.receiver.clients[int32(w.fd)] == w.client {
		w.receiver.removeLocked(int32(w.fd))
		w.client.finish(errors.New("closed"))
	}
	err := syscall.Close(w.fd)
	w.fd = -1
	return err
}
