package wsconn_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

func closeBody(code int, reason string) string {
	return string(ws.NewCloseFrameBody(ws.StatusCode(code), reason))
}

func TestPeerCloses(t *testing.T) {
	for name, c := range map[string]struct{ body, answer string }{
		"without a code":     {"", ""},
		"normal":             {closeBody(1000, ""), closeBody(1000, "")},
		"with a reason":      {closeBody(1001, "going"), closeBody(1001, "")},
		"restart":            {closeBody(1012, ""), closeBody(1012, "")},
		"try later":          {closeBody(1013, ""), closeBody(1013, "")},
		"registered":         {closeBody(3000, ""), closeBody(3000, "")},
		"private":            {closeBody(4999, "x"), closeBody(4999, "")},
		"one byte":           {"\x03", closeBody(1002, "close code is not valid")},
		"code 0":             {closeBody(0, ""), closeBody(1002, "close code is not valid")},
		"code 999":           {closeBody(999, ""), closeBody(1002, "close code is not valid")},
		"code 1004":          {closeBody(1004, ""), closeBody(1002, "close code is not valid")},
		"code 1005":          {closeBody(1005, ""), closeBody(1002, "close code is not valid")},
		"code 1006":          {closeBody(1006, ""), closeBody(1002, "close code is not valid")},
		"code 1015":          {closeBody(1015, ""), closeBody(1002, "close code is not valid")},
		"code 1016":          {closeBody(1016, ""), closeBody(1002, "close code is not valid")},
		"code 2999":          {closeBody(2999, ""), closeBody(1002, "close code is not valid")},
		"code 5000":          {closeBody(5000, ""), closeBody(1002, "close code is not valid")},
		"reason not in UTF8": {closeBody(1000, "\xff"), closeBody(1007, "text is not UTF-8")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, g := meet(t, wsconn.Config{})
				began := time.Now()
				client.raw(frame(ws.OpText, true, "last words"))
				client.raw(frame(ws.OpClose, true, c.body))
				client.expectFrame(ws.OpClose, c.answer)
				client.expectEnd()
				g.expect(t, "last words")
				next(t, g.left)
				if took := time.Since(began); took > 0 {
					t.Errorf("the end took %v", took)
				}
			})
		})
	}
}

// What was sent before the close arrives before it.
func TestServerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, g := meet(t, wsconn.Config{})
		g.send("one")
		g.send("two")
		g.Socket.Close(protocol.CloseNormal)
		g.Socket.Close(protocol.CloseRestart) // too late
		g.send("three")
		synctest.Wait()
		next(t, g.left) // though the peer has read nothing yet
		client.expect("one", "two")
		client.expectFrame(ws.OpClose, closeBody(1000, "closed by the server"))
		client.raw(frame(ws.OpClose, true, closeBody(1000, "")))
		client.expectEnd()
	})
}

// A peer that does not answer a close frame has five seconds.
func TestServerClosesUnanswered(t *testing.T) {
	for name, chatter := range map[string][]byte{"silent": nil, "talking": frame(ws.OpText, true, "still here")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, g := meet(t, wsconn.Config{})
				g.Socket.Close(protocol.CloseNormal)
				client.expectFrame(ws.OpClose, closeBody(1000, "closed by the server"))
				began := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					for len(chatter) > 0 {
						if _, err := client.Write(chatter); err != nil {
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				}()
				if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("read %d, %v", n, err)
				}
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("the end took %v", took)
				}
				<-done
			})
		})
	}
}

// A close frame has room for 123 bytes of UTF-8, whatever the application says.
func TestReasonIsCut(t *testing.T) {
	for _, reason := range []string{strings.Repeat("long ", 30), strings.Repeat("é", 100), "not \xff UTF-8"} {
		client, g := meet(t, wsconn.Config{})
		g.Socket.Close(protocol.Close{Code: 4000, Reason: reason})
		code, told, err := client.closeReason()
		if err != nil || code != 4000 {
			t.Fatalf("close %d, %v", code, err)
		}
		if len(told) < 9 || len(told) > 123 || !utf8.ValidString(told) || told[:4] != strings.ToValidUTF8(reason, "")[:4] {
			t.Errorf("told %q", told)
		}
	}
}

// A peer that goes without a word leaves its room.
func TestPeerVanishes(t *testing.T) {
	client, g := meet(t, wsconn.Config{})
	client.raw(frame(ws.OpText, true, "whole"))
	client.raw(frame(ws.OpText, true, "in half")[:9])
	client.Conn.Close()
	g.expect(t, "whole")
	next(t, g.left)
	if len(g.got) > 0 {
		t.Errorf("the session got %q", <-g.got)
	}
	g.send("to nobody")
}
