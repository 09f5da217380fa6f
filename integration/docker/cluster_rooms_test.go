package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// What holds of a room on one node holds of it on several.
func TestClusterRooms(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	for name, test := range map[string]func(*nodes){
		"Presence":     testClusterPresence,
		"Order":        testClusterOrder,
		"Readonly":     testClusterReadonly,
		"Sessions":     testClusterSessions,
		"TokenRefresh": testClusterTokenRefresh,
		"RoomFull":     testClusterRoomFull,
		"IdleRooms":    testClusterIdleRooms,
		"OddNames":     testClusterOddNames,
		"SameName":     testClusterSameName,
		"Resync":       testClusterResync,
		"Unreadable":   testClusterUnreadableCheckpoint,
		"AllAtOnce":    testClusterAllAtOnce,
	} {
		t.Run(name, func(t *testing.T) { test(newNodes(t, server)) })
	}
}

// pair starts two nodes and finds a room that the first one owns.
func (c *nodes) pair(change func(*cluster.Config)) (a, b *cluster.Node, roomID string) {
	c.Helper()
	a, b = c.join("a", change), c.join("b", change)
	c.settle(a, b)
	return a, b, c.roomOf(a, "room")
}

func testClusterPresence(c *nodes) {
	a, b, roomID := c.pair(nil)
	alice := c.visit(a, roomID, "alice")
	alice.enter(0)
	alice.point("here")
	alice.gets(`"ack","messageId":"here"`)
	bob := c.visit(b, roomID, "bob")
	bob.gets(`{"type":"patch","clientId":"","ephemeralPatches":[{"cursor":{"_exists":true,"at":"here"}}]}`)
	bob.gets(`{"type":"clientCount","count":2}`)
	alice.gets(`{"type":"clientCount","count":2}`)
	bob.enter(0)
	bob.point("there")
	alice.gets(`{"type":"patch","clientId":"bob","ephemeralPatches":[{"cursor":{"_exists":true,"at":"there"}}]}`)
	bob.session.Leave()
	alice.gets(`{"type":"patch","clientId":"bob","ephemeralPatches":[{"cursor":{"_exists":false}}]}`)
	alice.gets(`{"type":"clientCount","count":1}`)

	// A whole node goes, with the owner of the room or without.
	carol := c.visit(b, roomID, "carol")
	carol.enter(0)
	carol.point("everywhere")
	carol.gets(`"ack"`)
	carol.forget()
	if err := c.leave(a); err != nil {
		c.Error(err)
	}
	alice.isClosed(1012)
	carol.gets(`{"type":"patch","clientId":"alice","ephemeralPatches":[{"cursor":{"_exists":false}}]}`)
	carol.gets(`{"type":"clientCount","count":1}`)
	carol.isOpen()
	carol.drawn("alone")
	dave := c.visit(b, roomID, "dave")
	dave.gets(`"at":"everywhere"`)
}

// What the room applied before a session's edit reaches it before the ack, and
// everybody sees every timestamp once and in order.
func testClusterOrder(c *nodes) {
	a, b, roomID := c.pair(nil)
	d := c.join("d", nil)
	list := []*person{c.visit(a, roomID, "pa"), c.visit(b, roomID, "pb"), c.visit(d, roomID, "pd")}
	for _, p := range list {
		p.enter(0)
	}
	const each = 200
	var all sync.WaitGroup
	for k, p := range list {
		all.Go(func() {
			for i := range each {
				p.draw(fmt.Sprintf("k%d-%d", k, i))
			}
		})
	}
	all.Wait()
	for k, p := range list {
		p.gets(fmt.Sprintf(`"ack","messageId":"k%d-%d"`, k, each-1))
	}
	for k, p := range list {
		waitFor(c, "all timestamps", func() bool { return p.count(`"documentPatches"`)+p.count(`"ack"`) == 3*each })
		next := int64(1)
		for _, f := range p.all() {
			var m struct {
				Type      string
				Timestamp int64
			}
			if err := json.Unmarshal([]byte(f), &m); err != nil {
				c.Fatal(err)
			}
			if m.Type != "ack" && m.Type != "patch" {
				continue
			}
			if m.Timestamp != next {
				c.Fatalf("client %d has timestamp %d where %d should be", k, m.Timestamp, next)
			}
			next++
		}
	}
}

