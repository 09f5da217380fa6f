package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
)

const (
	// jwksCooldown is the least time between two readings that tokens ask for,
	// and from a failed reading to the next try. It is what keeps strangers
	// with made-up tokens from making this server call the issuer.
	jwksCooldown = 10 * time.Second
	jwksMaxBytes = 1 << 20
	// jwksMaxKeys bounds the work for a token that does not name its key.
	jwksMaxKeys = 64
)

var (
	errFresh  = errors.New("key set was read a moment ago")
	errClosed = errors.New("authz: jwt authorizer is closed")
)

// keySet holds the keys of a JWKS URL. One goroutine reads the set, at
// intervals and when asked; close ends it and waits for it.
type keySet struct {
	// Fixed after construction.
	from     endpoint
	client   *http.Client
	interval time.Duration
	timeout  time.Duration
	log      *slog.Logger
	stop     context.CancelFunc
	done     chan struct{} // closed when the goroutine has ended
	ask      chan struct{} // capacity 1: read the set now

	changes atomic.Uint64 // how often the set has changed

	mu      sync.Mutex // guards what follows
	keys    *keyRing
	err     error     // of the last reading
	asked   time.Time // when a token last caused a reading
	waiting *reading  // the reading that has been asked for and has not begun
	running *reading  // the reading under way
}

// keyRing is what one reading brought. Rings are told apart by their address.
type keyRing struct {
	keyfunc.Keyfunc
	text []byte // as it was read
}

// reading is one attempt to read the set. Its err is set before done closes.
type reading struct {
	done chan struct{}
	err  error
}

func startKeySet(ctx context.Context, from endpoint, cfg JWTConfig, log *slog.Logger) *keySet {
	first := &reading{done: make(chan struct{})}
	s := &keySet{
		from:     from,
		client:   newClient(cfg.Transport, 1),
		interval: cfg.JWKSInterval,
		timeout:  cfg.JWKSTimeout,
		log:      log,
		done:     make(chan struct{}),
		ask:      make(chan struct{}, 1),
		waiting:  first,
	}
	if s.interval <= 0 {
		s.interval = defaultJWKSInterval
	}
	if s.timeout <= 0 {
		s.timeout = defaultJWKSTimeout
	}
	// Not ctx: that is the start's, and the set outlives it.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.run(own)
	select {
	case <-first.done:
	case <-ctx.Done():
	}
	return s
}

func (s *keySet) close() {
	s.stop()
	<-s.done
	s.client.CloseIdleConnections()
}

func (s *keySet) run(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ask:
		case <-timer.C:
		}
		r := s.begin()
		keys, err := s.read(ctx)
		next := s.interval
		if err != nil {
			next = min(next, jwksCooldown)
			if ctx.Err() == nil { // or it is only that the server ends
				s.log.WarnContext(ctx, "the JWKS could not be read; trying again", "from", s.from.place, "in", next, "err", err)
			}
		}
		s.end(r, keys, err)
		timer.Reset(next)
	}
}

// begin takes over whoever waits for a reading that has not begun: those who
// ask from here on may be after a key that this one is too early for.
func (s *keySet) begin() *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.waiting = s.waiting, nil
	if s.running == nil {
		s.running = &reading{done: make(chan struct{})}
	}
	return s.running
}

func (s *keySet) end(r *reading, keys *keyRing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		changed := s.keys == nil || !bytes.Equal(s.keys.text, keys.text)
		if s.keys = keys; changed {
			s.changes.Add(1)
		}
	}
	s.err, r.err, s.running = err, err, nil
	close(r.done)
}

// current returns the keys that are known, after a reading if there are none.
func (s *keySet) current(ctx context.Context) (*keyRing, error) {
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	if keys != nil {
		return keys, nil
	}
	return s.refreshed(ctx, nil)
}

// refreshed returns newer keys than old, after a new reading unless there are
// some already. The error is errFresh if the set was read so recently that it
// is not read again.
func (s *keySet) refreshed(ctx context.Context, old *keyRing) (*keyRing, error) {
	s.mu.Lock()
	if s.keys != old { // a reading ended while the caller tried the old ones
		defer s.mu.Unlock()
		return s.keys, nil
	}
	r, err := s.requestLocked()
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("authz: waiting for the jwks: %w", ctx.Err())
	case <-s.done:
		return nil, errClosed
	}
	if r.err != nil {
		return nil, fmt.Errorf("authz: jwks from %s: %w", s.from.place, r.err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, nil
}

// requestLocked returns the reading to wait for.
func (s *keySet) requestLocked() (*reading, error) {
	switch {
	case s.waiting != nil:
		return s.waiting, nil
	case time.Since(s.asked) >= jwksCooldown:
		s.asked = time.Now()
		s.waiting = &reading{done: make(chan struct{})}
		select {
		case s.ask <- struct{}{}:
		default: // asked already: the goroutine comes by and takes the waiting one
		}
		return s.waiting, nil
	case s.running != nil:
		return s.running, nil
	case s.err != nil:
		return nil, fmt.Errorf("authz: jwks from %s: %w", s.from.place, s.err)
	}
	return nil, errFresh
}

// read fetches the set and keeps the keys that may verify a token.
func (s *keySet) read(ctx context.Context) (*keyRing, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.from.raw, nil)
	if err != nil {
		return nil, errors.New("request cannot be made")
	}
	req.Header.Set("Accept", "application/json")
	status, body, err := call(s.client, req, jwksMaxBytes)
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, fmt.Errorf("answered with status %d", status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, errors.New("answer is not a JSON Web Key Set")
	}
	if len(set.Keys) > jwksMaxKeys {
		return nil, fmt.Errorf("key set holds %d keys, at most %d are read", len(set.Keys), jwksMaxKeys)
	}
	store := jwkset.NewMemoryStorage()
	skipped := 0
	for _, raw := range set.Keys {
		key, ok := usableKey(raw)
		if !ok {
			skipped++
			continue
		}
		if err := store.KeyWrite(ctx, key); err != nil {
			return nil, errors.New("key cannot be stored")
		}
	}
	// An empty set is believed: the issuer may have taken back every key.
	if skipped == len(set.Keys) {
		s.log.WarnContext(ctx, "the JWKS holds no key that can verify a token", "from", s.from.place, "skipped", skipped)
	}
	keys, err := keyfunc.New(keyfunc.Options{Storage: store})
	if err != nil {
		return nil, err
	}
	return &keyRing{keys, body}, nil
}

// usableKey reads a key and says whether it may verify signatures. A set may
// hold keys for other uses, and keys that this version cannot read.
func usableKey(raw json.RawMessage) (jwkset.JWK, bool) {
	// Symmetric and private keys are not read at all without Private.
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwk, false
	}
	alg, err := algFor(jwk.Key())
	m := jwk.Marshal()
	forSigning := m.USE == "" || m.USE == jwkset.UseSig
	return jwk, err == nil && forSigning && (m.ALG == "" || m.ALG.String() == alg)
}
