package main

import (
	"errors"
	"io"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/store"
)

// openStorage is a storage with what must be closed after it was used.
type openStorage struct {
	room.Storage
	closer io.Closer
}

// openStore opens the storage that is set. The error is about a setting,
// unless another process has the folder: that one may end.
func openStore(o *settings.Server) (openStorage, error) {
	if o.Store == settings.StoreMemory {
		return openStorage{Storage: &store.Memory{}}, nil
	}
	files, err := store.NewFile(o.DataDir)
	switch {
	case errors.Is(err, store.ErrInUse):
		return openStorage{}, err
	case err != nil:
		return openStorage{}, settings.Wrong("data-dir", "%w", err)
	}
	return openStorage{files, files}, nil
}

func (s openStorage) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}
