package authz

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/weftsync/weft/room"
)

// jwk writes a public key as a JSON Web Key. What extra holds goes on top.
func jwk(kid string, key crypto.Signer, extra map[string]any) json.RawMessage {
	b64 := func(n *big.Int, size int) string { return encode(string(n.FillBytes(make([]byte, size)))) }
	m := map[string]any{}
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N, k.Size()), b64(big.NewInt(int64(k.E)), 3)
	case *ecdsa.PublicKey:
		size := (k.Params().BitSize + 7) / 8
		point := must(k.Bytes())
		m["kty"], m["crv"] = "EC", k.Params().Name
		m["x"], m["y"] = encode(string(point[1:1+size])), encode(string(point[1+size:]))
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", encode(string(k))
	}
	if kid != "" {
		m["kid"] = kid
	}
	for name, v := range extra {
		m[name] = v
	}
	return must(json.Marshal(m))
}

func jwksBody(keys ...json.RawMessage) string {
	return string(must(json.Marshal(map[string]any{"keys": append([]json.RawMessage{}, keys...)})))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func staticKeys(keys ...json.RawMessage) http.RoundTripper {
	return roundTrip(func(*http.Request) (*http.Response, error) { return answer(200, jwksBody(keys...)), nil })
}

// issuer is a key set in memory that can change, fail, and count.
type issuer struct {
	mu    sync.Mutex
	body  string
	err   error
	reads atomic.Int64
}

func (i *issuer) set(body string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body, i.err = body, err
}

func (i *issuer) RoundTrip(*http.Request) (*http.Response, error) {
	i.reads.Add(1)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		return nil, i.err
	}
	return answer(200, i.body), nil
}

func es256(key *ecdsa.PrivateKey, kid string) string {
	c := jwt.MapClaims{"roomId": "r1", "canWrite": true}
	if kid == "" {
		return sign(jwt.SigningMethodES256, key, c)
	}
	return sign(jwt.SigningMethodES256, key, c, "kid", kid)
}

func newEC() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func TestJWKSKeys(t *testing.T) {
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	enc, wrongAlg := newEC(), must(rsa.GenerateKey(rand.Reader, 2048))
	oct := json.RawMessage(`{"kty":"oct","kid":"oct","k":"` + encode(string(secret)) + `"}`)
	j := newJWT(t, JWTConfig{JWKSURL: "https://issuer.invalid/keys", Transport: staticKeys(
		oct,
		json.RawMessage(`{"kty":"future"}`), json.RawMessage(`5`), json.RawMessage(`null`),
		jwk("p384", p384, nil),
		jwk("enc", enc, map[string]any{"use": "enc"}),
		jwk("ps", wrongAlg, map[string]any{"alg": "PS256"}),
		jwk("rsa", rsaKey(), map[string]any{"use": "sig", "alg": "RS256"}),
		jwk("ec", ecKey(), nil),
		jwk("ed", edKey(), map[string]any{"alg": "EdDSA"}),
	)})
	c := jwt.MapClaims{"roomId": "r1", "canWrite": true}
	for name, token := range map[string]string{
		"RS256":            sign(jwt.SigningMethodRS256, rsaKey(), c, "kid", "rsa"),
		"ES256":            sign(jwt.SigningMethodES256, ecKey(), c, "kid", "ec"),
		"EdDSA":            sign(jwt.SigningMethodEdDSA, edKey(), c, "kid", "ed"),
		"RS256 without id": sign(jwt.SigningMethodRS256, rsaKey(), c),
		"ES256 without id": sign(jwt.SigningMethodES256, ecKey(), c),
		"EdDSA without id": sign(jwt.SigningMethodEdDSA, edKey(), c),
	} {
		if g, err := authorize(j, "r1", token); err != nil || g.Permission != room.ReadWrite {
			t.Errorf("%s: got %+v, %v", name, g, err)
		}
	}
	for name, token := range map[string]string{
		"symmetric key":        sign(jwt.SigningMethodHS256, secret, c, "kid", "oct"),
		"HS256 of another key": sign(jwt.SigningMethodHS256, []byte(jwk("ec", ecKey(), nil)), c, "kid", "ec"),
		"none":                 sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c, "kid", "ec"),
		"other curve":          sign(jwt.SigningMethodES384, p384, c, "kid", "p384"),
		"encryption key":       sign(jwt.SigningMethodES256, enc, c, "kid", "enc"),
		"encryption, no id":    sign(jwt.SigningMethodES256, enc, c),
		"key of another alg":   sign(jwt.SigningMethodRS256, wrongAlg, c, "kid", "ps"),
		"that, without id":     sign(jwt.SigningMethodRS256, wrongAlg, c),
		"RS512 of an RS256":    sign(jwt.SigningMethodRS512, rsaKey(), c, "kid", "rsa"),
		"id of another key":    sign(jwt.SigningMethodES256, ecKey(), c, "kid", "ed"),
		"unknown id":           sign(jwt.SigningMethodES256, ecKey(), c, "kid", "secret-kid"),
		"stranger's key":       sign(jwt.SigningMethodES256, newEC(), c, "kid", "ec"),
		"stranger, no id":      sign(jwt.SigningMethodES256, newEC(), c),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := authorize(j, "r1", token)
			refused(t, err, token, "secret-kid")
		})
	}
}

