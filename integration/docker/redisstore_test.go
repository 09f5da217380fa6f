package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/store"
)

// TestRedisStore tries store.Redis. All of it uses one Redis, in which each
// test has a prefix of its own.
func TestRedisStore(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	for name, test := range map[string]func(*storeTest){
		"RoundTrip":             testStoreRoundTrip,
		"RoomIDs":               testStoreRoomIDs,
		"WritesWhatChanged":     testStoreWritesWhatChanged,
		"GrowsAndShrinks":       testStoreGrowsAndShrinks,
		"Fence":                 testStoreFence,
		"FencedScript":          testStoreFencedScript,
		"CrashBeforeCompletion": testStoreCrashBeforeCompletion,
		"UnknownOutcome":        testStoreUnknownOutcome,
		"LateCalls":             testStoreLateCalls,
		"LostTail":              testStoreLostTail,
		"FullRedis":             testStoreFullRedis,
		"ForgottenScripts":      testStoreForgottenScripts,
		"LoadDuringSave":        testStoreLoadDuringSave,
		"LoadsAndSavesAtOnce":   testStoreLoadsAndSavesAtOnce,
		"MovedPages":            testStoreMovedPages,
		"BadData":               testStoreBadData,
		"Unreachable":           testStoreUnreachable,
		"Random":                testStoreRandom,
	} {
		t.Run(name, func(t *testing.T) { test(newStoreTest(t, server, "test"+name+":")) })
	}
}

// storeTest is a test with a store, a direct connection to its Redis, and a spy
// on all that the store sends.
type storeTest struct {
	*testing.T
	ctx    context.Context
	prefix string
	db     *redis.Client
	spy    *spy
	store  *store.Redis
	fence  store.Fence
}

func newStoreTest(t *testing.T, server *redisServer, prefix string) *storeTest {
	x := &storeTest{T: t, ctx: t.Context(), prefix: prefix, db: server.Client(), spy: &spy{}, fence: store.Fence{Partition: 7, Epoch: 1, Owner: "n.1"}}
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	client.AddHook(x.spy)
	x.store = store.NewRedis(store.RedisConfig{Client: client, Prefix: prefix})
	return x
}

// spy counts what is sent, and may interfere.
type spy struct {
	mu      sync.Mutex
	calls   int
	bytes   int
	largest int // call, in bytes
	// around, if set, takes the place of the call. what is "ahead", "changes"
	// or "whole" if it is of a save, and otherwise the command's name.
	around func(what string, cmd redis.Cmder, call func() error) error
}

func (s *spy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *spy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *spy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		size := 0
		for _, arg := range cmd.Args() {
			switch arg := arg.(type) {
			case string:
				size += len(arg)
			case []byte:
				size += len(arg)
			default:
				size += len(fmt.Sprint(arg))
			}
		}
		s.mu.Lock()
		s.calls++
		s.bytes += size
		s.largest = max(s.largest, size)
		around := s.around
		s.mu.Unlock()
		if around == nil {
			return next(ctx, cmd)
		}
		what := cmd.Name()
		if args := cmd.Args(); strings.HasPrefix(what, "eval") && len(args) > 13 {
			what = args[13].(string)
		}
		return around(what, cmd, func() error { return next(ctx, cmd) })
	}
}

