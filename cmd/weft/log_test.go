package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// What a client has chosen, such as the room's id, must not fill the log.
func TestLogCutsWhatIsLong(t *testing.T) {
	long := strings.Repeat("r", 55_000)
	for _, format := range []string{"text", "json"} {
		lines := newLogLines()
		log := newLogger(lines, "info", format)
		log.With("room", long).Warn("x", "error", errors.New("load "+long), slog.Group("g", "id", long), "count", 3)
		got := lines.String()
		if len(got) > 4*maxLogged || strings.Count(got, "…") != 3 || !strings.Contains(got, "count") || !strings.Contains(got, "load rrr") {
			t.Errorf("%s, %d bytes: %.300s", format, len(got), got)
		}
		log.Error("x", stackKey, long)
		if len(lines.String()) < len(long) {
			t.Error("the stack is cut")
		}
	}
}
