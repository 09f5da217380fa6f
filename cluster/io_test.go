package cluster

import (
	"context"

	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// offline is an incarnation that is not connected and runs nothing.
func offline(t *testing.T) *incarnation {
	t.Helper()
	config, err := Config{Redis: &redis.UniversalOptions{}, NodeName: "test"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { client.Close() })
	i := &incarnation{id: "test.1", config: &config, keys: keys{config.Prefix}, log: config.Logger, stats: &stats{}, writing: client, reading: client, control: client}
	i.ctx, i.cancel = context.WithCancel(t.Context())
	t.Cleanup(i.cancel)
	i.trouble = &trouble{log: i.log}
	i.lease, i.liveness = newLease(i), newLiveness(i)
	i.edge, i.inbox, i.outbox = newEdge(i), newInbox(i), newOutbox(i)
	i.appender, i.readers, i.ownership = newAppender(i), newReaders(i), newOwnership(i)
	return i
}

// A reader that passed over a partition because its queue was full looks again
// when that is empty, however many of the queue's places were taken.
func TestAReaderComesBackToAPartitionThatWasFull(t *testing.T) {
	i := offline(t)
	p := newPartition(i, 7, claimed{epoch: 1})
	i.readers.reading[p] = &reading{hot: true, used: time.Now()}
	for n := range maxQueue {
		if list, _, _ := i.readers.hot.todo(); len(list) != 1 {
			t.Fatalf("it is not read although %d reads wait", n)
		}
		p.give([]logEntry{{id: ID{uint64(n + 1), 0}}})
	}
	if list, _, _ := i.readers.hot.todo(); len(list) != 0 {
		t.Fatal("it is read although its queue is full")
	}
	if got := len(p.drain(<-p.queue)); got != maxQueue {
		t.Fatalf("%d entries of %d", got, maxQueue)
	}
	select {
	case <-i.readers.hot.kicked:
	default:
		t.Error("nobody tells the reader that there is room again")
	}
	if list, _, _ := i.readers.hot.todo(); len(list) != 1 {
		t.Error("it is not read again")
	}
}
