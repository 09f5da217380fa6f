package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/store"
)

// roomState is a room that goes on, one applied entry after the other.
type roomState struct {
	t testing.TB
	*room.State
	applied int
	homes   map[string]string
}

func newRoomState(t testing.TB) *roomState {
	return &roomState{t: t, State: room.NewState(nil, room.Limits{}), homes: map[string]string{}}
}

func (s *roomState) join(id, client string, metadata json.RawMessage) {
	s.applied++
	s.homes[id] = "edge-of-" + client
	s.Apply(room.Event{Kind: room.Join, Session: id, Client: client, Grant: room.Grant{Permission: room.ReadWrite, Metadata: metadata}})
}

func (s *roomState) leave(id string) {
	s.applied++
	delete(s.homes, id)
	s.Apply(room.Event{Kind: room.Leave, Session: id})
}

func (s *roomState) receive(id, text string) {
	s.t.Helper()
	s.applied++
	m, err := protocol.NewParser(protocol.Limits{}).Parse([]byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	s.Apply(room.Event{Kind: room.Received, Session: id, Message: m})
}

// patch changes the document in the name of the session "writer".
func (s *roomState) patch(patch string) {
	s.t.Helper()
	if _, _, ok := s.Session("writer"); !ok {
		s.join("writer", "client", nil)
	}
	s.receive("writer", `{"type":"patch","documentPatches":[`+patch+`]}`)
}

// fill adds keys from..to-1 by patches of some thousand.
func (s *roomState) fill(from, to int, value string) {
	s.t.Helper()
	for keys := range slices.Chunk(intsFrom(from, to), 4000) {
		b := []byte{'{'}
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `"key%d/Shape":{"_exists":true,"x":%d,"y":%s}`, k, k, value)
		}
		s.patch(string(append(b, '}')))
	}
}

func intsFrom(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

func (s *roomState) checkpoint() *store.Checkpoint {
	return &store.Checkpoint{
		Applied:  fmt.Sprintf("1700000000000-%d", s.applied),
		Snapshot: s.Document().Snapshot(),
		Sessions: s.Checkpoint(),
		Homes:    maps.Clone(s.homes),
	}
}

// Rooms change, are saved with all that can go wrong, change hands, and are
// always, in Redis, what the last save that took place made of them.
func testStoreRandom(x *storeTest) {
	for seed := range uint64(4) {
		x.randomRoom(fmt.Sprintf("room %d", seed), rand.New(rand.NewPCG(seed, 7)))
		if x.Failed() {
			x.Fatalf("seed %d", seed)
		}
	}
}

func (x *storeTest) randomRoom(id string, dice *rand.Rand) {
	s := newRoomState(x)
	var last, older *store.Stored
	var possible []*store.Checkpoint // one of which Redis has; nil: no room
	possible = append(possible, nil)
	value := `"` + strings.Repeat("v", dice.IntN(1500)) + `"`
	for range 80 {
		switch dice.IntN(9) {
		case 0:
			from := dice.IntN(1500)
			s.fill(from, from+dice.IntN(1500), value)
		case 1, 2:
			s.patch(fmt.Sprintf(`{"key%d/Shape":{"x":%d},"key%d/Shape":{"_exists":false,"x":0}}`, dice.IntN(2000), dice.IntN(9), dice.IntN(2000)))
		case 3:
			s.join(fmt.Sprint("s", dice.IntN(20)), fmt.Sprint("c", dice.IntN(5)), []json.RawMessage{nil, json.RawMessage(`1`), {}}[dice.IntN(3)])
		case 4:
			s.leave(fmt.Sprint("s", dice.IntN(20)))
		case 5:
			s.receive(fmt.Sprint("s", dice.IntN(20)), fmt.Sprintf(`{"type":"patch","ephemeralPatches":[{"k%d":{"_exists":%v,"v":%d}}]}`, dice.IntN(3), dice.IntN(3) > 0, dice.IntN(9)))
		case 6: // a next owner, whose room is that of the checkpoint
			x.claim(x.fence.Epoch+1, fmt.Sprint("n.", dice.IntN(3)))
			if got := x.oneOf(id, possible); got != nil {
				var c *store.Checkpoint
				c, last = x.load(id)
				s.State, s.homes, older = room.RestoreState(c.Snapshot, c.Sessions, room.Limits{}), c.Homes, last
				possible = []*store.Checkpoint{got}
			}
		default:
			c := s.checkpoint()
			from := []*store.Stored{last, last, last, older, nil}[dice.IntN(5)]
			failing, done := dice.IntN(4), false
			n := dice.IntN(4)
			x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
				n--
				switch {
				case n >= 0 || failing > 1:
					return call()
				case failing == 0 || done:
					done = true
					return errCut
				}
				done = true
				if err := call(); err != nil {
					return err
				}
				return errCut
			})
			stored, err := x.store.Save(x.ctx, x.fence, id, c, from)
			x.spy.set(nil)
			switch {
			case err == nil:
				possible = []*store.Checkpoint{c}
				older, last = last, stored
			case errors.Is(err, errCut):
				possible = append(possible, c)
			default:
				x.Fatal(err)
			}
			possible = []*store.Checkpoint{x.oneOf(id, possible)}
		}
	}
	x.save(id, s.checkpoint(), last)
	x.want(id, s.checkpoint())
}

// oneOf wants a room to be as one of the checkpoints has it, which it returns;
// nil stands for no room.
func (x *storeTest) oneOf(id string, possible []*store.Checkpoint) *store.Checkpoint {
	x.Helper()
	got, _, err := x.store.Load(x.ctx, x.fence.Partition, id)
	if err != nil {
		x.Fatal(err)
	}
	for _, c := range possible {
		if (c == nil) == (got == nil) && (c == nil || c.Applied == got.Applied) {
			if c != nil {
				x.wantCheckpoint(id, c)
			}
			return c
		}
	}
	x.Fatalf("Redis has none of the %d checkpoints that it may have", len(possible))
	return nil
}