// set puts f around all calls from now on.
func (s *spy) set(f func(what string, cmd redis.Cmder, call func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.around = f
}

// sent is what f sends: calls, bytes, and the bytes of the largest call.
func (s *spy) sent(f func()) (calls, bytes, largest int) {
	s.mu.Lock()
	s.calls, s.bytes, s.largest = 0, 0, 0
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.bytes, s.largest
}

func (x *storeTest) save(id string, c *store.Checkpoint, last *store.Stored) *store.Stored {
	x.Helper()
	s, err := x.store.Save(x.ctx, x.fence, id, c, last)
	if err != nil {
		x.Fatal(err)
	}
	return s
}

// load is of a room that must be there.
func (x *storeTest) load(id string) (*store.Checkpoint, *store.Stored) {
	x.Helper()
	c, s, err := x.store.Load(x.ctx, x.fence.Partition, id)
	if err != nil {
		x.Fatal(err)
	}
	if c == nil || s == nil {
		x.Fatalf("there is no room %q", id)
	}
	return c, s
}

// want wants a room to be as a checkpoint has it, with no page too many.
func (x *storeTest) want(id string, want *store.Checkpoint) {
	x.Helper()
	x.wantCheckpoint(id, want)
	pages, err := x.db.HGet(x.ctx, x.key("r:"+id), "pages").Result()
	if err != nil {
		x.Fatal(err)
	}
	if n := x.pagesKept(id); strconv.FormatInt(n, 10) != pages {
		x.Errorf("Redis has %d pages of %s", n, pages)
	}
}

func (x *storeTest) wantCheckpoint(id string, want *store.Checkpoint) {
	x.Helper()
	got, _ := x.load(id)
	if got.Applied != want.Applied {
		x.Errorf("applied up to %q, want %q", got.Applied, want.Applied)
	}
	if len(got.Sessions)+len(want.Sessions) > 0 && !reflect.DeepEqual(got.Sessions, want.Sessions) {
		x.Errorf("sessions\n got %+v\nwant %+v", got.Sessions, want.Sessions)
	}
	if !maps.Equal(got.Homes, want.Homes) {
		x.Errorf("homes %v, want %v", got.Homes, want.Homes)
	}
	if a, b := documentOf(x, got.Snapshot), documentOf(x, want.Snapshot); !reflect.DeepEqual(a, b) {
		x.Errorf("document\n got %.500s\nwant %.500s", fmt.Sprint(a), fmt.Sprint(b))
	}
	rooms, err := x.store.Live(x.ctx, x.fence.Partition)
	if err != nil {
		x.Fatal(err)
	}
	if slices.Contains(rooms, id) != (len(want.Sessions) > 0) {
		x.Errorf("it has %d sessions, and live are %q", len(want.Sessions), rooms)
	}
}

// documentOf is a document without the order of its fields, which a tombstone's
// timestamps do not keep.
func documentOf(t testing.TB, s *room.Snapshot) (v any) {
	t.Helper()
	if s == nil {
		s = new(room.Snapshot)
	}
	text, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (x *storeTest) key(name string) string {
	return store.PartitionKey(x.prefix, x.fence.Partition, name)
}

func (x *storeTest) pagesKept(id string) int64 {
	x.Helper()
	n, err := x.db.HLen(x.ctx, x.key("d:"+id)).Result()
	if err != nil {
		x.Fatal(err)
	}
	return n
}

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

func testStoreRoundTrip(x *storeTest) {
	if c, s, err := x.store.Load(x.ctx, 7, "none"); c != nil || s != nil || err != nil {
		x.Errorf("a room that is not there: %v, %v, %v", c, s, err)
	}
	if rooms, err := x.store.Live(x.ctx, 7); err != nil || len(rooms) > 0 {
		x.Errorf("live are %q, %v", rooms, err)
	}
	c := &store.Checkpoint{Applied: "0-0"}
	x.save("r", c, nil)
	x.want("r", c)
	if c, _ := x.load("r"); c.Snapshot == nil || c.Homes == nil {
		x.Error("nil is not replaced by what is empty")
	}

	s := newRoomState(x)
	s.join("s2", "client\xff\n", json.RawMessage(`{"name":"<é>"}`))
	s.join("s1", "client\xff\n", nil)
	s.join("s0", "other", json.RawMessage{})
	s.join("s9", "third", nil)
	s.join("s5", "silent", nil)
	s.homes["s9"] = ""
	s.receive("s9", `{"type":"patch","ephemeralPatches":[{"cursor":{"_exists":true,"x":1.50,"<":"\u2028é"}}]}`)
	s.receive("s0", `{"type":"patch","ephemeralPatches":[{"cursor":{"_exists":true}}]}`)
	s.receive("s2", `{"type":"patch","documentPatches":[{"a":{"_exists":true,"b":{"__buf":1,"len":3,"runs":[[1,[5]]]}},"b":{"_exists":true,"n":1e400},"c":{"_exists":false}},{"b":{"_exists":false}}]}`)
	c = s.checkpoint()
	c.Sessions[0].Grant.Permission = room.ReadOnly
	c.Sessions[1].Grant.Metadata = json.RawMessage{}
	if len(c.Sessions) != 5 || c.Sessions[0].ID != "s9" || c.Sessions[0].Presence == nil {
		x.Fatalf("the checkpoint is not what this test needs: %+v", c.Sessions)
	}
	stored := x.save("r", c, nil)
	delete(c.Homes, "s9") // empty is none
	x.want("r", c)

	// The order alone.
	slices.Reverse(c.Sessions)
	stored = x.save("r", c, stored)
	x.want("r", c)
	c.Sessions = c.Sessions[1:3]
	maps.DeleteFunc(c.Homes, func(id, _ string) bool { return id != c.Sessions[0].ID && id != c.Sessions[1].ID })
	stored = x.save("r", c, stored)
	x.want("r", c)
	c.Sessions, c.Homes = nil, nil
	x.save("r", c, stored)
	x.want("r", c)

	c.Sessions = []room.SessionState{{ID: "twice"}, {ID: "twice"}}
	if _, err := x.store.Save(x.ctx, x.fence, "r", c, nil); err == nil {
		x.Error("a session may be there twice")
	}
}

func testStoreRoomIDs(x *storeTest) {
	ids := []string{"", "r", "r:d", "r:s", "d:r", "s:r", "{p1}", "}{", "a{b}c", "line\nline\r\n", "é😀", "\xff\x00", "*", strings.Repeat("long", 200)}
	for i, id := range ids {
		s := newRoomState(x)
		s.applied = 100 * i
		s.fill(0, i+1, "1")
		x.save(id, s.checkpoint(), nil)
	}
	for i, id := range ids {
		s := newRoomState(x)
		s.applied = 100 * i
		s.fill(0, i+1, "1")
		x.want(id, s.checkpoint())
	}
	rooms, err := x.store.Live(x.ctx, x.fence.Partition)
	if err != nil {
		x.Fatal(err)
	}
	slices.Sort(rooms)
	slices.Sort(ids)
	if !slices.Equal(rooms, ids) {
		x.Errorf("live are %q, want %q", rooms, ids)
	}
	if c, _, err := x.store.Load(x.ctx, 8, "r"); c != nil || err != nil {
		x.Errorf("another partition has the room, too: %v, %v", c, err)
	}
}

func testStoreWritesWhatChanged(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 100_000, `"some text of the usual length"`)
	for i := range 200 {
		s.join(fmt.Sprintf("session%03d", i), "client"+strconv.Itoa(i), json.RawMessage(`{"name":"somebody"}`))
	}
	const onePage = 256 * 130 // a key of this test takes about so much
	last := (*store.Stored)(nil)
	step := func(what string, maxCalls, maxBytes int) {
		x.Helper()
		c := s.checkpoint()
		calls, bytes, largest := x.spy.sent(func() { last = x.save("big", c, last) })
		x.Logf("%s: %d calls, %d bytes, the largest %d", what, calls, bytes, largest)
		if calls > maxCalls || bytes > maxBytes || largest > 1<<20+4*onePage {
			x.Errorf("%s: %d calls, %d bytes, the largest %d; at most %d and %d expected", what, calls, bytes, largest, maxCalls, maxBytes)
		}
		if n := x.pagesKept("big"); n != 391 {
			x.Errorf("%s: Redis has %d pages", what, n)
		}
	}
	step("everything", 40, 400*onePage)
	step("nothing", 1, 500)
	sweeps := x.timesCalled("hkeys")
	s.patch(`{"key77777/Shape":{"x":-1}}`)
	step("a key", 1, onePage+1000)
	s.patch(`{"key1/Shape":{"x":-1},"key99999/Shape":{"_exists":false}}`)
	step("two keys", 1, 2*onePage+1000)
	s.fill(100_000, 100_001, "1")
	step("a new key", 1, onePage+1000)
	s.receive("session007", `{"type":"patch","ephemeralPatches":[{"cursor":{"_exists":true,"x":1}}]}`)
	step("presence", 1, 200*20+1000)
	s.receive("session007", `{"type":"patch","ephemeralPatches":[{"cursor":{"_exists":true,"x":2}}]}`)
	step("presence again", 1, 1000)
	s.leave("session007")
	step("a session leaves", 1, 200*20+1000)
	if n := x.timesCalled("hkeys") - sweeps; n > 0 {
		x.Errorf("Redis looked through all pages %d times", n)
	}

	x.want("big", s.checkpoint())

	// Another process goes on with what it loads.
	c, stored := x.load("big")
	s.State = room.RestoreState(c.Snapshot, c.Sessions, room.Limits{})
	last = stored
	s.patch(`{"key50000/Shape":{"x":-1}}`)
	step("a key, after loading", 1, onePage+1000)
	x.want("big", s.checkpoint())
}

// timesCalled is how often Redis has run a command.
func (x *storeTest) timesCalled(command string) (n int) {
	x.Helper()
	stats, err := x.db.InfoMap(x.ctx, "commandstats").Result()
	if err != nil {
		x.Fatal(err)
	}
	fmt.Sscanf(stats["Commandstats"]["cmdstat_"+command], "calls=%d,", &n)
	return n
}

func testStoreGrowsAndShrinks(x *storeTest) {
	small, large := newRoomState(x), newRoomState(x)
	small.fill(0, 10, "1")
	large.fill(0, 10_000, `"`+strings.Repeat("long ", 20)+`"`)
	var last *store.Stored
	for _, s := range []*roomState{small, large, small, large, large, small} {
		s.patch(`{"key3/Shape":{"x":-1}}`)
		last = x.save("r", s.checkpoint(), last)
		x.want("r", s.checkpoint())
	}
	// A single page that is larger than what is usually written by one call.
	small.patch(`{"key3/Shape":{"y":"` + strings.Repeat("y", 3<<20) + `"}}`)
	small.fill(10, 600, "2")
	last = x.save("r", small.checkpoint(), last)
	x.want("r", small.checkpoint())

	last = x.save("r", &store.Checkpoint{Applied: "9-9"}, last)
	x.want("r", &store.Checkpoint{Applied: "9-9"})

	// Documents with another past than the stored one, as far as one can tell.
	past := func(timestamp int64, keys int, value string) *store.Checkpoint {
		var state []string
		for i := range keys {
			state = append(state, fmt.Sprintf(`"k%d":{"v":%s}`, i, value))
		}
		s, err := room.ParseSnapshot(fmt.Appendf(nil, `{"timestamp":%d,"state":{%s}}`, timestamp, strings.Join(state, ",")))
		if err != nil {
			x.Fatal(err)
		}
		return &store.Checkpoint{Applied: "9-9", Snapshot: s}
	}
	for _, c := range []*store.Checkpoint{past(10, 1000, "1"), past(9, 1000, "2"), past(11, 10, "3")} {
		last = x.save("r", c, last)
		x.want("r", c)
	}
}

func testStoreFence(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, `"`+strings.Repeat("long ", 20)+`"`)
	large := s.checkpoint()
	for name, test := range map[string]struct {
		own     map[string]any // in Redis; epoch and owner of the writer are 1<<52+1 and n.1
		refused bool
	}{
		"no claim":                  {nil, false},
		"mine":                      {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.1", "released": 0}, false},
		"mine, not said released":   {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.1"}, false},
		"mine, released":            {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.1", "released": 1}, true},
		"same epoch, other owner":   {map[string]any{"epoch": uint64(1<<52 + 1), "owner": "n.2", "released": 0}, true},
		"higher epoch":              {map[string]any{"epoch": uint64(1<<52 + 2), "owner": "n.2", "released": 0}, true},
		"higher epoch, my name":     {map[string]any{"epoch": uint64(1<<52 + 2), "owner": "n.1", "released": 0}, true},
		"higher epoch, released":    {map[string]any{"epoch": uint64(1<<52 + 2), "owner": "n.2", "released": 1}, true},
		"lower epoch":               {map[string]any{"epoch": uint64(1 << 52), "owner": "n.2", "released": 0}, false},
		"lower epoch, released":     {map[string]any{"epoch": uint64(1 << 52), "owner": "n.1", "released": 1}, false},
		"fewer digits":              {map[string]any{"epoch": 9, "owner": "n.2", "released": 0}, false},
		"an epoch that is not one":  {map[string]any{"epoch": "?", "owner": "n.2", "released": 0}, false},
		"other fields, but no more": {map[string]any{"cut": "1-1"}, false},
	} {
		for kind, c := range map[string]*store.Checkpoint{"small": {Applied: "5-5"}, "large": large} {
			x.fence.Partition++
			x.fence.Epoch, x.fence.Owner = 1<<52+1, "n.1"
			if test.own != nil {
				x.db.HSet(x.ctx, x.key("own"), test.own)
			}
			before := x.db.HGetAll(x.ctx, x.key("own")).Val()
			last, err := x.store.Save(x.ctx, x.fence, "r", c, nil)
			after := x.db.HGetAll(x.ctx, x.key("own")).Val()
			if !test.refused {
				if err != nil {
					x.Errorf("%s, %s: %v", name, kind, err)
					continue
				}
				x.want("r", c)
				if before["epoch"] != after["epoch"] {
					want := map[string]string{"epoch": "4503599627370497", "owner": "n.1", "released": "0"}
					if cut, ok := before["cut"]; ok {
						want["cut"] = cut
					}
					if !maps.Equal(after, want) {
						x.Errorf("%s, %s: Redis has %v, want %v", name, kind, after, want)
					}
				}
				continue
			}
			if !errors.Is(err, store.ErrFenced) || !store.IsFenced(err) || last != nil {
				x.Errorf("%s, %s: %v, %v", name, kind, last, err)
			}
			if !maps.Equal(before, after) {
				x.Errorf("%s, %s: the claim was %v and is %v", name, kind, before, after)
			}
			if keys := x.db.Keys(x.ctx, x.key("*")).Val(); len(keys) != 1 {
				x.Errorf("%s, %s: something is written: %q", name, kind, keys)
			}
		}
	}
}

func testStoreFencedScript(x *storeTest) {
	script := store.FencedScript(`return redis.call('APPEND', KEYS[2], ARGV[3])`)
	run := func(epoch int, owner string) error {
		return script.Run(x.ctx, x.db, []string{store.OwnKey(x.prefix, 7), x.key("text")}, epoch, owner, "x").Err()
	}
	if err := run(5, "a"); err != nil {
		x.Error(err)
	}
	if err := run(5, "b"); !store.IsFenced(err) {
		x.Errorf("another owner: %v", err)
	}
	if err := run(6, "b"); err != nil {
		x.Error(err)
	}
	if err := run(5, "a"); !store.IsFenced(err) {
		x.Errorf("an older epoch: %v", err)
	}
	if got := x.db.Get(x.ctx, x.key("text")).Val(); got != "xx" {
		x.Errorf("the script ran %d times, want 2", len(got))
	}
}

var errCut = errors.New("the connection is cut")

// A process that ends before the last call of a save leaves the old checkpoint,
// and pages that the next save removes.
func testStoreCrashBeforeCompletion(x *storeTest) {
	text := `"` + strings.Repeat("long ", 20) + `"`
	for name, nextOwner := range map[string]bool{"same owner": false, "next owner": true} {
		s := newRoomState(x)
		s.fill(0, 20_000, text)
		old := s.checkpoint()
		last := x.save(name, old, nil)

		s.fill(10, 18_000, text+`,"z":1`)
		n := 0
		x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
			if what == "ahead" && n < 2 {
				n++
				return call()
			}
			return errCut
		})
		if _, err := x.store.Save(x.ctx, x.fence, name, s.checkpoint(), last); !errors.Is(err, errCut) {
			x.Fatal(err)
		}
		x.spy.set(nil)
		x.wantCheckpoint(name, old)
		if kept := x.pagesKept(name); n < 2 || kept <= 79 {
			x.Fatalf("%d calls went ahead and Redis has %d pages: that is no crash in the middle", n, kept)
		}
		if nextOwner {
			x.fence.Epoch++
			x.fence.Owner = "n.2"
			var c *store.Checkpoint
			c, last = x.load(name)
			s.State = room.RestoreState(c.Snapshot, c.Sessions, room.Limits{})
		}
		// A single page changes, so the rest is not written under the same name.
		s.patch(`{"key3/Shape":{"x":-1}}`)
		x.save(name, s.checkpoint(), last)
		x.want(name, s.checkpoint())
	}

	// The first save of a room: there is none until it is complete.
	s := newRoomState(x)
	s.fill(0, 20_000, text)
	x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
		if what == "ahead" {
			return call()
		}
		return errCut
	})
	if _, err := x.store.Save(x.ctx, x.fence, "first", s.checkpoint(), nil); !errors.Is(err, errCut) {
		x.Fatal(err)
	}
	x.spy.set(nil)
	if c, _, err := x.store.Load(x.ctx, x.fence.Partition, "first"); c != nil || err != nil || x.pagesKept("first") == 0 {
		x.Errorf("a room that was never completed: %v, %v", c, err)
	}
	x.save("first", s.checkpoint(), nil)
	x.want("first", s.checkpoint())
}

