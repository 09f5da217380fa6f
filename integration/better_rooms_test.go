package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// On the published server two first joins at once make two rooms, and one of them is lost.
func TestBetterFirstJoinsAtOnceShareOneRoom(t *testing.T) {
	t.Parallel()
	const rooms = 60
	s := startNodes(t, newData(t))
	for i := range rooms {
		c := join(t, s, fmt.Sprintf("room-%d", i), "c")
		c.mustPatch(t, "m", `[{"old/A":{"_exists":true}}]`)
		c.drop()
	}
	s.stop(t) // so that the rooms have to be loaded
	s = startNodes(t, s.data)
	pairs := make([][2]*wsClient, rooms)
	inParallel(2*rooms, func(i int) {
		room := fmt.Sprintf("room-%d", i/2)
		c, err := dial(s.url(room, fmt.Sprintf("client-%d", i%2), token(room, true, time.Hour)))
		if err != nil {
			t.Errorf("room %s: the upgrade failed", room)
			return
		}
		t.Cleanup(c.drop)
		pairs[i/2][i%2] = c
	})
	if t.Failed() {
		return
	}
	for i, pair := range pairs {
		pair[0].awaitCount(t, 2)
		pair[1].awaitCount(t, 2)
		if ts := pair[0].mustPatch(t, "m", `[{"new/A":{"_exists":true}}]`); ts != 2 {
			t.Errorf("room %d: the patch has timestamp %v, want 2", i, ts)
		}
		pair[1].mustSee(t, "patch")
		if diff, _ := pair[1].mustSync(t, 0); len(diff) != 2 {
			t.Errorf("room %d holds %s", i, compact(diff))
		}
	}
}

