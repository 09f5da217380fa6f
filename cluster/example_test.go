package cluster_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// A node of a cluster within another server: it takes the place of the room
// manager.
func ExampleJoin() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	redis, err := cluster.ParseRedisURL("redis://redis.internal:6379")
	if err != nil {
		slog.Error("the address of Redis is wrong", "error", err)
		return
	}
	node, err := cluster.Join(ctx, cluster.Config{
		Redis:  redis,
		Join:   []string{"weft.internal:7946"}, // a name that stands for all nodes
		Logger: slog.Default(),
	})
	if err != nil {
		slog.Error("this node cannot join", "error", err)
		return
	}
	sockets, err := wsconn.NewServer(wsconn.Config{Rooms: node, Authorizer: authz.Insecure{}})
	if err != nil {
		slog.Error("sockets cannot be served", "error", err)
		return
	}
	server := &http.Server{Addr: ":8080", Handler: sockets}
	go func() { _ = server.ListenAndServe() }()

	<-ctx.Done()
	// The others take the rooms over first, and then the clients.
	leaving, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	_ = server.Shutdown(leaving)
	if err := node.Leave(leaving, protocol.CloseRestart); err != nil {
		slog.Warn("the other nodes need some seconds to take over", "error", err)
	}
	_ = sockets.Shutdown(leaving, protocol.CloseRestart)
}

// Sessions can be listed and changed from any node of the cluster.
func ExampleNode_SetPermission() {
	var node *cluster.Node // from Join

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	sessions, err := node.Sessions(ctx, "board-7")
	if err != nil {
		return
	}
	for _, s := range sessions {
		_ = node.SetPermission(ctx, "board-7", s.ID, room.ReadOnly)
	}
}