// A save that took place although its reply was lost.
func testStoreUnknownOutcome(x *storeTest) {
	s := newRoomState(x)
	for name, fill := range map[string]int{"small": 10, "large": 10_000} {
		s.fill(0, fill, `"`+strings.Repeat("long ", 20)+`"`)
		first := x.save(name, s.checkpoint(), nil)
		for _, last := range []*store.Stored{first, nil} {
			s.fill(5, fill+5, `"other"`)
			x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
				if err := call(); err != nil {
					return err
				}
				if _, done := cmd.(*redis.Cmd).Val().(int64); done && what != "ahead" {
					return errCut
				}
				return nil
			})
			if _, err := x.store.Save(x.ctx, x.fence, name, s.checkpoint(), last); !errors.Is(err, errCut) {
				x.Fatal(err)
			}
			x.spy.set(nil)
			x.want(name, s.checkpoint())
			s.patch(`{"key3/Shape":{"x":-1}}`)
			s.join("new"+strconv.Itoa(s.applied), "client", nil)
			x.save(name, s.checkpoint(), last)
			x.want(name, s.checkpoint())
		}
	}

	// A client that sends everything twice.
	x.spy.set(func(_ string, _ redis.Cmder, call func() error) error { call(); return call() })
	last := x.save("twice", s.checkpoint(), nil)
	x.want("twice", s.checkpoint())
	s.patch(`{"key3/Shape":{"x":-2}}`)
	calls, _, _ := x.spy.sent(func() { x.save("twice", s.checkpoint(), last) })
	if calls != 1 {
		x.Errorf("%d calls to save a key", calls)
	}
	x.spy.set(nil)
	x.want("twice", s.checkpoint())
}

