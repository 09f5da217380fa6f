package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// ear is a socket that keeps what it gets.
type ear struct {
	mu  sync.Mutex
	got []string // frames, and the code of the close
}

func (e *ear) Send(f protocol.Frame) { e.note(string(f.Text())) }
func (e *ear) Close(c protocol.Close) {
	e.note("closed: " + c.Reason)
}

func (e *ear) note(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, what)
}

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

// What ends Connect, and what the socket gets of it, which after an error is nothing.
func TestConnectWaitsForTheRoom(t *testing.T) {
	say := func(i *incarnation, at uint64, outputs ...output) {
		s := i.edge.partitions[partitionOf("r")].rooms["r"].seats[0]
		for n := range outputs {
			outputs[n].id, outputs[n].room = ID{at, 0}, "r"
			if outputs[n].edge != "all" {
				outputs[n].to = s.id
			}
		}
		i.edge.hear(&bundle{owner: "o.1", partition: partitionOf("r"), epoch: 1, upto: ID{at, 0}, outputs: outputs})
	}
	closed := func(code uint16, reason string) output {
		return output{close: &protocol.Close{Code: code, Reason: reason}}
	}
	count := output{edge: "all", frame: protocol.ClientCount(1)}
	for _, c := range []struct {
		name   string
		happen func(i *incarnation, cancel func())
		is     error
		says   string
		gets   []string
	}{
		{name: "joined", happen: func(i *incarnation, _ func()) { say(i, 2, output{joined: true}, count) }, gets: []string{`{"type":"clientCount","count":1}`}},
		{name: "joined, and closed at once", happen: func(i *incarnation, _ func()) { say(i, 2, output{joined: true}, count, closed(4000, "out")) },
			gets: []string{`{"type":"clientCount","count":1}`, "closed: out"}},
		{name: "others talk before", happen: func(i *incarnation, _ func()) {
			say(i, 1, count)
			say(i, 2, output{joined: true})
		}},
		{name: "full", happen: func(i *incarnation, _ func()) { say(i, 2, output{close: &protocol.CloseRoomFull}) }, is: room.ErrFull, says: `join room "r"`},
		{name: "cannot be loaded", happen: func(i *incarnation, _ func()) { say(i, 2, closed(protocol.CodeInternal, "room cannot be loaded")) }, says: `load room "r"`},
		{name: "node dies", happen: func(i *incarnation, _ func()) { i.edge.closeAll(protocol.CloseRestart) }, is: room.ErrClosed},
		{name: "node drains", happen: func(i *incarnation, _ func()) { i.edge.closePaced(context.Background(), protocol.CloseRestart) }, is: room.ErrClosed},
		{name: "something is lost", happen: func(i *incarnation, _ func()) { i.edge.missed() }, says: "updates were missed"},
		{name: "gives up", happen: func(_ *incarnation, cancel func()) { cancel() }, is: context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := offline(t)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e := &ear{}
				var session room.Session
				var err error
				returned := make(chan struct{})
				go func() {
					defer close(returned)
					session, err = i.edge.connect(ctx, "r", room.ConnectOptions{Client: "c", Socket: e, Grant: room.Grant{Permission: room.ReadWrite}})
				}()
				synctest.Wait()
				select {
				case <-returned:
					t.Fatal("it did not wait")
				default:
				}
				c.happen(i, cancel)
				<-returned
				if refused := c.is != nil || c.says != ""; refused != (err != nil) || refused != (session == nil) || c.is != nil && !errors.Is(err, c.is) || refused && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, error %v", session, err)
				}
				if got := e.heard(); !slices.Equal(got, c.gets) {
					t.Errorf("the socket gets %q, want %q", got, c.gets)
				}
				if err == nil {
					session.Leave()
				}
				p := &i.edge.partitions[partitionOf("r")]
				if len(p.rooms) != 0 || i.edge.count.Load() != 0 {
					t.Errorf("%d rooms, %d sessions are left", len(p.rooms), i.edge.count.Load())
				}
				var kinds []itemKind
				for _, it := range p.sender.waiting {
					kinds = append(kinds, it.kind)
				}
				if !slices.Equal(kinds, []itemKind{itemJoin, itemLeave}) {
					t.Errorf("the log gets items of the kinds %v", kinds)
				}
			})
		})
	}
}

func TestConnectToARealRoom(t *testing.T) {
	noLeaks(t)
	config := joinConfig(startRealRedis(t))
	config.Limits.MaxSessions = 1
	node, err := Join(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	enter := func() (*ear, room.Session, error) {
		e := &ear{}
		s, err := node.Connect(t.Context(), "r", room.ConnectOptions{Client: "c", Socket: e, Grant: room.Grant{Permission: room.ReadWrite}})
		return e, s, err
	}
	first, session, err := enter()
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := enter()
	if !errors.Is(err, room.ErrFull) || len(second.heard()) > 0 {
		t.Errorf("one too many: %v, which hears %q", err, second.heard())
	}
	session.Receive([]byte(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`))
	for deadline := time.Now().Add(20 * time.Second); !slices.ContainsFunc(first.heard(), func(f string) bool { return strings.Contains(f, "synced") }); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the first hears %q", first.heard())
		}
	}
	if got := first.heard(); got[0] != `{"type":"clientCount","count":1}` {
		t.Errorf("the first hears %q", got)
	}
	session.Leave()
	_, _, err = enter()
	if err != nil {
		t.Error("after the first has left: ", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := node.Leave(ctx, protocol.CloseRestart); err != nil {
		t.Error(err)
	}
	if _, _, err := enter(); !errors.Is(err, ErrLeft) {
		t.Error(err)
	}
}

// The sockets of a node that leaves close at their pace, or faster if there is
// less time; and all at once if there is none.
func TestSocketsCloseAtTheirPace(t *testing.T) {
	for _, c := range []struct{ left, least, most time.Duration }{
		{time.Minute, 2900 * time.Millisecond, 3200 * time.Millisecond},
		{2 * time.Second, 1400 * time.Millisecond, 1600 * time.Millisecond},
		{0, 0, 0},
	} {
		i := offline(t)
		i.config.DrainRate = 100
		synctest.Test(t, func(t *testing.T) {
			const sockets = 300
			var ears []*ear
			for range sockets {
				e := &ear{}
				s, err := i.edge.admit("r", room.ConnectOptions{Client: "c", Socket: e})
				if err != nil {
					t.Fatal(err)
				}
				s.enterLocked()
				ears = append(ears, e)
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.left)
			defer cancel()
			began := time.Now()
			i.edge.closePaced(ctx, protocol.CloseRestart)
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("with %v left it took %v", c.left, took)
			}
			for _, e := range ears {
				if got := e.heard(); len(got) != 1 || !strings.HasPrefix(got[0], "closed") {
					t.Fatalf("a socket heard %q", got)
				}
			}
		})
	}
}
