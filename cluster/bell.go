package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// bell makes a read that blocks in Redis return: it is a stream that is read
// along with the others. Ringing before the read arrives there is not in vain,
// since it reads on after the last time that it heard the bell.
type bell struct {
	inc  *incarnation
	key  string
	last string      // id of the last ring that was heard
	rung atomic.Bool // since the reader has looked what to read
}

// bellTTL is how long a ring that nobody hears stays in Redis.
const bellTTL = 5 * time.Second

func newBell(i *incarnation, name string) *bell {
	return &bell{inc: i, key: i.keys.node(i.id, name), last: "0-0"}
}

// ring makes the next or present read return. If that fails, it returns by
// itself within a second.
func (b *bell) ring() {
	if b.rung.Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	pipe := b.inc.control.Pipeline()
	ringScript.Eval(ctx, pipe, []string{b.key}, bellTTL.Milliseconds())
	if _, err := pipe.Exec(ctx); err != nil {
		b.rung.Store(false)
	}
}

// hush removes the bell from Redis, where it would stay for some seconds.
func (b *bell) hush() {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	_ = b.inc.control.Del(ctx, b.key).Err()
}

// reset is called before the reader looks what to read: what rings from here on
// is for the next read.
func (b *bell) reset() { b.rung.Store(false) }

// read is xread with the bell along.
func (b *bell) read(ctx context.Context, client processor, count int, block time.Duration, streams, ids []string) ([]redis.XStream, error) {
	found, err := xread(ctx, client, count, block, append(streams, b.key), append(ids, b.last)...)
	for n, stream := range found {
		if stream.Stream == b.key {
			b.last = stream.Messages[len(stream.Messages)-1].ID
			return append(found[:n:n], found[n+1:]...), err
		}
	}
	return found, err
}
