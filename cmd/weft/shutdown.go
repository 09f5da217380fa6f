package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
	"github.com/weftsync/weft/store"
	"github.com/weftsync/weft/wsconn"
)

// untilSignal returns a context that ends with the first SIGINT or SIGTERM.
// The second one calls exit at once with 128 and the signal's number, as a
// shell would report it: 130 or 143. After release signals do again what the
// system does with them.
func untilSignal(exit func(code int)) (ctx context.Context, release func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	released, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for range 2 {
			select {
			case s := <-signals:
				if ctx.Err() != nil {
					number, _ := s.(syscall.Signal)
					exit(128 + int(number))
					return
				}
				cancel()
			case <-released:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(released)
		<-ended
		cancel()
	}
}

// end takes a server down whose client port is open, in this order: /readyz is
// 503; no new sockets are taken, and weft_drain_sockets_remaining says how many
// are left; the client port closes; the rooms of a cluster go to other nodes, and
// the sockets are closed at a pace, both within drain-timeout; what rooms are left
// here are saved, within shutdown-timeout. The admin address answers to the end.
// Plain HTTP connections, idle or not, are not waited for.
func end(o *settings.Server, h *health, public *listener, sockets *wsconn.Server, rooms roomHost) error {
	h.set(shuttingDown)
	sockets.Refuse()
	public.refuse()
	ctx, cancel := context.WithTimeout(context.Background(), o.DrainTimeout)
	defer cancel()
	return errors.Join(rooms.drain(ctx, sockets), rooms.finish(o.ShutdownTimeout, sockets))
}

// lateness is how long after its time is over saveAll still waits for word of
// what was saved.
const lateness = time.Second

// saveAll closes every socket that is left and saves every room, within the time
// given, and then closes the storage. The error says that rooms were not saved;
// which ones is in the log. If it took too long, saving goes on for as long as the
// process lives, and so the storage stays open.
func saveAll(within time.Duration, rooms *room.Manager, sockets *wsconn.Server, storage openStorage, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	saved := make(chan error, 1)
	go func() { saved <- rooms.CloseAll(ctx, protocol.CloseRestart) }()
	// Not after it: sockets that wait for a room must hear of the end even if
	// that room's load, for which CloseAll waits, does not return.
	awaitSockets(ctx, sockets, log)
	select {
	case err := <-saved:
		if files, ok := storage.Storage.(*store.File); ok && err != nil {
			files.NotAllSaved()
		}
		return errors.Join(reportUnsaved(err, log), storage.close())
	case <-time.After(within + lateness):
		return fmt.Errorf("rooms were still being loaded or saved after %s: changes may be lost", settings.ShortDuration(within))
	}
}

// awaitSockets closes what sockets are left at once, and waits until they have
// ended.
func awaitSockets(ctx context.Context, sockets *wsconn.Server, log *slog.Logger) {
	if err := sockets.Shutdown(ctx, protocol.CloseRestart); err != nil {
		log.Warn("some sockets did not close in time and were cut off", "error", err)
	}
}

// reportUnsaved logs each of the errors that err joins, and counts them.
func reportUnsaved(err error, log *slog.Logger) error {
	unsaved := errorList(err)
	for _, err := range unsaved {
		log.Error("a room was not saved at the end; its last changes are lost", "error", err)
	}
	if len(unsaved) > 0 {
		return fmt.Errorf("rooms that were not saved: %d", len(unsaved))
	}
	return nil
}

// errorList takes apart what errors.Join has joined.
func errorList(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}