// On the published server a roomId with ../ leaves the data folder.
func TestBetterRoomIDsStayInTheDataFolder(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	dir := filepath.Join(outer, "deep", "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ids := []string{
		"../escaped", "../../escaped", "..", ".", "/", "/etc/weft-test", "a/b", "a%2Fb", "a\\b", "%2e%2e%2fx",
		".hidden", "nul\x00byte", "new\nline", "sp ace", "ünï😀", "CON", "x.json", "~", "*?<>|:\"", strings.Repeat("long", 200),
	}
	s := startWeft(t, dir)
	for i, id := range ids {
		c := join(t, s, id, "c")
		c.mustPatch(t, "m", fmt.Sprintf(`[{"mark/A":{"_exists":true,"is":%d}}]`, i))
	}
	s.stop(t)

	var files int
	err := filepath.WalkDir(outer, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return nil
		}
		if filepath.Dir(path) != dir {
			t.Errorf("%s is outside of the data folder", path)
		}
		if filepath.Ext(path) == ".json" {
			files++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files != len(ids) {
		t.Errorf("%d rooms have %d files", len(ids), files)
	}
	if _, err := os.Stat("/etc/weft-test.json"); err == nil {
		t.Error("a room was written to /etc")
	}

	s = startWeft(t, dir)
	for i, id := range ids {
		diff, _ := join(t, s, id, "c").mustSync(t, 0)
		mark, _ := diff["mark/A"].(map[string]any)
		if len(diff) != 1 || mark["is"] != float64(i) {
			t.Errorf("room %q holds %s after the restart, not its own mark %d", id, compact(diff), i)
		}
	}
}

// On the published server an unreadable snapshot silently becomes an empty room and is overwritten.
func TestBetterUnreadableSnapshotIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := map[string]string{
		"empty":      ``,
		"cut":        `{"timestamp":3,"state":{"a/A":{"_exists":true,"x":1`,
		"garbage":    "\x00\x01\x02 not json",
		"a-list":     `[]`,
		"null":       `null`,
		"no-numbers": `{"timestamp":"3","state":{},"timestamps":{}}`,
		"no-objects": `{"timestamp":3,"state":{"a/A":7},"timestamps":{}}`,
	}
	for room, text := range bad {
		if err := os.WriteFile(filepath.Join(dir, room+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startWeft(t, dir)
	for room := range bad {
		c := mustDial(t, s.url(room, "c", token(room, true, time.Hour)))
		c.send(`{"type":"patch","messageId":"m","documentPatches":[{"b/B":{"_exists":true}}]}`)
		why := c.mustEnd(t)
		if why.code < 1008 || !strings.Contains(why.reason, "room") || !strings.Contains(why.reason, "unreadable") {
			t.Errorf("%s: %v does not say that the room is unreadable", room, &why)
		}
		if frames, _ := c.take(); countKind(frames, "ack") > 0 {
			t.Errorf("%s: the patch was acked", room)
		}
	}
	join(t, s, "fine", "c").mustPatch(t, "m", `[{"b/B":{"_exists":true}}]`)
	for room := range bad { // again: the refusal lasts
		if why := mustDial(t, s.url(room, "c", token(room, true, time.Hour))).mustEnd(t); !strings.Contains(why.reason, "unreadable") {
			t.Errorf("%s: the second time %v", room, &why)
		}
	}
	s.stop(t)
	for room, text := range bad {
		if got := roomFile(t, dir, room); !bytes.Equal(got, []byte(text)) {
			t.Errorf("%s was changed to %q", room, got)
		}
	}
	if roomFile(t, dir, "fine") == nil {
		t.Error("the other room was not saved")
	}
}

// On the published server a failed save is swallowed.
func TestBetterFailedSaveIsShownAndRepaired(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := startWeft(t, dir)
	c := join(t, s, "r", "c")
	c.mustPatch(t, "before", `[{"a/A":{"_exists":true,"n":1}}]`)
	waitFor(t, "the first save", func() bool { return bytes.Contains(roomFile(t, dir, "r"), []byte(`"n":1`)) })
	if n := s.metric(t, "weft_room_save_failures_total"); n != 0 {
		t.Errorf("%v saves failed before anything was wrong", n)
	}

	// A file in place of the folder stops even root from writing there.
	if err := os.Rename(dir, dir+".aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.mustPatch(t, "during", `[{"a/A":{"n":2}}]`)
	waitFor(t, "/readyz to show the failure", func() bool {
		code, text, err := get(s.admin + "/readyz")
		return err == nil && code == 503 && strings.Contains(text, "not saved") && strings.Contains(text, `"r"`)
	})
	if code, _, err := get(s.admin + "/livez"); code != 200 {
		t.Errorf("/livez says %d (%v): a full disk must not get the process killed", code, err)
	}
	if n := s.metric(t, "weft_room_save_failures_total"); n < 1 {
		t.Errorf("weft_room_save_failures_total is %v", n)
	}
	if n := s.metric(t, "weft_rooms_unsaved"); n != 1 {
		t.Errorf("weft_rooms_unsaved is %v while one room is", n)
	}
	// Meanwhile the room works.
	c.mustPatch(t, "still", `[{"a/A":{"n":3}}]`)

	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".aside", dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the save to be made up for", func() bool { return bytes.Contains(roomFile(t, dir, "r"), []byte(`"n":3`)) })
	awaitReady(t, s)
	if n := s.metric(t, "weft_rooms_unsaved"); n != 0 {
		t.Errorf("weft_rooms_unsaved is %v although all is saved", n)
	}
	c.mustPatch(t, "after", `[{"a/A":{"n":4}}]`)
	waitFor(t, "saves to go on", func() bool { return bytes.Contains(roomFile(t, dir, "r"), []byte(`"n":4`)) })
}

// The published server's data folder opens as it is, and the other way round.
func TestDataFolderMovesBothWays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const room = "moving"
	s := startPublished(t, dir)
	c := join(t, s, room, "c")
	c.mustPatch(t, "1", `[{"a/A":{"_exists":true,"x":[1,"ü\ud800",{"y":null}],"z":-1.5e-7},"b/B":{"_exists":true}}]`)
	c.mustPatch(t, "2", `[{"b/B":{"_exists":false},"a/A":{"w":2}}]`)
	want, wantTS := c.mustSync(t, -1)
	for i, start := range []func() *server{
		func() *server { return startWeft(t, dir) },
		func() *server { return startPublished(t, dir) },
		func() *server { return startWeft(t, dir) },
	} {
		s.stop(t)
		s = start()
		c := join(t, s, room, "c")
		if got, ts := c.mustSync(t, -1); !sameJS(got, want) || ts != wantTS {
			t.Fatalf("move %d: the room holds %s at %v, want %s at %v", i, compact(got), ts, compact(want), wantTS)
		}
		c.mustPatch(t, "more", fmt.Sprintf(`[{"move-%d/A":{"_exists":true,"by":%q}}]`, i, s.name))
		want, wantTS = c.mustSync(t, -1)
	}
}

// The published server gives out timestamps again that it has forgotten: a client that had seen the
// forgotten ones, and comes back when the room has as many again, misses what they stand for now.
func TestBetterForgottenTimestampsAreNotGivenOutAgain(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t))
	ann := join(t, s, "r", "ann")
	for i := range 3 {
		ann.mustPatch(t, "m", fmt.Sprintf(`[{"old%d/A":{"_exists":true}}]`, i))
	}
	asked := func(c *wsClient, last int) (diff map[string]any, resync bool) {
		t.Helper()
		c.mustSettle(t)
		c.send(fmt.Sprintf(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":%d}`, last))
		for _, f := range c.mustSettle(t) {
			switch {
			case f.kind() == "resync":
				resync = true
				if f.value["since"] != 3.0 {
					t.Errorf("after %d everything is asked for since %v", last, f.value["since"])
				}
			case f.kind() == "patch" && f.value["documentPatches"] != nil:
				diff = f.value["documentPatches"].([]any)[0].(map[string]any)
			}
		}
		return diff, resync
	}
	if diff, resync := asked(ann, 5); !resync || len(diff) != 0 {
		t.Errorf("ann, who has seen 5, is asked: %v; and gets %s", resync, compact(diff))
	}
	for i := range 3 {
		if ts := ann.mustPatch(t, "m", fmt.Sprintf(`[{"new%d/A":{"_exists":true}}]`, i)); ts <= 5 {
			t.Errorf("timestamp %v is given out again", ts)
		}
	}
	for range 2 {
		for _, last := range []int{4, 5} {
			if diff, resync := asked(join(t, s, "r", "bob"), last); !resync || len(diff) != 3 {
				t.Errorf("bob, who has seen %d, is asked: %v; and gets %s", last, resync, compact(diff))
			}
		}
		if diff, resync := asked(join(t, s, "r", "cem"), 3); resync || len(diff) != 3 {
			t.Errorf("cem, who has seen 3, is asked: %v; and gets %s", resync, compact(diff))
		}
		s.stop(t) // and the room remembers
		s = startNodes(t, s.data)
	}
}

// The same if nobody says what was forgotten before others go on: after a crash a room that was not
// saved since knows by itself.
func TestBetterNothingIsGivenOutAgainAfterACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startWeft(t, dir)
	see := func(c *wsClient, from, to int) {
		for i := from; i <= to; i++ {
			c.mustPatch(t, fmt.Sprintf("m%d", i), fmt.Sprintf(`[{"k%d/A":{"_exists":true}}]`, i))
		}
	}
	join := func(client string) *wsClient {
		return mustDial(t, s.url("r", client, token("r", true, time.Hour)))
	}
	see(join("ann"), 1, 3)
	s.stop(t)
	s = startWeft(t, dir, "--save-interval", "1h")
	see(join("ann"), 4, 5)
	s.kill()
	s = startWeft(t, dir)
	if diff, at := join("new").mustSync(t, 0); len(diff) != 3 || at != 3 {
		t.Fatalf("the room is at %v with %s", at, compact(diff))
	}
	see(join("cem"), 6, 8) // as many as were lost, and more
	ann := join("ann")
	ann.send(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":5}`)
	if since := ann.mustSee(t, "resync").value["since"]; since != 3.0 {
		t.Errorf("ann is asked for what came after %v", since)
	}
	diff := ann.mustSeeWhere(t, "the diff", func(f frame) bool { return f.value["documentPatches"] != nil })
	if patch := diff.value["documentPatches"].([]any)[0].(map[string]any); len(patch) != 3 {
		t.Errorf("ann gets %s", compact(patch))
	}
	s.stop(t)

	// Now it is saved, and a clean stop is no crash.
	s = startWeft(t, dir)
	cem := join("cem")
	_, before := cem.mustSync(t, 0)
	if after := cem.mustPatch(t, "m", `[{"k9/A":{"_exists":true}}]`); after != before+1 {
		t.Errorf("after %v comes %v", before, after)
	}
}