func testClusterReadonly(c *nodes) {
	a, b, roomID := c.pair(nil)
	writer := c.visit(a, roomID, "writer")
	writer.enter(0)
	reader := c.visitAs(b, roomID, room.ConnectOptions{Client: "reader", Grant: room.Grant{Permission: room.ReadOnly}})
	reader.enter(0)
	reader.drawn("no")
	writer.drawn("yes")
	reader.gets(`"yes"`)
	if n := writer.count(`"no"`); n != 0 {
		c.Errorf("the reader wrote: %q", writer.all())
	}
	if err := a.SetPermission(c.Context(), roomID, reader.session.ID(), room.ReadWrite); err != nil {
		c.Fatal(err)
	}
	reader.drawn("now")
	writer.gets(`"now"`)
	if err := b.SetPermission(c.Context(), roomID, writer.session.ID(), room.ReadOnly); err != nil {
		c.Fatal(err)
	}
	writer.drawn("late")
	if got := c.document(b, roomID); got["yes"] == nil || got["now"] == nil || len(got) != 2 {
		c.Errorf("the document is %v", got)
	}
}

func testClusterSessions(c *nodes) {
	a, b, roomID := c.pair(nil)
	d := c.join("d", nil)
	meta := json.RawMessage(`{"name":"Ada"}`)
	ada := c.visitAs(a, roomID, room.ConnectOptions{Client: "ada", Grant: room.Grant{Permission: room.ReadWrite, Metadata: meta}})
	ada.enter(0)
	bob := c.visit(b, roomID, "bob")
	bob.enter(0)
	for _, n := range []*cluster.Node{a, b, d} {
		list, err := n.Sessions(c.Context(), roomID)
		if err != nil || len(list) != 2 {
			c.Fatalf("%v, %v", list, err)
		}
		i := slices.IndexFunc(list, func(s room.SessionInfo) bool { return s.ID == ada.session.ID() })
		if i < 0 || list[i].Client != "ada" || list[i].Permission != room.ReadWrite || string(list[i].Metadata) != string(meta) {
			c.Errorf("%+v", list)
		}
	}
	if list, err := d.Sessions(c.Context(), "nobody-was-here"); err != nil || len(list) != 0 {
		c.Errorf("%v, %v", list, err)
	}
	if err := d.SetMetadata(c.Context(), roomID, bob.session.ID(), json.RawMessage(`{"name":"Bob"}`)); err != nil {
		c.Fatal(err)
	}
	waitFor(c, "bob's node to know", func() bool {
		info, err := bob.session.Info()
		return err == nil && string(info.Metadata) == `{"name":"Bob"}` && info.Permission == room.ReadWrite
	})
	if err := d.SetMetadata(c.Context(), roomID, ada.session.ID(), nil); err != nil {
		c.Fatal(err)
	}
	list, err := b.Sessions(c.Context(), roomID)
	if err != nil {
		c.Fatal(err)
	}
	for _, s := range list {
		if s.Client == "ada" && s.Metadata != nil || s.Client == "bob" && string(s.Metadata) != `{"name":"Bob"}` {
			c.Errorf("%+v", s)
		}
	}
	for what, err := range map[string]error{
		"permission": d.SetPermission(c.Context(), roomID, "nobody", room.ReadOnly),
		"metadata":   d.SetMetadata(c.Context(), roomID, "nobody", nil),
		"disconnect": d.Disconnect(c.Context(), roomID, "nobody", protocol.CloseRestart),
	} {
		if !errors.Is(err, room.ErrNoSession) {
			c.Errorf("%s of nobody: %v", what, err)
		}
	}
	if err := d.Disconnect(c.Context(), roomID, bob.session.ID(), protocol.PolicyViolation("out")); err != nil {
		c.Fatal(err)
	}
	bob.isClosed(1008)
	ada.gets(`{"type":"clientCount","count":1}`)
	if list, err := b.Sessions(c.Context(), roomID); err != nil || len(list) != 1 {
		c.Errorf("%v, %v", list, err)
	}
}

