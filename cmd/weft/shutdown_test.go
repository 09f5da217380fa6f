package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/wsconn"
)

// fakeStorage answers as its functions do; without them it is empty and saves
// nowhere.
type fakeStorage struct {
	load  func(context.Context) error
	save  func(context.Context) error
	ended bool
}

func (f *fakeStorage) Load(ctx context.Context, _ string) (*room.Snapshot, error) {
	if f.load == nil {
		return nil, nil
	}
	return nil, f.load(ctx)
}

func (f *fakeStorage) Save(ctx context.Context, _ string, _ *room.Snapshot) error {
	if f.save == nil {
		return nil
	}
	return f.save(ctx)
}

func (f *fakeStorage) Close() error { f.ended = true; return nil }

type fakeSocket struct{ closed []protocol.Close }

func (*fakeSocket) Send(protocol.Frame)      {}
func (s *fakeSocket) Close(c protocol.Close) { s.closed = append(s.closed, c) }

// end opens room r on storage, edits it if edit, and shuts down within a
// minute.
func end(t *testing.T, storage *fakeStorage, edit bool) (socket *fakeSocket, log string, err error) {
	t.Helper()
	lines := newLogLines()
	logger := newLogger(lines, "info", "text")
	rooms := room.NewManager(room.Config{Storage: storage, SaveInterval: time.Hour, StorageTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	sockets, err := wsconn.NewServer(wsconn.Config{Rooms: rooms, Authorizer: authz.Insecure{}})
	if err != nil {
		t.Fatal(err)
	}
	socket = &fakeSocket{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	session, err := rooms.Connect(ctx, "r", room.ConnectOptions{Socket: socket, Client: "c", Grant: room.Grant{Permission: room.ReadWrite}})
	if edit {
		if err != nil {
			t.Fatal(err)
		}
		session.Receive([]byte(`{"type":"patch","messageId":"m","documentPatches":[{"k/A":{"_exists":true}}]}`))
	}
	err = shutDown(time.Minute, rooms, sockets, openStorage{storage, storage}, logger)
	return socket, lines.String(), err
}

func TestShutDownSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saves := 0
		storage := &fakeStorage{save: func(context.Context) error { saves++; return nil }}
		socket, log, err := end(t, storage, true)
		if err != nil || saves != 1 || !storage.ended || log != "" {
			t.Errorf("saves %d, storage closed: %v, error %v, log %s", saves, storage.ended, err, log)
		}
		if len(socket.closed) != 1 || socket.closed[0] != protocol.CloseRestart {
			t.Errorf("the socket is closed with %v", socket.closed)
		}
	})
}

func TestShutDownSaysWhatIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &fakeStorage{save: func(context.Context) error { return errors.New("disk full") }}
		_, log, err := end(t, storage, true)
		if err == nil || !storage.ended || !strings.Contains(log, "disk full") || !strings.Contains(log, `\"r\"`) || strings.Count(log, "\n") != 1 {
			t.Errorf("storage closed: %v, error %v, log %s", storage.ended, err, log)
		}
	})
}

func TestShutDownGivesUpASaveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &fakeStorage{save: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		began := time.Now()
		_, log, err := end(t, storage, true)
		if took := time.Since(began); err == nil || took != time.Minute || !strings.Contains(log, "deadline exceeded") {
			t.Errorf("after %v: error %v, log %s", took, err, log)
		}
	})
}

// A storage that does not even heed its context must not keep the process.
func TestShutDownDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		storage := &fakeStorage{load: func(context.Context) error { <-release; return errors.New("late") }}
		_, _, err := end(t, storage, false)
		if err == nil || storage.ended {
			t.Errorf("storage closed: %v, error %v", storage.ended, err)
		}
		close(release) // the bubble waits for the load to end
	})
}
