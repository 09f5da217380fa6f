package room

import (
	"log/slog"
	"testing"
	"testing/synctest"
)

func TestCallbacksHoldUpMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c callbacks
		release, done := make(chan struct{}), make(chan struct{})
		c.add(func() { <-release })
		go c.run(slog.New(slog.DiscardHandler))
		synctest.Wait()
		for range maxDue {
			c.wait(nil) // there is space
			c.add(func() {})
		}
		waited := make(chan struct{}, 2)
		go func() { c.wait(nil); waited <- struct{}{} }()
		go func() { c.wait(done); waited <- struct{}{} }()
		synctest.Wait()
		if len(waited) != 0 {
			t.Fatal("a message went ahead of a thousand callbacks")
		}
		close(done)
		synctest.Wait()
		if len(waited) != 1 {
			t.Fatal("a message waits for callbacks although the manager closes")
		}
		close(release)
		synctest.Wait()
		if len(waited) != 2 || len(c.due) != 0 {
			t.Fatalf("%d went on, %d callbacks are due", len(waited), len(c.due))
		}
	})
}