// TestJWKSRotation changes the keys of a real HTTP server under the authorizer.
func TestJWKSRotation(t *testing.T) {
	oldKey, newKey := newEC(), newEC()
	var body atomic.Value
	body.Store(jwksBody(jwk("old", oldKey, nil)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body.Load().(string))
	}))
	defer srv.Close()
	j := newJWT(t, JWTConfig{JWKSURL: srv.URL})
	if _, err := authorize(j, "r1", es256(oldKey, "old")); err != nil {
		t.Fatal(err)
	}
	body.Store(jwksBody(jwk("new", newKey, nil)))
	// Many sessions at once with the new key: one reading serves them all.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := authorize(j, "r1", es256(newKey, "new")); err != nil {
				t.Errorf("new key: %v", err)
			}
		})
	}
	wg.Wait()
	_, err := authorize(j, "r1", es256(oldKey, "old"))
	refused(t, err)
}

// inBubble runs f in virtual time with an authorizer for the issuer.
func inBubble(t *testing.T, i *issuer, f func(t *testing.T, j *JWT, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		j, err := NewJWT(t.Context(), JWTConfig{
			JWKSURL:   "https://user:hunter2@issuer.invalid/hunter2/keys?key=hunter2",
			Transport: i,
			Logger:    slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		f(t, j, &log)
		if err := j.Close(); err != nil { // synctest fails if a goroutine stays
			t.Error(err)
		}
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("logged the URL:\n%s", log.String())
		}
	})
}

func TestJWKSIsReadAtIntervals(t *testing.T) {
	key := newEC()
	i := &issuer{body: jwksBody(jwk("k", key, nil))}
	inBubble(t, i, func(t *testing.T, j *JWT, _ *bytes.Buffer) {
		if n := i.reads.Load(); n != 1 {
			t.Errorf("%d readings at the start", n)
		}
		i.set(jwksBody(), nil) // every key is taken back
		time.Sleep(defaultJWKSInterval - time.Second)
		if _, err := authorize(j, "r1", es256(key, "k")); err != nil {
			t.Errorf("before the interval is over: %v", err)
		}
		time.Sleep(2 * time.Second)
		if n := i.reads.Load(); n != 2 {
			t.Errorf("%d readings after the interval", n)
		}
		_, err := authorize(j, "r1", es256(key, "k"))
		refused(t, err)
	})
}

func TestJWKSStrangersCannotMakeItRead(t *testing.T) {
	key := newEC()
	i := &issuer{body: jwksBody(jwk("k", key, nil))}
	inBubble(t, i, func(t *testing.T, j *JWT, _ *bytes.Buffer) {
		for range 100 {
			for _, kid := range []string{"", "k", "other"} {
				_, err := authorize(j, "r1", es256(ecKey(), kid))
				refused(t, err)
			}
		}
		if n := i.reads.Load(); n != 2 {
			t.Errorf("%d readings for 300 made-up tokens in no time, want the first and one more", n)
		}
		// A token by an algorithm that is not accepted is not worth a reading.
		time.Sleep(jwksCooldown)
		_, err := authorize(j, "r1", signRaw(`{"alg":"HS256"}`, `{"roomId":"r1"}`))
		refused(t, err)
		if n := i.reads.Load(); n != 2 {
			t.Errorf("%d readings after a token by another algorithm", n)
		}
		_, err = authorize(j, "r1", es256(ecKey(), "other"))
		refused(t, err)
		if n := i.reads.Load(); n != 3 {
			t.Errorf("%d readings after the cooldown", n)
		}
	})
}

func TestJWKSOutage(t *testing.T) {
	key, next := newEC(), newEC()
	down := errors.New("dial https://user:hunter2@issuer.invalid: down")
	i := &issuer{err: down}
	inBubble(t, i, func(t *testing.T, j *JWT, log *bytes.Buffer) {
		_, err := authorize(j, "r1", es256(key, "k"))
		failed(t, err, "hunter2")
		if !strings.Contains(log.String(), "https://issuer.invalid") {
			t.Errorf("the log does not say what could not be read:\n%s", log.String())
		}
		i.set(jwksBody(jwk("k", key, nil)), nil)
		time.Sleep(jwksCooldown + time.Second) // it tries again by itself
		reads := i.reads.Load()
		if _, err := authorize(j, "r1", es256(key, "k")); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		if n := i.reads.Load(); n != reads {
			t.Error("the token caused the reading")
		}

		// A later outage leaves the keys in use. A key that is not known may
		// be new: no answer, and no refusal.
		i.set("", down)
		time.Sleep(2 * defaultJWKSInterval)
		if _, err := authorize(j, "r1", es256(key, "k")); err != nil {
			t.Errorf("known key in an outage: %v", err)
		}
		for range 3 {
			_, err = authorize(j, "r1", es256(next, "next"))
			failed(t, err, "hunter2")
		}
	})
}