// Calls of saves that were given up reach Redis after those that followed.
func testStoreLateCalls(x *storeTest) {
	s := newRoomState(x)
	text := `"` + strings.Repeat("long ", 20) + `"`
	s.fill(0, 10_000, text)
	last := x.save("r", s.checkpoint(), nil)
	var late [][]any
	for round := range 3 {
		s.fill(0, 10_000, fmt.Sprintf(`%d,"z":%s`, round, text))
		calls := 0
		x.spy.set(func(_ string, cmd redis.Cmder, call func() error) error {
			late = append(late, cmd.Args())
			if calls++; calls <= round {
				return call()
			}
			return errCut // it is on its way
		})
		if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, errCut) {
			x.Fatal(err)
		}
	}
	x.spy.set(nil)
	s.patch(`{"key3/Shape":{"x":-1}}`)
	last = x.save("r", s.checkpoint(), last)
	x.want("r", s.checkpoint())
	for _, args := range late {
		if err := x.db.Do(x.ctx, args...).Err(); err != nil {
			x.Error(err)
		}
		x.want("r", s.checkpoint())
	}

	// In the midst of another save, which begins anew then.
	s.fill(0, 10_000, `"late"`)
	var whole []any
	x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
		if what == "ahead" {
			return call()
		}
		whole = cmd.Args()
		return errCut
	})
	if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, errCut) {
		x.Fatal(err)
	}
	s.fill(0, 10_000, text)
	x.spy.set(func(what string, cmd redis.Cmder, call func() error) error {
		if what != "ahead" && whole != nil {
			if err := x.db.Do(x.ctx, whole...).Err(); err != nil {
				x.Error(err)
			}
			whole = nil
		}
		return call()
	})
	calls, _, _ := x.spy.sent(func() { x.save("r", s.checkpoint(), last) })
	x.spy.set(nil)
	if calls < 5 || whole != nil {
		x.Errorf("%d calls: the save did not begin anew", calls)
	}
	x.want("r", s.checkpoint())
}

