package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// join connects a writer to a room and waits until it is in.
func join(t testing.TB, s endpoint, room, client string) *wsClient {
	t.Helper()
	c := mustDial(t, s.url(room, client, token(room, true, time.Hour)))
	c.mustSee(t, "clientCount")
	return c
}

// awaitCount waits for the frame that tells how many clients are in the room.
func (c *wsClient) awaitCount(t testing.TB, n int) {
	t.Helper()
	c.mustSeeWhere(t, fmt.Sprintf("clientCount %d", n), func(f frame) bool {
		return f.kind() == "clientCount" && f.value["count"] == float64(n)
	})
}

// On the published server such a frame ends the whole process. Weft closes the socket it came from,
// says where the fault is, and nobody else notices.
func TestBetterMalformedMessageClosesOnlyItsSocket(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t), "--max-buffer-length", "1000")
	delta := func(d string) string {
		return `{"type":"patch","messageId":"m","documentPatches":[{"k/Pen":{"_exists":true,"pts":` + d + `}}]}`
	}
	cases := []struct{ name, frame, place string }{
		{"null", `null`, "null"},
		{"null patch", `{"type":"patch","messageId":"m","documentPatches":[null]}`, "documentPatches[0]"},
		{"number as patch", `{"type":"patch","messageId":"m","documentPatches":[1]}`, "documentPatches[0]"},
		{"text as patch", `{"type":"patch","messageId":"m","documentPatches":["x"]}`, "documentPatches[0]"},
		{"list as patch", `{"type":"patch","messageId":"m","documentPatches":[[]]}`, "documentPatches[0]"},
		{"good patch, then null", `{"type":"patch","messageId":"m","documentPatches":[{"k/A":{"_exists":true}},null]}`, "documentPatches[1]"},
		{"object as list", `{"type":"patch","messageId":"m","documentPatches":{}}`, "documentPatches"},
		{"text as list", `{"type":"patch","messageId":"m","documentPatches":"x"}`, "documentPatches"},
		{"number as list", `{"type":"patch","messageId":"m","documentPatches":7}`, "documentPatches"},
		{"true as list", `{"type":"patch","messageId":"m","ephemeralPatches":true}`, "ephemeralPatches"},
		{"null component", `{"type":"patch","messageId":"m","documentPatches":[{"k/A":null}]}`, `documentPatches[0]["k/A"]`},
		{"number as component", `{"type":"patch","messageId":"m","documentPatches":[{"k/A":5}]}`, `documentPatches[0]["k/A"]`},
		{"text as component", `{"type":"patch","messageId":"m","ephemeralPatches":[{"k/A":"x"}]}`, `ephemeralPatches[0]["k/A"]`},
		{"list as component", `{"type":"patch","messageId":"m","documentPatches":[{"k/A":[]}]}`, `documentPatches[0]["k/A"]`},
		{"null presence", `{"type":"patch","messageId":"m","documentPatches":[{}],"ephemeralPatches":[null]}`, "ephemeralPatches[0]"},
		{"in a reconnect", `{"type":"reconnect","protocolVersion":2,"lastTimestamp":0,"documentPatches":[null]}`, "documentPatches[0]"},
		{"text as timestamp", `{"type":"reconnect","protocolVersion":2,"lastTimestamp":"x"}`, "lastTimestamp"},
		{"text as version", `{"type":"reconnect","protocolVersion":"2","lastTimestamp":0}`, "protocolVersion"},
		{"number as messageId", `{"type":"patch","messageId":5,"documentPatches":[{}]}`, "messageId"},
		{"number as token", `{"type":"auth-refresh","token":5}`, "token"},
		{"delta too long", delta(`{"__buf":1,"len":500000000,"runs":[]}`), `documentPatches[0]["k/Pen"]`},
		{"delta a bit too long", delta(`{"__buf":1,"len":1001,"runs":[]}`), `documentPatches[0]["k/Pen"]`},
		{"delta of negative length", delta(`{"__buf":1,"len":-1,"runs":[]}`), `documentPatches[0]["k/Pen"]`},
		{"delta of broken length", delta(`{"__buf":1,"len":1.5,"runs":[]}`), `documentPatches[0]["k/Pen"]`},
		{"delta without length", delta(`{"__buf":1,"runs":[]}`), `documentPatches[0]["k/Pen"]`},
		{"delta without runs", delta(`{"__buf":1,"len":3}`), `documentPatches[0]["k/Pen"]`},
		{"delta whose runs are none", delta(`{"__buf":1,"len":3,"runs":[7]}`), `documentPatches[0]["k/Pen"]`},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			room := fmt.Sprintf("malformed-%d", i)
			neighbour := join(t, s, room, "neighbour")
			offender := join(t, s, room, "offender")
			neighbour.awaitCount(t, 2)

			offender.send(c.frame)
			why := offender.mustEnd(t)
			if why.code != 1008 || !strings.Contains(why.reason, c.place) {
				t.Errorf("%v; it should be 1008 and name %s", &why, c.place)
			}
			neighbour.awaitCount(t, 1)
			if frames := neighbour.mustSettle(t); len(frames) > 0 {
				t.Errorf("the neighbour got %v", texts(frames))
			}
			// Nothing of the frame was applied, not even what came before its fault.
			if ts := neighbour.mustPatch(t, "after", `[{"n/A":{"_exists":true}}]`); ts != 1 {
				t.Errorf("the neighbour's patch is number %v of the room", ts)
			}
			diff, _ := neighbour.mustSync(t, 0)
			if len(diff) != 1 {
				t.Errorf("the room holds %s", compact(diff))
			}
		})
	}
}

func TestBetterLongestDeltaIsStillTaken(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t), "--max-buffer-length", "1000")
	c := join(t, s, "longest", "c")
	c.mustPatch(t, "m", `[{"k/Pen":{"_exists":true,"pts":{"__buf":1,"len":1000,"runs":[[999,[7]]]}}}]`)
	diff, _ := c.mustSync(t, 0)
	pts, _ := diff["k/Pen"].(map[string]any)["pts"].([]any)
	if len(pts) != 1000 || pts[998] != float64(0) || pts[999] != float64(7) {
		t.Errorf("the buffer is %s", compact(pts))
	}
}
