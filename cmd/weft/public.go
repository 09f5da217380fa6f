package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
)

// publicHandler sends WebSocket upgrades on any path to sockets, and all else
// to page. Without a page, sockets tells those who are lost where they are.
func publicHandler(sockets, page http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer reportPanic(log)
		if page == nil || strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			sockets.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
}

const stackKey = "stack"

// reportPanic logs where a request's handler panicked and lets net/http end
// that connection. The panic's own words stay out: they may quote the request.
func reportPanic(log *slog.Logger) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		log.Error("a request broke its handler; its connection is closed", "panic", fmt.Sprintf("%T", p), stackKey, string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}