// A replica takes over that had not got the last saves.
func testStoreLostTail(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 2000, "1")
	x.save("r", s.checkpoint(), nil)
	keys := x.db.Keys(x.ctx, x.key("*")).Val()
	dumps := map[string]string{}
	for _, key := range keys {
		dumps[key] = x.db.Dump(x.ctx, key).Val()
	}
	s.fill(500, 2500, "2")
	last := x.save("r", s.checkpoint(), nil)

	for _, all := range []bool{false, true} {
		for _, key := range keys {
			x.db.Del(x.ctx, key)
			if !all {
				if err := x.db.Restore(x.ctx, key, 0, dumps[key]).Err(); err != nil {
					x.Fatal(err)
				}
			}
		}
		s.patch(`{"key2400/Shape":{"x":-1}}`)
		last = x.save("r", s.checkpoint(), last)
		x.want("r", s.checkpoint())
	}
}

func testStoreFullRedis(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 2000, "1")
	old := s.checkpoint()
	last := x.save("r", old, nil)
	if err := x.db.ConfigSet(x.ctx, "maxmemory", "1000").Err(); err != nil {
		x.Fatal(err)
	}
	defer x.db.ConfigSet(x.ctx, "maxmemory", "0")
	s.leave("writer")
	if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); err == nil || errors.Is(err, store.ErrFenced) {
		x.Errorf("a full Redis: %v", err)
	}
	x.want("r", old)
	// What begins by freeing memory is not refused, and not in the middle either.
	empty := &store.Checkpoint{Applied: "7-7"}
	last = x.save("r", empty, last)
	x.want("r", empty)
	if err := x.db.ConfigSet(x.ctx, "maxmemory", "0").Err(); err != nil {
		x.Fatal(err)
	}
	x.save("r", s.checkpoint(), last)
	x.want("r", s.checkpoint())
}

