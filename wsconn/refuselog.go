package wsconn

import (
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// refusalLog tells the operator of refusals: of each reason at most once a
// second, and how many a line stands for. None is lost: what came within the
// second is told when it is over.
type refusalLog struct {
	log *slog.Logger

	mu   sync.Mutex
	most [refusalReasons]struct {
		count int       // since the last line
		next  time.Time // when there may be another
		room  string    // of the last of them
		why   string
	}
}

const (
	refusalLogEvery = time.Second
	// maxLogged is how many bytes of a room's id are logged, and maxCause of an error.
	maxLogged = 100
	maxCause  = 300
	// minSecret is from which length on a token is taken out of an error's text. A
	// shorter one is no secret, and may be a part of any word.
	minSecret = 4
)

// note logs a refusal, or counts it for the next line.
func (l *refusalLog) note(no *refusal, t target) {
	why := cut(withoutToken(no.text, t.token), maxCause)
	if no.cause != nil {
		why = causeOf(no.cause, t.token)
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.most[no.reason]
	r.count++
	r.room, r.why = cut(t.room, maxLogged), why
	if !now.Before(r.next) {
		l.tellLocked(no.reason, now)
	}
}

// flush tells what is due; at the end, everything.
func (l *refusalLog) flush(atEnd bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for reason := range refusalReasons {
		if r := &l.most[reason]; r.count > 0 && (atEnd || !now.Before(r.next)) {
			l.tellLocked(reason, now)
		}
	}
}

func (l *refusalLog) tellLocked(reason refusalReason, now time.Time) {
	r := &l.most[reason]
	tell := l.log.Info
	if reason == authorizerDown || reason == overloaded {
		tell = l.log.Warn
	}
	tell("connections were refused", "reason", refusalTable[reason].label, "count", r.count, "last_room", r.room, "last_cause", r.why)
	r.count, r.room, r.why, r.next = 0, "", "", now.Add(refusalLogEvery)
}

// causeOf is what the operator may know of an error about a token.
func causeOf(err error, token string) string { return cut(withoutToken(err.Error(), token), maxCause) }

// withoutToken takes a token out of a text, also as a URL has it.
func withoutToken(text, token string) string {
	if len(token) < minSecret {
		return text
	}
	return strings.NewReplacer(token, "…", url.QueryEscape(token), "…", url.PathEscape(token), "…").Replace(text)
}

// cut cuts a text at a character to n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
