//go:build unix

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

func TestSignals(t *testing.T) {
	for _, second := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		exits := make(chan int, 1)
		ctx, release := untilSignal(func(code int) { exits <- code })
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			t.Fatal("the first signal does not end the context")
		}
		select {
		case code := <-exits:
			t.Fatalf("the first signal exits with %d", code)
		default:
		}
		if err := syscall.Kill(os.Getpid(), second); err != nil {
			t.Fatal(err)
		}
		select {
		case code := <-exits:
			if code != 128+int(second) {
				t.Errorf("the second signal, %v, exits with %d", second, code)
			}
		case <-time.After(patience):
			t.Fatal("the second signal does not exit")
		}
		release()
	}
}

func TestReleaseWithoutSignal(t *testing.T) {
	ctx, release := untilSignal(func(code int) { t.Errorf("exits with %d", code) })
	release()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}

// A server that was given a pipe, as by --auth-jwt-secret-file <(command), must not
// wait for another writer of it, since it then could not end.
func TestPipeIsReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	files := &rotation{log: slog.New(slog.DiscardHandler)}
	files.add(&settings.File{Setting: &settings.Setting{Name: "x"}, Path: path}, func([]byte) error {
		t.Error("the pipe was read")
		return nil
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		files.files[0].look(files.log)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("waits for a writer of the pipe")
	}
}
