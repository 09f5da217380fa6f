package room_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/store"
)

// printSocket stands for a client in these examples: it prints what the client
// would get. A real one queues the message and returns at once.
type printSocket string

func (name printSocket) Send(f protocol.Frame) { fmt.Printf("to %s: %s\n", name, f.Text()) }
func (name printSocket) Close(c protocol.Close) {
	fmt.Printf("close %s: %d %s\n", name, c.Code, c.Reason)
}

// quietSocket is a client of whom nothing is shown.
type quietSocket struct{}

func (quietSocket) Send(protocol.Frame)  {}
func (quietSocket) Close(protocol.Close) {}

// connect adds a session that may write, of a client of whom nothing is shown.
func connect(rooms *room.Manager, id, client string) room.Session {
	session, err := rooms.Connect(context.Background(), id, room.ConnectOptions{
		Socket: quietSocket{}, Client: client, Grant: room.Grant{Permission: room.ReadWrite},
	})
	if err != nil {
		log.Fatal(err)
	}
	return session
}

// open returns a room, which is loaded if need be.
func open(rooms *room.Manager, id string) *room.Room {
	r, err := rooms.Room(context.Background(), id)
	if err != nil {
		log.Fatal(err)
	}
	return r
}

const drawBlock = `{"type":"patch","messageId":"1","documentPatches":[{"a/Block":{"_exists":true,"x":3}}]}`

// The low-level path: read the URL, authorize, connect, and pass on messages
// and the end by hand. Package wsconn does all this for WebSockets; this is
// for those who have another transport, or their own ideas.
func ExampleRoom_Connect() {
	ctx := context.Background()
	rooms := room.NewManager(room.Config{})

	// A client comes.
	u, err := url.Parse("/canvas/sketch?user=ada&key=open-sesame")
	if err != nil || u.Query().Get("key") != "open-sesame" {
		log.Fatal("go away")
	}
	socket := printSocket(u.Query().Get("user"))
	r, err := rooms.Room(ctx, filepath.Base(u.Path))
	if err != nil {
		log.Fatal(err)
	}
	session, err := r.Connect(room.ConnectOptions{
		Socket: socket,
		Client: u.Query().Get("user"),
		Grant:  room.Grant{Permission: room.ReadWrite},
	})
	if err != nil {
		log.Fatal(err) // room.ErrFull, or room.ErrClosed: ask the manager again
	}

	// It sends messages. One of the wrong shape closes its socket.
	session.Receive([]byte(`{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`))
	session.Receive([]byte(drawBlock))
	session.Receive([]byte(`{"type":"patch","documentPatches":[null]}`))

	// Its socket has closed, or failed.
	session.Leave()
	fmt.Println(r.SessionCount(), "sessions,", r.Snapshot().Len(), "key")
	// Output:
	// to ada: {"type":"clientCount","count":1}
	// to ada: {"type":"synced","timestamp":0}
	// to ada: {"type":"ack","messageId":"1","timestamp":1}
	// close ada: 1008 documentPatches[0] must be an object
	// 0 sessions, 1 key
}

// A manager loads a room when it is asked for, once however many ask, and lets
// go of it when nobody has been there for a while.
func ExampleManager() {
	rooms := room.NewManager(room.Config{
		Storage:     &store.Memory{},
		IdleTimeout: 10 * time.Millisecond,
	})
	session := connect(rooms, "sketch", "ada")
	session.Receive([]byte(drawBlock))
	fmt.Println("in memory:", rooms.RoomIDs())

	session.Leave()
	for len(rooms.RoomIDs()) > 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("in memory:", rooms.RoomIDs())
	fmt.Println("loaded:", open(rooms, "sketch").Snapshot().Timestamp(), "change")
	// Output:
	// in memory: [sketch]
	// in memory: []
	// loaded: 1 change
}

// twoStorages is a [room.Storage] of one's own: it reads what an older one has
// and writes to a newer one.
type twoStorages struct{ older, newer room.Storage }