func testClusterTokenRefresh(c *nodes) {
	_, b, roomID := c.pair(nil)
	authorize := func(r room.TokenRefresh) (room.Grant, error) {
		switch r.Token {
		case "secret-good":
			return room.Grant{Permission: room.ReadWrite, Metadata: json.RawMessage(`{"fresh":true}`)}, nil
		case "secret-panic":
			panic(r.Token)
		case "secret-slow":
			<-r.Context.Done()
			return room.Grant{}, r.Context.Err()
		}
		return room.Grant{}, errors.New("refused")
	}
	join := func(name string) *person {
		p := c.visitAs(b, roomID, room.ConnectOptions{Client: name, Grant: room.Grant{Permission: room.ReadOnly}, OnTokenRefresh: authorize})
		p.enter(0)
		return p
	}
	good, bad, panics := join("good"), join("bad"), join("panics")
	good.say(`{"type":"auth-refresh","token":"secret-good"}`)
	waitFor(c, "the grant", func() bool {
		info, err := good.session.Info()
		return err == nil && info.Permission == room.ReadWrite && string(info.Metadata) == `{"fresh":true}`
	})
	good.drawn("written")
	bad.say(`{"type":"auth-refresh","token":"secret-bad"}`)
	bad.isClosed(1008)
	panics.say(`{"type":"auth-refresh","token":"secret-panic"}`)
	panics.isClosed(1008)
	slow := join("slow")
	slow.say(`{"type":"auth-refresh","token":"secret-slow"}`)
	slow.say(`{"type":"patch","messageId":"meanwhile","documentPatches":[{}]}`)
	slow.gets(`"ack","messageId":"meanwhile"`)
	slow.isClosed(1008)
	good.isOpen()
	// Tokens are in nobody's hands but the authorizer's.
	iter := c.db.Scan(c.Context(), 0, c.key("*"), 1000).Iterator()
	keys := 0
	for iter.Next(c.Context()) {
		keys++
		dump, err := c.db.Dump(c.Context(), iter.Val()).Result()
		if err == nil && strings.Contains(dump, "secret-") {
			c.Errorf("%s has a token", iter.Val())
		}
	}
	if keys == 0 || iter.Err() != nil {
		c.Errorf("%d keys, %v", keys, iter.Err())
	}
}

func testClusterRoomFull(c *nodes) {
	a, b, roomID := c.pair(func(config *cluster.Config) { config.Limits.MaxSessions = 2 })
	first, second := c.visit(a, roomID, "first"), c.visit(b, roomID, "second")
	first.enter(0)
	second.enter(0)
	third, err := c.tryToVisit(b, roomID, "third")
	if !errors.Is(err, room.ErrFull) || len(third.all()) > 0 || third.why() != nil {
		c.Errorf("one too many: %v; it got %q, was closed: %v", err, third.all(), third.why())
	}
	second.session.Leave()
	first.gets(`{"type":"clientCount","count":1}`)
	fourth := c.visit(b, roomID, "fourth")
	fourth.enter(0)
	first.isOpen()
}

// A room that nobody is in leaves memory, and Redis has it until it is used again.
func testClusterIdleRooms(c *nodes) {
	a, b, roomID := c.pair(func(config *cluster.Config) { config.RoomIdleTimeout = 100 * time.Millisecond })
	p := c.visit(b, roomID, "p")
	p.enter(0)
	p.drawn("k")
	waitFor(c, "the room to be counted", func() bool { return a.Stats().Rooms+b.Stats().Rooms == 1 })
	p.session.Leave()
	waitFor(c, "the room to leave memory", func() bool { return a.Stats().Rooms+b.Stats().Rooms == 0 })
	waitFor(c, "its log to be trimmed", func() bool {
		n, err := c.db.XLen(c.Context(), c.key("{p%d}:log", partitionOf(roomID))).Result()
		return err == nil && n == 0
	})
	again := c.visit(a, roomID, "again")
	again.enter(0)
	again.gets(`"k":{"_exists":true}`)
	again.drawn("k2")
	again.gets(`"timestamp":2`)
}

