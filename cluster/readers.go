package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"
)

// readers read the logs of the partitions that this node owns. Two commands
// block for all of them: one for those in which something happens, which costs
// Redis the less the fewer they are, and one for the others. In a Redis Cluster,
// where no command may span two partitions, each has its own.
type readers struct {
	inc       *incarnation
	hot, cold *logReader // nil in a Redis Cluster

	mu      sync.Mutex
	reading map[*partition]*reading
}

// reading is how far a log has been read.
type reading struct {
	after ID
	hot   bool
	used  time.Time // when there was something to read
	own   *logReader
}

// coolAfter is when a log in which nothing happens any more is left to the
// reader of those.
const coolAfter = 3 * time.Second

func newReaders(i *incarnation) *readers {
	r := &readers{inc: i, reading: map[*partition]*reading{}}
	if _, ok := i.reading.(*redis.Client); ok {
		r.hot, r.cold = newLogReader(r, newBell(i, "hot")), newLogReader(r, newBell(i, "cold"))
	}
	return r
}

func (r *readers) start(ctx context.Context) {
	if r.hot != nil {
		r.inc.tasks.Go(func() { r.hot.run(ctx) })
		r.inc.tasks.Go(func() { r.cold.run(ctx) })
	}
}

// add lets a partition's entries after a place come to it.
func (r *readers) add(p *partition, after ID) {
	x := &reading{after: after, hot: true, used: time.Now()}
	reader := r.hot
	if reader == nil {
		reader = newLogReader(r, nil)
		reader.only = p
		x.own = reader
	}
	r.mu.Lock()
	r.reading[p] = x
	r.mu.Unlock()
	if x.own != nil {
		p.tasks.Go(func() { reader.run(p.ctx) })
	}
	reader.interrupt()
}

// remove takes effect at once: what is being read is not given to p any more.
func (r *readers) remove(p *partition) {
	r.mu.Lock()
	x := r.reading[p]
	delete(r.reading, p)
	r.mu.Unlock()
	if x != nil && x.own != nil {
		x.own.interrupt()
	}
}

// wake makes the readers look at what they are to read.
func (r *readers) wake() {
	if r.hot != nil {
		r.hot.interrupt()
		r.cold.interrupt()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.reading {
		x.own.interrupt()
	}
}

// hush is for after the readers have ended.
func (r *readers) hush() {
	if r.hot != nil {
		r.hot.bell.hush()
		r.cold.bell.hush()
	}
}

// logReader reads the logs of some partitions by one blocking command at a time.
type logReader struct {
	readers *readers
	inc     *incarnation
	bell    *bell         // nil in a Redis Cluster
	only    *partition    // in a Redis Cluster
	kicked  chan struct{} // there is something to read again
	pace    *rate.Limiter
	allowed allowance
}

// A read of many logs costs Redis about a microsecond for each. Under load, some
// milliseconds' entries are therefore read at once; the first ones are not kept
// waiting.
const (
	readsPerSecond = 300
	readsAtOnce    = 30
)

func newLogReader(r *readers, b *bell) *logReader {
	return &logReader{readers: r, inc: r.inc, bell: b, kicked: make(chan struct{}, 1), pace: rate.NewLimiter(readsPerSecond, readsAtOnce)}
}

// interrupt makes the reader look at what it is to read.
func (r *logReader) interrupt() {
	if r.bell != nil {
		r.bell.ring()
		return
	}
	select {
	case r.kicked <- struct{}{}:
	default:
	}
}

// run reads until the context ends.
func (r *logReader) run(ctx context.Context) {
	wait := backoff{}
	for ctx.Err() == nil {
		if err := r.read(ctx); err != nil && ctx.Err() == nil {
			r.inc.trouble.note("the log cannot be read", err)
			wait.wait(ctx)
			r.inc.ownership.doubt()
			continue
		}
		wait = backoff{}
	}
}

// read reads once, or waits until there is something to read.
func (r *logReader) read(ctx context.Context) error {
	if r.bell != nil {
		if err := r.pace.Wait(ctx); err != nil {
			return err
		}
		r.bell.reset()
	}
	list, streams, ids := r.todo()
	if len(list) == 0 && r.bell == nil {
		select {
		case <-ctx.Done():
		case <-r.kicked:
		}
		return nil
	}
	block := maxBlock
	if most := r.allowed.entries(); most < maxAllowed && len(list) > most {
		// Others than these may have something; which ones these are is chance.
		list, streams, ids, block = list[:most], streams[:most], ids[:most], 0
	}
	count := r.allowed.each(len(list))
	var found []redis.XStream
	var err error
	if r.bell != nil {
		found, err = r.bell.read(ctx, r.inc.reading, count, block, streams, ids)
	} else {
		found, err = xread(ctx, r.inc.reading, count, block, streams, ids...)
	}
	if err != nil {
		r.allowed.failed()
		return err
	}
	r.allowed.took(found)
	r.give(list, streams, found)
	return nil
}

// todo lists the partitions that this reader is to read, in no order, but those that
// have enough to do.
func (r *logReader) todo() (list []*partition, streams, ids []string) {
	cooled := false
	r.readers.mu.Lock()
	for p, x := range r.readers.reading {
		if r == r.readers.hot && x.hot && time.Since(x.used) > coolAfter {
			x.hot, cooled = false, true
		}
		if !r.mine(p, x) || p.passOver() {
			continue
		}
		list = append(list, p)
		streams = append(streams, r.inc.keys.log(p.number))
		ids = append(ids, x.after.String())
	}
	r.readers.mu.Unlock()
	if cooled {
		r.readers.cold.interrupt()
	}
	return list, streams, ids
}

// mine reports whether it is this reader's; readers.mu is held.
func (r *logReader) mine(p *partition, x *reading) bool {
	if r.only != nil {
		return r.only == p && x.own == r
	}
	return x.hot == (r == r.readers.hot)
}

// give hands on what was read.
func (r *logReader) give(list []*partition, streams []string, found []redis.XStream) {
	byStream := make(map[string]*partition, len(found))
	for n, name := range streams {
		byStream[name] = list[n]
	}
	warmed := false
	r.readers.mu.Lock()
	for _, stream := range found {
		p := byStream[stream.Stream]
		x := r.readers.reading[p]
		if x == nil || !r.mine(p, x) || len(stream.Messages) == 0 {
			continue
		}
		entries := logEntries(stream.Messages)
		x.after, x.used = entries[len(entries)-1].id, time.Now()
		p.give(entries)
		if r == r.readers.cold {
			x.hot, warmed = true, true
		}
	}
	r.readers.mu.Unlock()
	if warmed {
		r.readers.hot.interrupt()
	}
}

// logEntry is one entry of a partition's log.
type logEntry struct {
	id     ID
	before string // id of the entry before it
	data   []byte
}

func logEntries(messages []redis.XMessage) []logEntry {
	list := make([]logEntry, 0, len(messages))
	for _, m := range messages {
		id, err := ParseID(m.ID)
		if err != nil {
			continue // Redis makes no such ids
		}
		before, _ := m.Values["p"].(string)
		data, _ := m.Values["b"].(string)
		list = append(list, logEntry{id: id, before: before, data: []byte(data)})
	}
	return list
}

// retryPause is how long trouble with Redis is waited out between two tries.
const retryPause = 50 * time.Millisecond