func testStoreForgottenScripts(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, `"`+strings.Repeat("long ", 20)+`"`)
	x.spy.set(func(_ string, _ redis.Cmder, call func() error) error {
		if err := x.db.ScriptFlush(x.ctx).Err(); err != nil {
			x.Error(err)
		}
		return call()
	})
	x.save("r", s.checkpoint(), nil)
	x.want("r", s.checkpoint())
}

// Another owner replaces a checkpoint while it is read.
func testStoreLoadDuringSave(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 5000, "1")
	last := x.save("r", s.checkpoint(), nil)
	other := *x
	other.spy = &spy{}
	other.store = store.NewRedis(store.RedisConfig{Client: x.db, Prefix: x.prefix})
	hmgets := 0
	x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
		if what == "hmget" {
			if hmgets++; hmgets == 2 {
				s.fill(0, 5000, "2")
				last = other.save("r", s.checkpoint(), last)
			}
		}
		return call()
	})
	c, _ := x.load("r")
	x.spy.set(nil)
	if hmgets <= 3 {
		x.Errorf("%d calls: nothing was read again", hmgets)
	}
	if want := s.checkpoint(); c.Applied != want.Applied || !reflect.DeepEqual(documentOf(x, c.Snapshot), documentOf(x, want.Snapshot)) {
		x.Errorf("it has %s, want %s", c.Applied, want.Applied)
	}

	// Without an end.
	x.spy.set(func(what string, _ redis.Cmder, call func() error) error {
		if what == "hmget" {
			s.fill(0, 5000, "3")
			last = other.save("r", s.checkpoint(), last)
		}
		return call()
	})
	if _, _, err := x.store.Load(x.ctx, 7, "r"); err == nil || errors.Is(err, room.ErrBadSnapshot) {
		x.Errorf("a checkpoint that keeps changing: %v", err)
	}
}

