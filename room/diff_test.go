package room

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/weftsync/weft/room/protocol"
)

// large is a document beyond the size at which a diff is built on the spot.
func large(t testing.TB) *fakeStorage {
	t.Helper()
	s, err := ParseSnapshot([]byte(`{"timestamp":5,"state":{"big":{"x":"` + strings.Repeat("x", smallDocument) + `"},"a":{"_exists":true}},"timestamps":{"big":{"x":5},"a":{"_exists":1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return &fakeStorage{rooms: map[string]*Snapshot{"r": s}, busy: map[string]bool{}}
}

// hold keeps large diffs from being built until the returned function is called.
func hold(m *Manager) (release func()) {
	n := cap(m.builders)
	for range n {
		m.builders <- struct{}{}
	}
	return sync.OnceFunc(func() {
		for range n {
			<-m.builders
		}
	})
}

const reconnect = `{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`

// brief shortens the diff that large makes.
func brief(list []string) []string {
	out := []string{}
	for _, s := range list {
		out = append(out, strings.ReplaceAll(s, strings.Repeat("x", smallDocument), "…"))
	}
	return out
}

func wantBrief(t *testing.T, s *fakeSocket, want ...string) {
	t.Helper()
	if got := strings.Join(brief(s.take()), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("sent\n%.3000s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestLargeDiffKeepsTheOrder(t *testing.T) {
	managed(t, Config{Storage: large(t)}, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		b, bs := connect(t, m, "r", "bob", ReadWrite)
		as.take()
		bs.take()
		release := hold(m)
		defer release()
		receive(a, reconnect)
		receive(b, `{"type":"patch","messageId":"m","documentPatches":[{"a":{"n":6}}]}`) // in no diff of before
		receive(a, put)
		receive(a, `{"type":"reconnect","protocolVersion":2,"lastTimestamp":5}`) // a second diff behind the first
		receive(b, `{"type":"patch","messageId":"m","documentPatches":[{"a":{"n":8}}]}`)
		synctest.Wait()
		wantSent(t, as)
		change := func(n string) string {
			return `{"type":"patch","clientId":"bob","documentPatches":[{"a":{"n":` + n + `}}],"timestamp":` + n + `}`
		}
		// The other is not held up.
		wantSent(t, bs, ack("6"), `{"type":"patch","clientId":"alice","documentPatches":[{"a":{"_exists":true}}],"timestamp":7}`, ack("8"))
		release()
		synctest.Wait()
		wantBrief(t, as,
			`{"type":"patch","clientId":"","documentPatches":[{"big":{"x":"…"},"a":{"_exists":true}}],"timestamp":5}`,
			`{"type":"synced","timestamp":5}`,
			change("6"),
			ack("7"),
			`{"type":"patch","clientId":"","documentPatches":[{"a":{"_exists":true,"n":6}}],"timestamp":7}`,
			`{"type":"synced","timestamp":7}`,
			change("8"))
		receive(b, `{"type":"patch","messageId":"m","documentPatches":[{"a":{"n":9}}]}`)
		wantSent(t, as, change("9")) // at once again
	})
}

func TestSessionLeavesWhileItsDiffIsBuilt(t *testing.T) {
	managed(t, Config{Storage: large(t)}, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		release := hold(m)
		defer release()
		receive(a, reconnect)
		as.take()
		a.Leave()
		release()
		synctest.Wait()
		wantSent(t, as)
		wantClosed(t, as)
	})
}

func TestWaitingForADiffIsBounded(t *testing.T) {
	managed(t, Config{Storage: large(t), MaxWaitingBytes: 10_000}, func(t *testing.T, m *Manager) {
		a, as := connect(t, m, "r", "alice", ReadWrite)
		b, bs := connect(t, m, "r", "bob", ReadWrite)
		as.take()
		release := hold(m)
		defer release()
		receive(a, reconnect)
		for range 30 {
			receive(b, `{"type":"patch","documentPatches":[{"a":{"n":"`+strings.Repeat("y", 1000)+`"}}]}`)
		}
		wantClosed(t, as, protocol.CloseSlowConsumer)
		if n := m.Stats().Slow; n != 1 {
			t.Errorf("%d slow sessions", n)
		}
		release()
		synctest.Wait()
		if sent := as.take(); len(sent) > 0 {
			t.Errorf("%d messages after the close", len(sent))
		}
		a.Leave() // as its socket's owner does
		bs.take()
		receive(b, put)
		if n := len(bs.take()); n != 1 {
			t.Errorf("bob got %d messages", n)
		}
		again, socket := connect(t, m, "r", "alice", ReadWrite)
		receive(again, reconnect)
		synctest.Wait()
		if sent := socket.take(); len(sent) != 3 || !strings.Contains(sent[1], `"big"`) {
			t.Errorf("on coming back: %d messages", len(sent))
		}
	})
}

// Diffs that wait for a diff count as what they hold on to.
func TestWaitingDiffsAreBounded(t *testing.T) {
	managed(t, Config{Storage: large(t), MaxWaitingBytes: 1 << 20}, func(t *testing.T, m *Manager) {
		b, _ := connect(t, m, "r", "bob", ReadWrite)
		receive(b, `{"type":"patch","ephemeralPatches":[{"p":{"_exists":true,"x":"`+strings.Repeat("p", 100_000)+`"}}]}`)
		a, as := connect(t, m, "r", "alice", ReadWrite)
		release := hold(m)
		defer release()
		for range 20 {
			receive(a, reconnect)
		}
		wantClosed(t, as, protocol.CloseSlowConsumer)
	})
}

// The same without virtual time: many sessions join a large room while others
// write, and each sees a gapless row of changes after its diff.
func TestLargeDiffsUnderLoad(t *testing.T) {
	m := NewManager(Config{Storage: large(t)})
	defer m.CloseAll(context.Background(), protocol.CloseRestart)
	var all sync.WaitGroup
	for range 2 {
		writer, _ := connect(t, m, "r", "writer", ReadWrite)
		all.Go(func() {
			for i := range 150 {
				receive(writer, fmt.Sprintf(`{"type":"patch","documentPatches":[{"a":{"n":%d}}]}`, i))
			}
		})
	}
	for j := range 6 {
		all.Go(func() {
			for range 3 {
				synced, done := make(chan struct{}), sync.Once{}
				socket := &fakeSocket{}
				s, err := m.Connect(context.Background(), "r", ConnectOptions{Socket: socket, Client: fmt.Sprint("c", j), Grant: Grant{Permission: ReadWrite}})
				if err != nil {
					t.Error(err)
					return
				}
				socket.mu.Lock()
				socket.onSend = func(text string) {
					if strings.HasPrefix(text, `{"type":"synced"`) {
						done.Do(func() { close(synced) })
					}
				}
				socket.mu.Unlock()
				receive(s, reconnect)
				<-synced
				s.Leave()
				last, diffed := int64(0), false
				for _, text := range socket.take() {
					message := decode(t, []byte(text)).(object)
					at := int64(0)
					if n, ok := message["timestamp"]; ok {
						at = int64(float(n))
					}
					switch {
					case message["type"] == "synced":
						if at != last || !diffed {
							t.Errorf("synced at %d after %d", at, last)
						}
					case message["type"] != "patch":
					case message["clientId"] == "":
						if diffed = true; last != 0 && at != last { // all that was sent before is in it
							t.Errorf("a diff at %d after %d", at, last)
						}
						last = at
					default:
						if last != 0 && at != last+1 {
							t.Errorf("%d after %d", at, last)
						}
						last = at
					}
				}
			}
		})
	}
	all.Wait()
}
