package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const cursor = `{"type":"patch","messageId":"cursor","ephemeralPatches":[{"me/Cursor":{"_exists":true,"x":%d}}]}`

// On the published server a late close of a client's old socket deletes the presence of its new one.
func TestBetterLateCloseKeepsPresence(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t))
	for _, how := range []string{"goodbye", "cut"} {
		room := "late-close-" + how
		watcher := join(t, s, room, "watcher")
		old := join(t, s, room, "ann")
		old.send(fmt.Sprintf(cursor, 1))
		watcher.mustSee(t, "patch")
		fresh := join(t, s, room, "ann")
		fresh.send(fmt.Sprintf(cursor, 2))
		watcher.mustSee(t, "patch")

		if how == "cut" {
			old.drop()
		} else {
			old.leave()
		}
		watcher.awaitCount(t, 2)
		if frames := watcher.mustSettle(t); len(frames) > 0 {
			t.Errorf("%s: after the old socket's close the watcher got %v", how, texts(frames))
		}
		late := join(t, s, room, "late")
		late.send(`{"type":"reconnect","protocolVersion":2,"lastTimestamp":0}`)
		seen := late.mustSee(t, "patch")
		if got := compact(seen.value["ephemeralPatches"]); got != `[{"me/Cursor":{"_exists":true,"x":2}}]` {
			t.Errorf("%s: who comes later sees the presence %s", how, got)
		}

		watcher.awaitCount(t, 3)
		fresh.leave()
		gone := watcher.mustSee(t, "patch")
		if got := compact(gone.value["ephemeralPatches"]); gone.value["clientId"] != "ann" || got != `[{"me/Cursor":{"_exists":false}}]` {
			t.Errorf("%s: after the last close: %s", how, gone.text)
		}
		watcher.awaitCount(t, 2)
	}
}

// On the published server half-open sockets stay for ever.
func TestBetterHalfOpenSocketIsDropped(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t), "--ping-interval", "100ms", "--pong-timeout", "300ms")
	const room = "half-open"
	watcher := join(t, s, room, "watcher")
	deaf := rawDial(t, s.url(room, "deaf", token(room, true, time.Hour)), fmt.Sprintf(cursor, 1))
	watcher.awaitCount(t, 2)
	gone := watcher.mustSeeWhere(t, "the end of its presence", func(f frame) bool {
		return f.kind() == "patch" && strings.Contains(f.text, `"_exists":false`)
	})
	if gone.value["clientId"] != "deaf" {
		t.Errorf("gone: %s", gone.text)
	}
	watcher.awaitCount(t, 1)
	deaf.upgraded(t)
	if _, why := deaf.closing(t); why.code != 1001 {
		t.Errorf("the deaf one was told %v", &why)
	}
	// The watcher, which answers pings, has outlived several of them.
	if _, closed := watcher.take(); closed != nil {
		t.Errorf("the watcher was closed too: %v", closed)
	}
	watcher.mustPatch(t, "alive", `[{}]`)
}

// On the published server a slow socket's queue grows without bound.
func TestBetterSlowConsumerIsClosedAlone(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t), "--max-queue-bytes", "256KiB")
	const room = "slow"
	writer := join(t, s, room, "writer")
	fast := join(t, s, room, "fast")
	slow := rawDial(t, s.url(room, "slow", token(room, true, time.Hour)))
	fast.awaitCount(t, 3)
	writer.awaitCount(t, 3)

	// Until the kernel's buffers and the queue are full.
	text := strings.Repeat("x", 32<<10)
	sent := 0
	for dropped := false; !dropped; {
		if sent++; sent > 2000 {
			t.Fatalf("after %d MiB the slow one is still there", sent*len(text)>>20)
		}
		ts := writer.mustPatch(t, fmt.Sprint(sent), fmt.Sprintf(`[{"k/A":{"_exists":true,"n":%d,"text":%q}}]`, sent, text))
		fast.mustSeeWhere(t, "the patch", func(f frame) bool {
			dropped = dropped || f.kind() == "clientCount"
			return f.kind() == "patch" && f.value["timestamp"] == ts
		})
	}
	if n := s.metric(t, `weft_closes_total{reason="slow_consumer"}`); n != 1 {
		t.Errorf("the metric counts %v slow consumers", n)
	}
	// All that was sent before is delivered when it reads again, then the reason, in order.
	slow.upgraded(t)
	got, why := slow.closing(t)
	if why.code != 1013 || why.reason != "slow consumer" {
		t.Errorf("the slow one was told %v", &why)
	}
	if got > sent {
		t.Errorf("the slow one got %d frames of %d", got, sent)
	}
	// It comes back and gets what it missed.
	back := join(t, s, room, "slow")
	if diff, ts := back.mustSync(t, 0); ts != float64(sent) || diff["k/A"].(map[string]any)["n"] != float64(sent) {
		t.Errorf("back again it got timestamp %v of %d", ts, sent)
	}
}