// What is read is always of one moment.
func testStoreLoadsAndSavesAtOnce(x *storeTest) {
	const saves = 20
	state := func(i int) string { return fmt.Sprintf(`%d,"z":"%s"`, i, strings.Repeat("z", 200)) }
	s := newRoomState(x)
	save := func(last *store.Stored, i int) *store.Stored {
		s.fill(0, 6000, state(i)) // by two patches
		s.receive("writer", fmt.Sprintf(`{"type":"patch","ephemeralPatches":[{"at":{"_exists":true,"n":%d}}]}`, s.Document().Timestamp()))
		return x.save("r", s.checkpoint(), last)
	}
	last := save(nil, 0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
				}
				c, _, err := x.store.Load(x.ctx, 7, "r")
				if err != nil {
					if errors.Is(err, room.ErrBadSnapshot) {
						x.Error(err)
					}
					continue
				}
				text, _ := c.Snapshot.MarshalJSON()
				if want := fmt.Sprintf(`"n":%d}`, c.Snapshot.Timestamp()); !strings.Contains(string(c.Sessions[0].Presence), want) {
					x.Errorf("presence %s with timestamp %d", c.Sessions[0].Presence, c.Snapshot.Timestamp())
				}
				y := text[strings.Index(string(text), `"y":`):]
				y = y[:strings.IndexByte(string(y), ',')]
				if n := strings.Count(string(text), string(y)+","); n != 6000 {
					x.Errorf("%d of 6000 keys have %s", n, y)
				}
			}
		})
	}
	for i := range saves {
		last = save(last, i+1)
	}
	close(done)
	wg.Wait()
	x.want("r", s.checkpoint())
}

// A key that has nothing to be written takes a place in its page all the same,
// but not in Redis.
func testStoreMovedPages(x *storeTest) {
	var state []string
	for i := range 600 {
		state = append(state, fmt.Sprintf(`"k%d":{"_exists":true,"x":1}`, i))
	}
	snapshot, err := room.ParseSnapshot([]byte(`{"timestamp":1,"timestamps":{"nothing":{}},"state":{` + strings.Join(state, ",") + `}}`))
	if err != nil {
		x.Fatal(err)
	}
	x.save("r", &store.Checkpoint{Applied: "1-1", Snapshot: snapshot}, nil)
	c, last := x.load("r")
	s := newRoomState(x)
	s.State = room.RestoreState(c.Snapshot, nil, room.Limits{})
	for i := range 600 { // whichever has moved
		s.patch(fmt.Sprintf(`{"k%d":{"x":2}}`, i))
		last = x.save("r", s.checkpoint(), last)
		if i%50 == 0 || i == 599 {
			x.want("r", s.checkpoint())
		}
		if i >= 250 && i < 260 {
			x.want("r", s.checkpoint())
		}
	}
}