func testClusterOddNames(c *nodes) {
	a := c.join("-A.name_with-dots.and_1-digit.", nil)
	b := c.join("b", nil)
	c.settle(a, b)
	for _, id := range []string{"", " ", "{p1}", "}{", "a\nb", "é\x00\xff", "*", "r:x", strings.Repeat("long", 500)} {
		pa, pb := c.visit(a, id, "pa\n\""), c.visit(b, id, "pb")
		pa.enter(0)
		pb.enter(0)
		pa.drawn("k")
		pb.gets(`"k"`)
		if list, err := b.Sessions(c.Context(), id); err != nil || len(list) != 2 {
			c.Errorf("%q: %v, %v", id, list, err)
		}
	}
	time.Sleep(time.Second) // some saves
	if err := c.leave(a); err != nil {
		c.Error(err)
	}
	if got := c.document(b, "{p1}"); got["k"] == nil {
		c.Errorf("%v", got)
	}
}

// Two nodes that have the same name by mistake: the later one owns, and both
// serve their sockets.
func testClusterSameName(c *nodes) {
	a := c.join("same", nil)
	pa := c.visit(a, "room", "pa")
	pa.enter(0)
	b := c.join("same", nil)
	pb := c.visit(b, "room", "pb")
	pb.enter(0)
	waitFor(c, "one of them to own everything", func() bool {
		return a.Stats().OwnedPartitions+b.Stats().OwnedPartitions == 271 && (a.Stats().OwnedPartitions == 0 || b.Stats().OwnedPartitions == 0)
	})
	pa.drawn("k")
	pb.gets(`"k"`)
	if err := c.leave(b); err != nil {
		c.Error(err)
	}
	pa.drawn("k2")
	pa.isOpen()
}

// A client that has seen more than the room has is asked for it.
func testClusterResync(c *nodes) {
	a, b, roomID := c.pair(nil)
	_ = a
	p := c.visit(b, roomID, "p")
	p.enter(5)
	p.gets(`{"type":"resync","since":0}`)
	p.drawn("again")
	p.isOpen()
}

// A room whose checkpoint cannot be read stays closed, and does not begin empty;
// its neighbours go on.
func testClusterUnreadableCheckpoint(c *nodes) {
	a, b, roomID := c.pair(func(config *cluster.Config) { config.RoomIdleTimeout = 100 * time.Millisecond })
	p := c.visit(b, roomID, "p")
	p.enter(0)
	p.drawn("k")
	p.session.Leave()
	waitFor(c, "the room to leave memory", func() bool { return a.Stats().Rooms+b.Stats().Rooms == 0 && a.Stats().Saves > 0 })
	key := c.key("{p%d}:r:%s", partitionOf(roomID), roomID)
	if n, err := c.db.HSet(c.Context(), key, "format", "99").Result(); err != nil || n != 0 {
		c.Fatalf("%d, %v", n, err)
	}
	q, err := c.tryToVisit(b, roomID, "q")
	if want := fmt.Sprintf("load room %q: ", roomID); err == nil || !strings.HasPrefix(err.Error(), want) || len(q.all()) > 0 || q.why() != nil {
		c.Errorf("%v; it got %q, was closed: %v", err, q.all(), q.why())
	}
	if list, err := a.Sessions(c.Context(), roomID); err == nil && len(list) > 0 {
		c.Errorf("%v", list)
	}
	if err := c.db.HSet(c.Context(), key, "format", "1").Err(); err != nil {
		c.Fatal(err)
	}
	if got := c.document(b, roomID); got["k"] == nil || len(got) != 1 {
		c.Errorf("%v", got)
	}
}

// All nodes go at once, and others begin with what Redis has.
func testClusterAllAtOnce(c *nodes) {
	a, b, roomID := c.pair(nil)
	list := []*person{c.visit(a, roomID, "pa"), c.visit(b, roomID, "pb")}
	for i, p := range list {
		p.enter(0)
		p.drawn(fmt.Sprint("k", i))
	}
	var all sync.WaitGroup
	for _, n := range []*cluster.Node{a, b} {
		all.Go(func() {
			if err := c.leave(n); err != nil {
				c.Log(err) // whoever is last may find nobody to tell
			}
		})
	}
	all.Wait()
	c.gossip = nil
	d := c.join("d", nil)
	p := c.visit(d, roomID, "p")
	p.enter(0)
	p.gets(`"k0":`)
	p.gets(`"k1":`)
	waitFor(c, "who is gone to have left", func() bool {
		list, err := d.Sessions(c.Context(), roomID)
		return err == nil && len(list) == 1
	})
}