func (s twoStorages) Load(ctx context.Context, id string) (*room.Snapshot, error) {
	snapshot, err := s.newer.Load(ctx, id)
	if snapshot == nil && err == nil { // there is no such room yet
		return s.older.Load(ctx, id)
	}
	return snapshot, err // an error keeps the room from opening, and what is stored as it is
}

func (s twoStorages) Save(ctx context.Context, id string, snapshot *room.Snapshot) error {
	return s.newer.Save(ctx, id, snapshot)
}

// Rooms are kept by a Memory, a File, or any type with Load and Save.
func ExampleStorage() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	files, err := store.NewFile(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()

	memory := &store.Memory{}
	for _, storage := range []room.Storage{memory, files, twoStorages{older: memory, newer: files}} {
		rooms := room.NewManager(room.Config{Storage: storage})
		connect(rooms, "sketch", "ada").Receive([]byte(drawBlock))
		if err := rooms.CloseAll(ctx, protocol.CloseRestart); err != nil {
			log.Fatal(err)
		}
		saved, err := storage.Load(ctx, "sketch")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%T: %d\n", storage, saved.Timestamp())
	}
	text, err := os.ReadFile(filepath.Join(dir, "sketch.json"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
	// Output:
	// *store.Memory: 1
	// *store.File: 1
	// room_test.twoStorages: 2
	// {"timestamp":2,"state":{"a/Block":{"_exists":true,"x":3}},"timestamps":{"a/Block":{"_exists":2,"x":2}}}
}

// What a session may do can be changed at any time, from its next message on.
// A reader's edits are acknowledged and not applied.
func ExampleRoom_SetPermission() {
	rooms := room.NewManager(room.Config{})
	session := connect(rooms, "sketch", "ada")
	r := open(rooms, "sketch")

	if err := r.SetPermission(session.ID(), room.ReadOnly); err != nil {
		log.Fatal(err)
	}
	session.Receive([]byte(drawBlock))
	info, err := r.Session(session.ID())
	fmt.Println(info.Permission, err, "-", r.Snapshot().Len(), "keys")

	if err := r.SetPermission(session.ID(), room.ReadWrite); err != nil {
		log.Fatal(err)
	}
	session.Receive([]byte(drawBlock))
	fmt.Println(r.Snapshot().Len(), "key")

	session.Leave()
	fmt.Println(errors.Is(r.SetPermission(session.ID(), room.ReadOnly), room.ErrNoSession))
	// Output:
	// readonly <nil> - 0 keys
	// 1 key
	// true
}

// A session carries metadata, JSON of the application's own: from its grant,
// set by hand, or replaced on a refresh whose grant has some.
func ExampleRoom_SetMetadata() {
	rooms := room.NewManager(room.Config{
		OnTokenRefresh: func(r room.TokenRefresh) (room.Grant, error) {
			return room.Grant{Permission: room.ReadWrite, Metadata: json.RawMessage(`{"name":"Countess"}`)}, nil
		},
	})
	session, err := rooms.Connect(context.Background(), "sketch", room.ConnectOptions{
		Socket: quietSocket{},
		Client: "c1",
		Grant:  room.Grant{Permission: room.ReadWrite, Metadata: json.RawMessage(`{"name":"Ada"}`)},
	})
	if err != nil {
		log.Fatal(err)
	}
	r := open(rooms, "sketch")
	show := func() {
		info, err := session.Info()
		fmt.Println(string(info.Metadata), err)
	}
	show()

	if err := r.SetMetadata(session.ID(), json.RawMessage(`{"name":"Ada","color":"red"}`)); err != nil {
		log.Fatal(err)
	}
	show()

	session.Receive([]byte(`{"type":"auth-refresh","token":"newer"}`))
	for info, _ := session.Info(); strings.Contains(string(info.Metadata), "Ada"); info, _ = session.Info() {
		time.Sleep(time.Millisecond) // the authorizer may take its time
	}
	show()
	// Output:
	// {"name":"Ada"} <nil>
	// {"name":"Ada","color":"red"} <nil>
	// {"name":"Countess"} <nil>
}

// Sessions come in the order in which they joined. One client may have many.
func ExampleRoom_Sessions() {
	rooms := room.NewManager(room.Config{})
	connect(rooms, "sketch", "ada")
	bob := connect(rooms, "sketch", "bob")
	connect(rooms, "sketch", "ada")
	connect(rooms, "diary", "ada")

	r := open(rooms, "sketch")
	if err := r.SetPermission(bob.ID(), room.ReadOnly); err != nil {
		log.Fatal(err)
	}
	for _, s := range r.Sessions() {
		fmt.Println(s.Client, s.Permission)
	}
	if err := r.Disconnect(bob.ID(), protocol.CloseNormal); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.SessionCount(), "of", rooms.Stats().Sessions, "sessions are in", r.ID())
	// Output:
	// ada readwrite
	// bob readonly
	// ada readwrite
	// 2 of 3 sessions are in sketch
}

// The application is called back, one call at a time for each room, when a
// document has changed, when a client sends a new token, and when a session
// has left.
func ExampleConfig_callbacks() {
	var left sync.WaitGroup
	left.Add(1)
	rooms := room.NewManager(room.Config{
		OnDocumentPatch: func(r *room.Room, p room.DocumentPatch) {
			fmt.Printf("%s: %s made change %d: %s\n", r.ID(), p.Client, p.Timestamp, p.Patches)
		},
		OnTokenRefresh: func(r room.TokenRefresh) (room.Grant, error) {
			fmt.Printf("%s: %s has a new token\n", r.Room, r.Client)
			if r.Token != "good" {
				return room.Grant{}, errors.New("token is no good") // closes the session
			}
			return room.Grant{Permission: room.ReadWrite}, nil
		},
		OnSessionRemoved: func(r *room.Room, s room.SessionRemoved) {
			fmt.Printf("%s: %s has left, %d remain\n", r.ID(), s.Client, s.Remaining)
			left.Done()
		},
	})
	session := connect(rooms, "sketch", "ada")
	session.Receive([]byte(drawBlock))
	session.Receive([]byte(`{"type":"auth-refresh","token":"bad"}`))
	left.Wait()
	// Output:
	// sketch: ada made change 1: [{"a/Block":{"_exists":true,"x":3}}]
	// sketch: ada has a new token
	// sketch: ada has left, 0 remain
}

// A snapshot is the document as it is now, in memory: taking one costs next to
// nothing, and it stays as it is. Flush saves it, CloseAll closes all sockets
// and saves every room.
func ExampleManager_CloseAll() {
	ctx := context.Background()
	memory := &store.Memory{}
	rooms := room.NewManager(room.Config{Storage: memory})
	session, err := rooms.Connect(ctx, "sketch", room.ConnectOptions{
		Socket: printSocket("ada"), Client: "ada", Grant: room.Grant{Permission: room.ReadWrite},
	})
	if err != nil {
		log.Fatal(err)
	}
	session.Receive([]byte(drawBlock))

	r := open(rooms, "sketch")
	text, err := json.Marshal(r.Snapshot())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))

	if err := r.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	saved, err := memory.Load(ctx, "sketch")
	fmt.Println("saved:", saved.Timestamp(), err)

	session.Receive([]byte(drawBlock))
	if err := rooms.CloseAll(ctx, protocol.CloseRestart); err != nil {
		log.Fatal(err) // which rooms were not saved, and why
	}
	saved, err = memory.Load(ctx, "sketch")
	fmt.Println("saved:", saved.Timestamp(), err)
	// Output:
	// to ada: {"type":"clientCount","count":1}
	// to ada: {"type":"ack","messageId":"1","timestamp":1}
	// {"timestamp":1,"state":{"a/Block":{"_exists":true,"x":3}},"timestamps":{"a/Block":{"_exists":1,"x":1}}}
	// saved: 1 <nil>
	// to ada: {"type":"ack","messageId":"1","timestamp":2}
	// close ada: 1012 server is restarting
	// saved: 2 <nil>
}
