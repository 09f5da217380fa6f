package wsconn_test

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/wsconn"
)

// BenchmarkIdleConnections reports what an idle connection costs this process:
// heap and stacks, without what the kernel holds and, as near as may be,
// without the client's end, which is a bare socket here. Every client has
// joined a room of ten and said hello, as the published client does.
func BenchmarkIdleConnections(b *testing.B) {
	for _, n := range []int{2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(idleBytes(b, n), "B/conn")
			}
		})
	}
}

func idleBytes(b *testing.B, n int) float64 {
	manager := newManager(b, room.Config{})
	server := newServer(b, wsconn.Config{Rooms: manager, Logger: slog.New(slog.DiscardHandler)})
	url := listen(b, server)
	clients := make([]*client, n)
	before := settled()
	for i := range clients {
		c := dial(b, fmt.Sprintf("%s/?roomId=%d&clientId=%d&token=t", url, i/10, i))
		c.send(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
		for synced := false; !synced; {
			text, err := c.read()
			if err != nil {
				b.Fatal(err)
			}
			synced = text == `{"type":"synced","timestamp":0}`
		}
		c.reader = nil // its buffer is not the server's
		clients[i] = c
	}
	time.Sleep(3 * time.Second) // so that every socket has been quiet for a while
	after := settled()
	if got := server.Connections(); got != n {
		b.Fatalf("%d connections", got)
	}
	for _, c := range clients {
		_, _ = c.Conn.Write(frame(ws.OpClose, true, ""))
		_, _ = io.Copy(io.Discard, c.Conn)
		c.Conn.Close()
	}
	return float64(after-before) / float64(n)
}

// settled is the memory in use once there is nothing left to collect.
func settled() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
