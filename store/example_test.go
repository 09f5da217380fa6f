package store_test

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
)

// texts is a custom storage: any place that keeps text by a key will do.
type texts struct{ byRoom sync.Map }

func (s *texts) Load(ctx context.Context, id string) (*room.Snapshot, error) {
	text, ok := s.byRoom.Load(id)
	if !ok {
		return nil, ctx.Err() // no such room
	}
	return room.ParseSnapshot(text.([]byte))
}

func (s *texts) Save(ctx context.Context, id string, snapshot *room.Snapshot) error {
	text, err := snapshot.MarshalJSON()
	if err == nil {
		s.byRoom.Store(id, text)
	}
	return err
}

// quiet is a socket that nobody listens to.
type quiet struct{}

func (quiet) Send(protocol.Frame)  {}
func (quiet) Close(protocol.Close) {}

func Example_custom() {
	storage := new(texts)
	rooms := room.NewManager(room.Config{Storage: storage})

	session, err := rooms.Connect(context.Background(), "atelier", room.ConnectOptions{
		Socket: quiet{}, Client: "ada", Grant: room.Grant{Permission: room.ReadWrite},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	session.Receive([]byte(`{"type":"patch","messageId":"1","documentPatches":[{"1/Block":{"_exists":true,"x":7}}]}`))

	// Closing the rooms saves them.
	if err := rooms.CloseAll(context.Background(), protocol.CloseRestart); err != nil {
		fmt.Println(err)
	}
	for id, text := range maps.Collect(storage.byRoom.Range) {
		fmt.Printf("%s: %s\n", id, text)
	}
	// Output:
	// atelier: {"timestamp":1,"state":{"1/Block":{"_exists":true,"x":7}},"timestamps":{"1/Block":{"_exists":1,"x":1}}}
}
