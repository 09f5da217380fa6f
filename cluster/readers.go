package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// readers read the logs of the partitions that this node owns: one reader for
// all of them, or, in a Redis Cluster, where no command may span two
// partitions, one for each.
type readers struct {
	inc *incarnation
	all *logReader // nil in a Redis Cluster
}

func newReaders(i *incarnation) *readers {
	r := &readers{inc: i}
	if client, ok := i.reading.(*redis.Client); ok {
		r.all = newLogReader(i, client)
	}
	return r
}

func (r *readers) start(ctx context.Context) {
	if r.all != nil {
		r.inc.tasks.Go(func() { r.all.run(ctx) })
	}
}

// add lets a partition's entries after a place come to it.
func (r *readers) add(p *partition, after ID) {
	if r.all != nil {
		r.all.add(p, after)
		return
	}
	own := newLogReader(r.inc, nil)
	own.add(p, after)
	p.reader = own
	p.tasks.Go(func() { own.run(p.ctx) })
}

// remove returns when no more entries come to a partition.
func (r *readers) remove(p *partition) {
	if r.all != nil {
		r.all.remove(p)
	} else if p.reader != nil {
		p.reader.remove(p)
	}
}

// wake makes the reader look at what it is to read.
func (r *readers) wake() {
	if r.all != nil {
		r.all.interrupt()
	}
}

// ready tells that a partition can take more.
func (r *readers) ready(p *partition) {
	if r.all != nil {
		r.all.interrupt()
	} else if p.reader != nil {
		p.reader.interrupt()
	}
}

// logReader reads the logs of some partitions by one blocking command at a time.
type logReader struct {
	inc    *incarnation
	client *redis.Client // nil: of a Redis Cluster
	kicked chan struct{}

	mu      sync.Mutex
	from    map[*partition]ID // after which entry to read on
	conn    int64             // number of the connection that blocks; 0: none does
	reading bool
}

func newLogReader(i *incarnation, client *redis.Client) *logReader {
	return &logReader{inc: i, client: client, kicked: make(chan struct{}, 1), from: map[*partition]ID{}}
}

func (r *logReader) add(p *partition, after ID) {
	r.mu.Lock()
	r.from[p] = after
	r.mu.Unlock()
	r.interrupt()
}

// remove takes effect at once: what is being read is not given to p any more.
func (r *logReader) remove(p *partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.from, p)
}

// interrupt makes a blocking read return, so that the next one is of the
// partitions as they are now. If that fails it returns by itself within a second.
func (r *logReader) interrupt() {
	select {
	case r.kicked <- struct{}{}:
	default:
	}
	r.mu.Lock()
	conn := r.conn
	r.mu.Unlock()
	if conn != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
		defer cancel()
		_ = r.inc.control.(*redis.Client).ClientUnblock(ctx, conn).Err()
	}
}

// run reads until the context ends.
func (r *logReader) run(ctx context.Context) {
	wait := backoff{}
	sure := true // that the logs are those that were read before
	for ctx.Err() == nil {
		err := r.session(ctx, &sure)
		if ctx.Err() != nil {
			return
		}
		sure = false
		r.inc.trouble.note("the log cannot be read", err)
		wait.wait(ctx)
	}
}

// session reads on one connection until that fails.
func (r *logReader) session(ctx context.Context, sure *bool) error {
	var on processor = r.inc.reading
	conn := int64(0)
	if r.client != nil {
		c := r.client.Conn()
		defer c.Close()
		on = c
		var err error
		if conn, err = c.ClientID(ctx).Result(); err != nil {
			conn = 0 // not all that speak Redis know it; then reads take their time to be interrupted
			if err := c.Ping(ctx).Err(); err != nil {
				return err
			}
		}
	}
	defer r.blocks(0)
	for ctx.Err() == nil {
		list, streams, ids := r.todo()
		if !*sure {
			if err := r.check(ctx); err != nil {
				return err
			}
			*sure = true
		}
		if len(list) == 0 {
			select {
			case <-ctx.Done():
			case <-r.kicked:
			}
			continue
		}
		r.blocks(conn)
		select {
		case <-r.kicked: // what is to be read has changed in between
			r.blocks(0)
			continue
		default:
		}
		found, err := xread(ctx, on, maxBlock, streams, ids...)
		r.blocks(0)
		if err != nil {
			return err
		}
		r.give(list, streams, found)
	}
	return ctx.Err()
}

func (r *logReader) blocks(conn int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = conn
}

// todo lists the partitions that can take more.
func (r *logReader) todo() (list []*partition, streams, ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, after := range r.from {
		if p.full() {
			continue
		}
		list = append(list, p)
		streams = append(streams, r.inc.keys.log(p.number))
		ids = append(ids, after.String())
	}
	return list, streams, ids
}

// give hands on what was read.
func (r *logReader) give(list []*partition, streams []string, found []redis.XStream) {
	byStream := make(map[string]*partition, len(found))
	for n, name := range streams {
		byStream[name] = list[n]
	}
	for _, stream := range found {
		p := byStream[stream.Stream]
		if p == nil || len(stream.Messages) == 0 {
			continue
		}
		entries := logEntries(stream.Messages)
		r.mu.Lock()
		if _, mine := r.from[p]; mine {
			r.from[p] = entries[len(entries)-1].id
			p.give(entries)
		}
		r.mu.Unlock()
	}
}

// check asks, after Redis was away, whether it still has what its logs had.
func (r *logReader) check(ctx context.Context) error {
	r.mu.Lock()
	list := slices.Collect(maps.Keys(r.from))
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	pipe := r.inc.control.Pipeline()
	for _, p := range list {
		pipe.HGet(ctx, r.inc.keys.meta(p.number), "last")
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && err != redis.Nil {
		return err
	}
	for n, cmd := range cmds {
		text, err := cmd.(*redis.StringCmd).Result()
		if err != nil && err != redis.Nil {
			return err
		}
		last, _ := ParseID(text)
		list[n].compare(last)
	}
	return nil
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
