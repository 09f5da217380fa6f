package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// offline is an incarnation that is not connected and runs nothing.
func offline(t *testing.T) *incarnation {
	t.Helper()
	config, err := Config{Redis: &redis.UniversalOptions{}, NodeName: "test"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("there is no Redis here")
	}, DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	i := &incarnation{id: "test.1", config: &config, keys: keys{config.Prefix}, log: config.Logger, stats: &stats{}, writing: client, reading: client, control: client}
	i.ctx, i.cancel = context.WithCancel(t.Context())
	t.Cleanup(i.cancel)
	i.trouble = &trouble{log: i.log}
	i.lease, i.liveness = newLease(i), newLiveness(i)
	i.edge, i.inbox, i.outbox = newEdge(i), newInbox(i), newOutbox(i)
	i.appender, i.readers, i.ownership = newAppender(i), newReaders(i), newOwnership(i)
	i.headroom = newHeadroom(i)
	return i
}

// commandLog is a hook that notes the arguments of the commands of pipelines.
type commandLog struct{ keys [][]any }

func (*commandLog) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*commandLog) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (l *commandLog) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			l.keys = append(l.keys, cmd.Args())
		}
		return next(ctx, cmds)
	}
}

// A reader that passed over a partition because its queue was full looks again
// when that is empty, however many of the queue's places were taken.
func TestAReaderComesBackToAPartitionThatWasFull(t *testing.T) {
	i := offline(t)
	var sent commandLog
	i.control.AddHook(&sent)
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
	rings := 0
	for _, keys := range sent.keys {
		if slices.Contains(keys, any(i.readers.hot.bell.key)) {
			rings++
		}
	}
	if rings == 0 {
		t.Error("nobody tells the reader that there is room again")
	}
	if list, _, _ := i.readers.hot.todo(); len(list) != 1 {
		t.Error("it is not read again")
	}
}

// quietSocket is a socket that nobody looks at.
type quietSocket struct{}

func (quietSocket) Send(protocol.Frame)  {}
func (quietSocket) Close(protocol.Close) {}

// While Redis is away, each of many sessions has less on its way than it may, and
// all of them together do not have more than the node may.
func TestSessionsTogetherWaitForSpace(t *testing.T) {
	i := offline(t)
	i.config.MaxBufferBytes = 100_000
	const sessions = 20
	text := []byte(`{"type":"patch","messageId":"m","documentPatches":[{"` + strings.Repeat("k", 30_000) + `":{"_exists":true}}]}`)
	var all sync.WaitGroup
	done := make(chan struct{}, sessions)
	var list []room.Session
	for n := range sessions {
		s, err := i.edge.admit(fmt.Sprint("room", n), room.ConnectOptions{Client: "c", Socket: quietSocket{}, Grant: room.Grant{Permission: room.ReadWrite}})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	for n := range list { // their joins arrive
		confirmAll(i.edge, fmt.Sprint("room", n))
	}
	for _, s := range list {
		all.Go(func() {
			s.Receive(text)
			done <- struct{}{}
		})
	}
	through := 0
	for through < sessions {
		moved := false
		select {
		case <-done:
			through++
			moved = true
		case <-time.After(50 * time.Millisecond): // nobody moves
		}
		if got := i.edge.buffered.Load(); got > 100_000 || got == 0 && through < sessions && !moved {
			t.Fatalf("%d bytes are on their way after %d messages", got, through)
		}
		if moved {
			continue
		}
		for n := range list {
			confirmAll(i.edge, fmt.Sprint("room", n))
		}
	}
	all.Wait()
}

// confirmAll appends and confirms all that waits of a room's partition.
func confirmAll(e *edge, roomID string) {
	p := &e.partitions[partitionOf(roomID)]
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := p.sender.take(); b != nil; b = p.sender.take() {
		p.sender.appended(b)
	}
	e.confirmedLocked(p, &bundle{confirmed: p.sender.number})
}

// What comes in parts is put together however often it is told, and nothing of
// owners that are gone is kept for good.
func TestPartsArePutTogetherAndForgotten(t *testing.T) {
	i := offline(t)
	first := i.edge.partitions[0].number
	parts := func(owner string, epoch uint64) (list [][]byte) {
		o := newOutbox(i)
		i.id = owner
		whole := encodeBundle(&bundle{owner: owner, partition: first, epoch: epoch, upto: ID{1, 0}, outputs: []output{
			{id: ID{1, 0}, room: "r", frame: protocol.NewFrame(make([]byte, 2*maxEntry))},
		}})
		o.put("e", outBundle, nil, whole)
		for _, x := range o.queues["e"].items {
			list = append(list, x.data)
		}
		return list
	}
	take := func(entry []byte) {
		r := reader{data: entry[1:]}
		i.inbox.item(entry[0], r.text())
	}
	for n := range maxPartings + 5 {
		list := parts(fmt.Sprint("n", n), uint64(n+1))
		if len(list) != 3 {
			t.Fatalf("%d parts", len(list))
		}
		for _, part := range list {
			take(part)
			take(part) // again, since nobody knew whether it was there
		}
		if got := i.edge.partitions[first].receiver.epoch; got != uint64(n+1) {
			t.Fatalf("after owner %d the last that was heard is %d", n, got)
		}
	}
	if len(i.inbox.parts) != 0 || i.stats.gaps.Load() != 0 {
		t.Errorf("%d are kept, %d sockets had to close", len(i.inbox.parts), i.stats.gaps.Load())
	}
}

// A question whose answer may have been in what got lost is not waited for.
func TestAQuestionWhoseAnswerGotLostEnds(t *testing.T) {
	i := offline(t)
	done := make(chan error, 1)
	go func() {
		_, err := i.edge.ask(t.Context(), item{kind: itemSessions, room: "r"})
		done <- err
	}()
	for asked := false; !asked; {
		i.edge.asking.Lock()
		asked = len(i.edge.asks) == 1
		i.edge.asking.Unlock()
	}
	i.edge.missed()
	if err := <-done; !errors.Is(err, ErrNoAnswer) {
		t.Errorf("%v", err)
	}
	i.config.MaxBufferBytes = 10 // the question itself waits already
	if _, err := i.edge.ask(t.Context(), item{kind: itemSessions, room: "r"}); !errors.Is(err, ErrOverloaded) {
		t.Errorf("%v", err)
	}
}

// A node that does not get its lease must leave nothing in Redis that stays.
func TestStreamOfANodeWithoutALeaseExpires(t *testing.T) {
	i := offline(t)
	i.control = connect(t, &redis.UniversalOptions{Addrs: []string{startRealRedis(t)}}, clientControl)
	if err := i.inbox.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"weft:n:{test.1}:out", "weft:n:{test.1}:meta"} {
		if ttl, err := i.control.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 {
			t.Errorf("%s stays for %v, %v", key, ttl, err)
		}
	}
}
