package cluster

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// troubleReply is an error that Redis has answered with.
type troubleReply string

func (r troubleReply) Error() string { return string(r) }
func (troubleReply) RedisError()     {}

// That a password has changed is said even if it begins with connections that end,
// as it does; and each is said once.
func TestTroubleSaysWhatAPersonMustMend(t *testing.T) {
	var lines bytes.Buffer
	trouble := &trouble{log: slog.New(slog.NewTextHandler(&lines, nil))}
	for range 3 {
		trouble.note("the lease cannot be renewed", io.EOF)
		trouble.note("the log cannot be read", troubleReply("WRONGPASS invalid username-password pair or user is disabled."))
		trouble.note("the log cannot be read", errors.New("i/o timeout"))
	}
	text := lines.String()
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, "EOF") || !strings.Contains(text, "WRONGPASS") {
		t.Errorf("logged:\n%s", text)
	}
	trouble.over()
	trouble.note("the lease cannot be renewed", troubleReply("NOPERM this user has no permissions to run the 'set' command"))
	if again := strings.TrimPrefix(lines.String(), text); strings.Count(again, "\n") != 2 || !strings.Contains(again, "NOPERM") {
		t.Errorf("logged then:\n%s", again)
	}
}
