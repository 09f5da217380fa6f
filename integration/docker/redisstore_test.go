package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/weftsync/weft/room"
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
		"FailingSaves":          testStoreFailingSaves,
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
	x := &storeTest{T: t, ctx: t.Context(), prefix: prefix, db: server.Client(), spy: &spy{}, fence: store.Fence{Partition: 7}}
	x.claim(1, "n.1")
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

// claim makes somebody the owner of the partition, in Redis, too.
func (x *storeTest) claim(epoch uint64, owner string) {
	x.fence.Epoch, x.fence.Owner, x.fence.Chain = epoch, owner, &store.Chain{}
	x.db.HSet(x.ctx, x.key("own"), "epoch", epoch, "owner", owner, "released", 0, "link", 0)
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
		if args := cmd.Args(); strings.HasPrefix(what, "eval") && len(args) > 19 {
			what, _ = args[19].(string)
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
	pages, err := x.db.HGet(x.ctx, x.key("r:"+id), "pages").Int()
	if err != nil {
		x.Fatal(err)
	}
	versions := map[string]string{}
	fields := x.db.HKeys(x.ctx, x.key("d:"+id)).Val()
	for _, field := range fields {
		page, version, _ := strings.Cut(field, "@")
		version, _, _ = strings.Cut(version, ".")
		if had, ok := versions[page]; ok && had != version {
			x.Errorf("Redis has page %s of %s twice", page, id)
		}
		versions[page] = version
	}
	if len(versions) != pages {
		x.Errorf("Redis has %d pages of %s, and %d belong to it", len(versions), id, pages)
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

// fieldsKept is in how many fields there are pages.
func (x *storeTest) fieldsKept(id string) int64 {
	x.Helper()
	n, err := x.db.HLen(x.ctx, x.key("d:"+id)).Result()
	if err != nil {
		x.Fatal(err)
	}
	return n
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
	const onePage = 16 * 130 // a key of this test takes about so much
	last := (*store.Stored)(nil)
	step := func(what string, maxCalls, maxBytes int) {
		x.Helper()
		c := s.checkpoint()
		calls, bytes, largest := x.spy.sent(func() { last = x.save("big", c, last) })
		x.Logf("%s: %d calls, %d bytes, the largest %d", what, calls, bytes, largest)
		if calls > maxCalls || bytes > maxBytes || largest > 300<<10 {
			x.Errorf("%s: %d calls, %d bytes, the largest %d; at most %d and %d expected", what, calls, bytes, largest, maxCalls, maxBytes)
		}
		if n := x.fieldsKept("big"); n != int64(s.Document().Len()+15)/16 {
			x.Errorf("%s: Redis has %d pages", what, n)
		}
	}
	step("everything", 70, 7000*onePage) // one call may go twice, if Redis does not know the script yet
	step("nothing", 1, 500)
	sweeps := x.timesCalled("hscan")
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
	if n := x.timesCalled("hscan") - sweeps; n > 0 {
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
	// A single page that is larger than what is written by one call.
	small.patch(`{"key3/Shape":{"y":"` + strings.Repeat("y", 3<<20) + `"}}`)
	small.fill(10, 600, "2")
	_, _, largest := x.spy.sent(func() { last = x.save("r", small.checkpoint(), last) })
	if largest > 300<<10 {
		x.Errorf("a call of %d bytes", largest)
	}
	x.want("r", small.checkpoint())
	if parts := x.fieldsKept("r"); parts < 3<<20/(16<<10) {
		x.Errorf("a value of 3 MiB is in %d fields", parts)
	}
	small.patch(`{"key3/Shape":{"y":1}}`)
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
