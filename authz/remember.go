package authz

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/weftsync/weft/room"
)

// maxRemembered bounds the refusals that are remembered; the oldest go.
const maxRemembered = 10_000

// RememberRefusals returns an authorizer that repeats a refusal of inner for
// ttl, to anybody who comes with the same token for the same room, without
// asking inner again. Those who come while inner is being asked wait for what
// it says: a refusal is theirs too, after anything else each asks for itself.
// So a thousand tabs with one expired token cost one question every ttl, not a
// thousand every few seconds.
//
// Grants are not remembered, nor are an authorizer's errors, nor refusals of
// kind [Limited]. What has changed meanwhile, such as a user's rights, is noticed
// at most ttl late by those who were refused before; new secrets of a [JWT], and a
// new key set, at once. At most 10 000
// refusals are remembered, by a hash of token and room. A ttl of 0 or less is
// off: it returns inner.
//
// A refusal must therefore follow from the token and the room. That is so for
// [JWT], as long as its keys are the same. For a [Webhook] the headers that it passes on count as part of the
// token; the client's id and its address do not, so do not put this around a
// webhook that refuses somebody because of these while it lets others in with the
// same token.
//
// It is safe for concurrent use, and runs no goroutine.
func RememberRefusals(inner Authorizer, ttl time.Duration) Authorizer {
	if ttl <= 0 {
		return inner
	}
	return &memory{inner: inner, ttl: ttl, known: map[questionKey]*list.Element{}, asking: map[questionKey]*asking{}}
}

// questionKey is a hash, so that no token is kept.
type questionKey [sha256.Size]byte

// memory is an Authorizer that remembers refusals.
type memory struct {
	inner Authorizer
	ttl   time.Duration

	mu     sync.Mutex
	known  map[questionKey]*list.Element
	oldest list.List // of *remembered, in the order in which they end
	asking map[questionKey]*asking
}

type remembered struct {
	key    questionKey
	denied *Denied
	until  time.Time
}

// asking is a question that inner is being asked. What came of it is set before
// done closes.
type asking struct {
	done   chan struct{}
	denied *Denied // nil: something else came of it
	ended  bool    // who asked went away before there was an answer
}

func keyOf(inner Authorizer, info Info) questionKey {
	h := sha256.New()
	part := func(s string) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		_, _ = io.WriteString(h, s)
	}
	part(info.RoomID)
	part(info.Token)
	if more, ok := inner.(interface{ decidedBy(Info) []string }); ok {
		for _, s := range more.decidedBy(info) {
			part(s)
		}
	}
	return questionKey(h.Sum(nil))
}

// Authorize repeats a refusal, or asks.
func (m *memory) Authorize(ctx context.Context, info Info) (room.Grant, error) {
	key := keyOf(m.inner, info)
	for {
		denied, other := m.begin(key)
		if denied != nil {
			return room.Grant{}, denied
		}
		if other == nil {
			return m.ask(ctx, key, info)
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return room.Grant{}, ctx.Err()
		}
		switch {
		case other.denied != nil:
			return room.Grant{}, other.denied
		case !other.ended:
			return m.inner.Authorize(ctx, info)
		}
	}
}

// begin returns a refusal that is remembered, or the question that is being
// asked, or neither: then the caller is the one to ask it.
func (m *memory) begin(key questionKey) (*Denied, *asking) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(time.Now())
	if e := m.known[key]; e != nil {
		return e.Value.(*remembered).denied, nil
	}
	if a := m.asking[key]; a != nil {
		return nil, a
	}
	m.asking[key] = &asking{done: make(chan struct{})}
	return nil, nil
}

// ask asks inner, and tells those who wait.
func (m *memory) ask(ctx context.Context, key questionKey, info Info) (grant room.Grant, err error) {
	var denied *Denied
	defer func() { // inner may panic
		m.mu.Lock()
		defer m.mu.Unlock()
		a := m.asking[key]
		delete(m.asking, key)
		a.denied, a.ended = denied, denied == nil && ctx.Err() != nil
		close(a.done)
		if denied != nil {
			m.rememberLocked(key, denied)
		}
	}()
	grant, err = m.inner.Authorize(ctx, info)
	if d := (*Denied)(nil); errors.As(err, &d) && d.Kind != Limited {
		denied = &Denied{Kind: d.Kind, Reason: d.Reason} // and not what wraps it
	}
	return grant, err
}

func (m *memory) rememberLocked(key questionKey, denied *Denied) {
	for len(m.known) >= maxRemembered {
		m.dropLocked(m.oldest.Front())
	}
	m.known[key] = m.oldest.PushBack(&remembered{key, denied, time.Now().Add(m.ttl)})
}

// forgetLocked drops what is too old.
func (m *memory) forgetLocked(now time.Time) {
	for e := m.oldest.Front(); e != nil && !now.Before(e.Value.(*remembered).until); e = m.oldest.Front() {
		m.dropLocked(e)
	}
}

func (m *memory) dropLocked(e *list.Element) {
	delete(m.known, e.Value.(*remembered).key)
	m.oldest.Remove(e)
}
