package main

import (
	"io"
	"log/slog"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

// openStorage is a storage with what must be closed after it was used.
type openStorage struct {
	room.Storage
	closer io.Closer
}

func openStore(o *options) (openStorage, error) {
	if o.store == storeMemory {
		return openStorage{Storage: &store.Memory{}}, nil
	}
	files, err := store.NewFile(o.dataDir)
	if err != nil {
		return openStorage{}, err
	}
	return openStorage{files, files}, nil
}

func (s openStorage) close(log *slog.Logger) {
	if s.closer == nil {
		return
	}
	if err := s.closer.Close(); err != nil {
		log.Error("the store did not close in order", "error", err)
	}
}
