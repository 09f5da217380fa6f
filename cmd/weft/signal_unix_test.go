//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"
	"time"
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