func testStoreBadData(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 5000, "1")
	s.receive("writer", `{"type":"patch","ephemeralPatches":[{"secret":{"_exists":true}}]}`)
	good := s.checkpoint()
	const id = "bad\nroom"
	meta, pages, sessions := x.key("r:"+id), x.key("d:"+id), x.key("s:"+id)
	page := func() string { return "3@" + x.db.HGet(x.ctx, meta, "p3").Val() }
	for name, spoil := range map[string]func() error{
		"later format":         func() error { return x.db.HSet(x.ctx, meta, "format", "2").Err() },
		"no format":            func() error { return x.db.HDel(x.ctx, meta, "format").Err() },
		"no id":                func() error { return x.db.HDel(x.ctx, meta, "id").Err() },
		"no place in the log":  func() error { return x.db.HDel(x.ctx, meta, "applied").Err() },
		"no timestamp":         func() error { return x.db.HDel(x.ctx, meta, "timestamp").Err() },
		"a negative timestamp": func() error { return x.db.HSet(x.ctx, meta, "timestamp", -1).Err() },
		"a large timestamp":    func() error { return x.db.HSet(x.ctx, meta, "timestamp", uint64(1<<60)).Err() },
		"a timestamp of text":  func() error { return x.db.HSet(x.ctx, meta, "timestamp", "now").Err() },
		"no number of pages":   func() error { return x.db.HDel(x.ctx, meta, "pages").Err() },
		"too many pages":       func() error { return x.db.HSet(x.ctx, meta, "pages", 1<<40).Err() },
		"negative pages":       func() error { return x.db.HSet(x.ctx, meta, "pages", -1).Err() },
		"a version is missing": func() error { return x.db.HDel(x.ctx, meta, "p3").Err() },
		"a page is missing":    func() error { return x.db.HDel(x.ctx, pages, page()).Err() },
		"no page":              func() error { return x.db.Del(x.ctx, pages).Err() },
		"a page is no JSON":    func() error { return x.db.HSet(x.ctx, pages, page(), `{"state":{"secret`).Err() },
		"a page is empty":      func() error { return x.db.HSet(x.ctx, pages, page(), ``).Err() },
		"a page is a list":     func() error { return x.db.HSet(x.ctx, pages, page(), `["secret"]`).Err() },
		"no order":             func() error { return x.db.HDel(x.ctx, meta, "order").Err() },
		"an order that is cut": func() error { return x.db.HSet(x.ctx, meta, "order", "\x09x").Err() },
		"an order of others":   func() error { return x.db.HSet(x.ctx, meta, "order", "\x01x").Err() },
		"no sessions":          func() error { return x.db.Del(x.ctx, sessions).Err() },
		"a session too many":   func() error { return x.db.HSet(x.ctx, sessions, "x", "").Err() },
		"a session that is no": func() error { return x.db.HSet(x.ctx, sessions, "writer", "\xff\xffsecret").Err() },
		"a text for a hash":    func() error { return x.db.Set(x.ctx, meta, "secret", 0).Err() },
		"a text for the pages": func() error { return x.db.Set(x.ctx, pages, "secret", 0).Err() },
		"a text for sessions":  func() error { return x.db.Set(x.ctx, sessions, "secret", 0).Err() },
	} {
		x.db.Del(x.ctx, meta, pages, sessions)
		last := x.save(id, good, nil)
		if err := spoil(); err != nil {
			x.Fatalf("%s: %v", name, err)
		}
		before := x.db.HGetAll(x.ctx, pages).Val()
		c, stored, err := x.store.Load(x.ctx, 7, id)
		if !errors.Is(err, room.ErrBadSnapshot) || c != nil || stored != nil {
			x.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), `"bad\nroom"`) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			x.Errorf("%s: the error does not name the room, or tells too much: %v", name, err)
		}
		if after := x.db.HGetAll(x.ctx, pages).Val(); !maps.Equal(before, after) {
			x.Errorf("%s: loading has changed something", name)
		}
		if strings.HasPrefix(name, "a text for") {
			continue
		}
		// Who has the room in memory goes on.
		if _, err := x.store.Save(x.ctx, x.fence, id, good, last); err != nil {
			x.Errorf("%s: %v", name, err)
		}
	}
}

func testStoreUnreachable(x *storeTest) {
	s := newRoomState(x)
	s.fill(0, 10_000, "1")
	last := x.save("r", s.checkpoint(), nil)
	x.spy.set(func(string, redis.Cmder, func() error) error { return errCut })
	if _, err := x.store.Save(x.ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, errCut) || store.IsFenced(err) {
		x.Errorf("save: %v", err)
	}
	if _, err := x.store.Live(x.ctx, 7); !errors.Is(err, errCut) {
		x.Errorf("live: %v", err)
	}
	for n := range 3 { // calls that succeed
		calls := 0
		x.spy.set(func(_ string, _ redis.Cmder, call func() error) error {
			if calls++; calls > n {
				return errCut
			}
			return call()
		})
		c, stored, err := x.store.Load(x.ctx, 7, "r")
		if !errors.Is(err, errCut) || errors.Is(err, room.ErrBadSnapshot) || c != nil || stored != nil {
			x.Errorf("load after %d calls: %v", n, err)
		}
	}
	x.spy.set(nil)
	ctx, cancel := context.WithCancel(x.ctx)
	cancel()
	if _, err := x.store.Save(ctx, x.fence, "r", s.checkpoint(), last); !errors.Is(err, context.Canceled) {
		x.Errorf("save with a context that has ended: %v", err)
	}
	if _, _, err := x.store.Load(ctx, 7, "r"); !errors.Is(err, context.Canceled) {
		x.Errorf("load with a context that has ended: %v", err)
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
			x.fence.Epoch++
			x.fence.Owner = fmt.Sprint("n.", dice.IntN(3))
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