func TestJWKSBadAnswers(t *testing.T) {
	many := make([]json.RawMessage, jwksMaxKeys+1)
	for n := range many {
		many[n] = json.RawMessage(`{}`)
	}
	redirect := answer(http.StatusFound, "")
	redirect.Header.Set("Location", "https://elsewhere.invalid/")
	for name, res := range map[string]*http.Response{
		"status":   answer(503, jwksBody()),
		"redirect": redirect,
		"HTML":     answer(200, "<html>hunter2"),
		"no keys":  answer(200, `{}`),
		"null":     answer(200, `null`),
		"large":    answer(200, jwksBody()+strings.Repeat(" ", jwksMaxBytes)),
		"many":     answer(200, jwksBody(many...)),
	} {
		t.Run(name, func(t *testing.T) {
			j := newJWT(t, JWTConfig{JWKSURL: "https://issuer.invalid/", Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host != "issuer.invalid" {
					t.Errorf("followed to %s", r.URL)
				}
				return res, nil
			})})
			_, err := authorize(j, "r1", es256(ecKey(), "k"))
			failed(t, err, "hunter2")
		})
	}
}

func TestJWKSWaitsHonourContextsAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		j, err := NewJWT(ctx, JWTConfig{JWKSURL: "https://issuer.invalid/", JWKSTimeout: time.Hour, Transport: hang})
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("NewJWT returned after %v", d)
		}
		_, err = j.Authorize(ctx, Info{RoomID: "r1", ClientID: "c", Token: es256(ecKey(), "k")})
		failed(t, err)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		closed := make(chan error)
		go func() {
			_, err := authorize(j, "r1", es256(ecKey(), "k"))
			closed <- err
		}()
		synctest.Wait()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		failed(t, <-closed)
		_, err = authorize(j, "r1", es256(ecKey(), "k"))
		failed(t, err)
	})
}

func TestJWKSKeysThatCameMeanwhileAreTried(t *testing.T) {
	i := &issuer{body: jwksBody()}
	inBubble(t, i, func(t *testing.T, j *JWT, _ *bytes.Buffer) {
		old, err := j.remote.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		newer, err := j.remote.refreshed(t.Context(), old)
		if err != nil || newer == old {
			t.Fatalf("no newer keys: %v", err)
		}
		// Another session that tried the old ones too, in the cooldown.
		if again, err := j.remote.refreshed(t.Context(), old); err != nil || again != newer {
			t.Errorf("got %v instead of the newer keys", err)
		}
		if _, err := j.remote.refreshed(t.Context(), newer); !errors.Is(err, errFresh) {
			t.Errorf("got %v in the cooldown", err)
		}
		if n := i.reads.Load(); n != 2 {
			t.Errorf("%d readings", n)
		}
	})
}

func TestJWKSChangesEndWhatIsRemembered(t *testing.T) {
	first, second := newEC(), newEC()
	i := &issuer{}
	i.set(jwksBody(jwk("1", first, nil)), nil)
	inBubble(t, i, func(t *testing.T, j *JWT, _ *bytes.Buffer) {
		a := RememberRefusals(j, 24*time.Hour)
		refused := es256(second, "2")
		if _, err := authorize(a, "r1", refused); err == nil {
			t.Fatal("a token of an unknown key is accepted")
		}
		time.Sleep(defaultJWKSInterval + time.Second)
		if asked := j.decidedBy(Info{}); asked[0] != "1" {
			t.Errorf("reading the same set again counts as change: %s", asked)
		}
		i.set(jwksBody(jwk("1", first, nil), jwk("2", second, nil)), nil)
		time.Sleep(defaultJWKSInterval)
		if _, err := authorize(a, "r1", refused); err != nil {
			t.Error("after the key set has changed:", err)
		}
	})
}

func TestJWKSEndIsNoTrouble(t *testing.T) {
	var log bytes.Buffer
	started := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	j, err := NewJWT(ctx, JWTConfig{
		JWKSURL: "https://issuer.invalid/keys",
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			close(started)
			<-r.Context().Done()
			return nil, r.Context().Err()
		}),
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil || log.Len() > 0 {
		t.Errorf("%v, logged: %s", err, &log)
	}
}
