package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/weftsync/weft/room"
	"github.com/weftsync/weft/room/protocol"
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

// shutDown closes every socket, then saves every room, within the time given.
// The error says how many rooms were not saved; each is in the log.
func shutDown(within time.Duration, rooms *room.Manager, sockets *wsconn.Server, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	unsaved := errorList(rooms.CloseAll(ctx, protocol.CloseRestart))
	for _, err := range unsaved {
		log.Error("a room was not saved at the end; its last changes are lost", "error", err)
	}
	if err := sockets.Shutdown(ctx, protocol.CloseRestart); err != nil {
		log.Warn("some sockets did not close in time and were cut off", "error", err)
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
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
