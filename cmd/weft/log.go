package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// newLogger makes the logger that everything in the process writes to.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of the levels: the setting has been checked
	options := &slog.HandlerOptions{Level: l, ReplaceAttr: shorten}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// maxLogged is how much of one text is logged, in bytes. A room's id, which anybody
// may choose who is let in, can have 50 KB, and an error may quote it.
const maxLogged = 1000

// shorten cuts what is too long, but for a stack, which is ours.
func shorten(_ []string, a slog.Attr) slog.Attr {
	if a.Key == stackKey {
		return a
	}
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(settings.Cut(v.String(), maxLogged))
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			a.Value = slog.StringValue(settings.Cut(err.Error(), maxLogged))
		}
	}
	return a
}

// httpErrorLog is for the complaints of net/http, which come as free text.
func httpErrorLog(to *slog.Logger) *log.Logger {
	return log.New(httpErrors{to}, "", 0)
}

// httpErrors passes on the first line, up to the first question mark: should
// one ever quote a request's URL, the token in its query stays out of the log.
type httpErrors struct{ log *slog.Logger }

func (h httpErrors) Write(text []byte) (int, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	line, _, _ = strings.Cut(line, "?")
	h.log.Warn("trouble with an HTTP connection", "text", line)
	return len(text), nil
}

// redisLog is for the remarks of the Redis client, one for every attempt of
// every connection. What they come to, the cluster says once and itself.
type redisLog struct{ log *slog.Logger }

func (r redisLog) Printf(ctx context.Context, format string, args ...any) {
	r.log.DebugContext(ctx, "a remark of the Redis client", "text", fmt.Sprintf(format, args...))
}
