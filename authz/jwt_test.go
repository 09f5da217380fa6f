package authz

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/weftsync/weft/room"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	now    = time.Unix(1_800_000_000, 0)
	clock  = func() time.Time { return now }

	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey  = sync.OnceValue(newEd)
)

func newEd() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func publicPEM(key crypto.Signer) []byte {
	return pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key.Public())))
}

// sign signs any claims, of a valid type or not.
func sign(method jwt.SigningMethod, key any, c jwt.MapClaims, header ...string) string {
	tok := jwt.NewWithClaims(method, c)
	for i := 0; i+1 < len(header); i += 2 {
		tok.Header[header[i]] = header[i+1]
	}
	return must(tok.SignedString(key))
}

func newJWT(t testing.TB, cfg JWTConfig) *JWT {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = clock
	}
	j, err := NewJWT(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func authorize(a Authorizer, roomID, token string) (room.Grant, error) {
	return a.Authorize(context.Background(), Info{RoomID: roomID, ClientID: "c1", Token: token})
}

func TestJWTKeyTypes(t *testing.T) {
	selfSigned := must(x509.CreateCertificate(rand.Reader,
		&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}},
		&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}},
		ecKey().Public(), ecKey()))
	for _, tc := range []struct {
		name   string
		cfg    JWTConfig
		method jwt.SigningMethod
		key    any
	}{
		{"HS256", JWTConfig{Secret: secret}, jwt.SigningMethodHS256, secret},
		{"RS256", JWTConfig{PublicKey: publicPEM(rsaKey())}, jwt.SigningMethodRS256, rsaKey()},
		{"RS256 PKCS1", JWTConfig{PublicKey: pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey))}, jwt.SigningMethodRS256, rsaKey()},
		{"ES256", JWTConfig{PublicKey: publicPEM(ecKey())}, jwt.SigningMethodES256, ecKey()},
		{"ES256 certificate", JWTConfig{PublicKey: pemOf("CERTIFICATE", selfSigned)}, jwt.SigningMethodES256, ecKey()},
		{"EdDSA", JWTConfig{PublicKey: publicPEM(edKey())}, jwt.SigningMethodEdDSA, edKey()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := newJWT(t, tc.cfg)
			good := sign(tc.method, tc.key, jwt.MapClaims{"roomId": "r1", "canWrite": true, "exp": now.Unix() + 60, "metadata": map[string]any{"user": "ada"}})
			g, err := authorize(j, "r1", good)
			if err != nil {
				t.Fatal(err)
			}
			if g.Permission != room.ReadWrite || !g.Expires.Equal(now.Add(time.Minute)) || string(g.Metadata) != `{"user":"ada"}` {
				t.Errorf("got %+v", g)
			}

			// A changed bit anywhere is noticed: in the claims, in the signature.
			parts := strings.Split(good, ".")
			forged := base64.RawURLEncoding.EncodeToString([]byte(`{"roomId":"r2","canWrite":true}`))
			_, err = authorize(j, "r2", parts[0]+"."+forged+"."+parts[2])
			if got := refused(t, err, forged); !strings.HasPrefix(got, "token signature is not valid") {
				t.Errorf("changed claims: %q", got)
			}
			sig := must(base64.RawURLEncoding.DecodeString(parts[2]))
			for _, i := range []int{0, len(sig) / 2, len(sig) - 1} {
				bad := bytes.Clone(sig)
				bad[i] ^= 1
				_, err = authorize(j, "r1", parts[0]+"."+parts[1]+"."+base64.RawURLEncoding.EncodeToString(bad))
				if got := refused(t, err, parts[1]); !strings.HasPrefix(got, "token signature is not valid") {
					t.Errorf("changed signature byte %d: %q", i, got)
				}
			}
			_, err = authorize(j, "r1", parts[0]+"."+parts[1]+".")
			refused(t, err, parts[1])
		})
	}
}

// TestJWTAlgorithmConfusion offers each authorizer tokens that are genuine by
// some other algorithm.
func TestJWTAlgorithmConfusion(t *testing.T) {
	c := jwt.MapClaims{"roomId": "r1", "canWrite": true}
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for name, cfg := range map[string]JWTConfig{
		"secret": {Secret: secret},
		"rsa":    {PublicKey: publicPEM(rsaKey())},
		"ec":     {PublicKey: publicPEM(ecKey())},
		"ed":     {PublicKey: publicPEM(edKey())},
	} {
		j := newJWT(t, cfg)
		der, _ := pem.Decode(cfg.PublicKey)
		tokens := map[string]string{
			"none":                sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c),
			"HS384 of the secret": sign(jwt.SigningMethodHS384, secret, c),
			"HS512 of the secret": sign(jwt.SigningMethodHS512, secret, c),
			"RS512":               sign(jwt.SigningMethodRS512, rsaKey(), c),
			"PS256":               sign(jwt.SigningMethodPS256, rsaKey(), c),
			"ES384":               sign(jwt.SigningMethodES384, p384, c),
			"unknown":             encode(`{"alg":"XX256"}`) + "." + encode(`{"roomId":"r1"}`) + ".AAAA",
			"NONE":                encode(`{"alg":"NONE"}`) + "." + encode(`{"roomId":"r1"}`) + ".",
			"no alg":              encode(`{}`) + "." + encode(`{"roomId":"r1"}`) + ".AAAA",
			"alg is no string":    encode(`{"alg":1}`) + "." + encode(`{"roomId":"r1"}`) + ".AAAA",
			"header is null":      encode(`null`) + "." + encode(`{"roomId":"r1"}`) + ".AAAA",
		}
		if der != nil {
			tokens["HS256 of the PEM"] = sign(jwt.SigningMethodHS256, cfg.PublicKey, c)
			tokens["HS256 of the trimmed PEM"] = sign(jwt.SigningMethodHS256, bytes.TrimSpace(cfg.PublicKey), c)
			tokens["HS256 of the DER"] = sign(jwt.SigningMethodHS256, der.Bytes, c)
		}
		for _, tok := range []struct {
			alg    string
			method jwt.SigningMethod
			key    any
		}{
			{"secret", jwt.SigningMethodHS256, secret}, {"rsa", jwt.SigningMethodRS256, rsaKey()},
			{"ec", jwt.SigningMethodES256, ecKey()}, {"ed", jwt.SigningMethodEdDSA, edKey()},
		} {
			if tok.alg != name {
				tokens[tok.alg] = sign(tok.method, tok.key, c)
			}
		}
		for kind, token := range tokens {
			t.Run(name+"/"+kind, func(t *testing.T) {
				_, err := authorize(j, "r1", token)
				got := refused(t, err, token)
				if !strings.HasPrefix(got, "token is not signed with an algorithm") {
					t.Errorf("refused with %q", got)
				}
			})
		}
	}
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signRaw signs a payload that need not be claims, nor JSON.
func signRaw(header, payload string) string {
	text := encode(header) + "." + encode(payload)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestJWTRefusals(t *testing.T) {
	const hs = `{"alg":"HS256","typ":"JWT"}`
	j := newJWT(t, JWTConfig{Secret: secret, Issuer: "iss-wanted", Audience: "aud-wanted"})
	ok := `"iss":"iss-wanted","aud":["x","aud-wanted"],"roomId":"r1"`
	if _, err := authorize(j, "r1", signRaw(hs, "{"+ok+"}")); err != nil {
		t.Fatal(err)
	}
	// The last of a signature's 43 characters has two bits to spare. Were they
	// not looked at, a token would have four spellings.
	respelled := []byte(signRaw(hs, "{"+ok+"}"))
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := &respelled[len(respelled)-1]
	*last = digits[strings.IndexByte(digits, *last)+1]
	for _, tc := range []struct{ name, token, want string }{
		{"respelled signature", string(respelled), "token is malformed"},
		{"empty", "", "token is missing"},
		{"too long", strings.Repeat("a", maxToken+1), "token is too long"},
		{"not a token", "hello", "token is malformed"},
		{"two parts", "a.b", "token is malformed"},
		{"four parts", signRaw(hs, "{"+ok+"}") + ".a", "token is malformed"},
		{"not base64", "a!.b!.c!", "token is malformed"},
		{"payload not JSON", signRaw(hs, "{"), "token is malformed"},
		{"payload a list", signRaw(hs, "[1]"), "token is malformed"},
		{"payload null", signRaw(hs, "null"), "token has no iss or aud"},
		{"crit", signRaw(`{"alg":"HS256","crit":["b64"],"b64":false}`, "{"+ok+"}"), "token has a crit header"},
		{"wrong secret", sign(jwt.SigningMethodHS256, []byte("another-secret"), jwt.MapClaims{"roomId": "r1"}), "token signature is not valid"},
		{"other room", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted","roomId":"secret-room"}`), "token is for another room"},
		{"wildcard", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted","roomId":"*"}`), "token is for another room"},
		{"room in other case", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted","roomId":"R1"}`), "token is for another room"},
		{"claim name in other case", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted","roomid":"r1"}`), "token names no room"},
		{"no room", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted"}`), "token names no room"},
		{"room null", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted","roomId":null}`), `token claim "roomId" must be a string`},
		{"room a list", signRaw(hs, `{"iss":"iss-wanted","aud":"aud-wanted","roomId":["r1"]}`), `token claim "roomId" must be a string`},
		{"write a string", signRaw(hs, "{"+ok+`,"canWrite":"true"}`), `token claim "canWrite" must be true or false`},
		{"write a number", signRaw(hs, "{"+ok+`,"canWrite":1}`), `token claim "canWrite" must be true or false`},
		{"write null", signRaw(hs, "{"+ok+`,"canWrite":null}`), `token claim "canWrite" must be true or false`},
		{"expired", signRaw(hs, "{"+ok+`,"exp":1799999000}`), "token expired"},
		{"expired at zero", signRaw(hs, "{"+ok+`,"exp":0}`), "token expired"},
		{"exp a string", signRaw(hs, "{"+ok+`,"exp":"1900000000"}`), `token claim "exp" must be a time`},
		{"exp null", signRaw(hs, "{"+ok+`,"exp":null}`), `token claim "exp" must be a time`},
		{"exp negative", signRaw(hs, "{"+ok+`,"exp":-1}`), `token claim "exp" must be a time`},
		{"exp beyond time", signRaw(hs, "{"+ok+`,"exp":1e300}`), `token claim "exp" must be a time`},
		{"exp in milliseconds", signRaw(hs, "{"+ok+`,"exp":1900000000000}`), `token claim "exp" must be a time`},
		{"not yet", signRaw(hs, "{"+ok+`,"nbf":1800001000}`), "token is not valid yet"},
		{"nbf a list", signRaw(hs, "{"+ok+`,"nbf":[]}`), `token claim "nbf" must be a time`},
		{"no issuer", signRaw(hs, `{"aud":"aud-wanted","roomId":"r1"}`), "token has no iss or aud"},
		{"other issuer", signRaw(hs, `{"iss":"iss-other","aud":"aud-wanted","roomId":"r1"}`), "token is from another issuer"},
		{"issuer a number", signRaw(hs, `{"iss":5,"aud":"aud-wanted","roomId":"r1"}`), `token claim "iss" must be a string`},
		{"no audience", signRaw(hs, `{"iss":"iss-wanted","roomId":"r1"}`), "token has no iss or aud"},
		{"other audience", signRaw(hs, `{"iss":"iss-wanted","aud":["aud-other"],"roomId":"r1"}`), "token is for another audience"},
		{"audience a number", signRaw(hs, `{"iss":"iss-wanted","aud":5,"roomId":"r1"}`), `token claim "aud" must be a string or`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := authorize(j, "r1", tc.token)
			got := refused(t, err, tc.token, "secret-room", "iss-other", "iss-wanted", "aud-other", "aud-wanted", "1900000000", string(secret))
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q…", got, tc.want)
			}
		})
	}
}

func TestJWTGrants(t *testing.T) {
	j := newJWT(t, JWTConfig{Secret: secret})
	for _, tc := range []struct {
		name, payload, metadata string
		permission              room.Permission
		expires                 time.Time
	}{
		{"write absent", `{"roomId":"r1"}`, "", room.ReadOnly, time.Time{}},
		{"write false", `{"roomId":"r1","canWrite":false}`, "", room.ReadOnly, time.Time{}},
		{"write in other case", `{"roomId":"r1","CANWRITE":true}`, "", room.ReadOnly, time.Time{}},
		{"write", `{"roomId":"r1","canWrite":true}`, "", room.ReadWrite, time.Time{}},
		{"metadata null", `{"roomId":"r1","metadata":null}`, "", room.ReadOnly, time.Time{}},
		{"metadata stays raw", `{"roomId":"r1","metadata":{"n":1.0,"big":12345678901234567890}}`, `{"n":1.0,"big":12345678901234567890}`, room.ReadOnly, time.Time{}},
		{"metadata string", `{"roomId":"r1","metadata":"ada"}`, `"ada"`, room.ReadOnly, time.Time{}},
		{"exp with fraction", `{"roomId":"r1","exp":1800000001.5}`, "", room.ReadOnly, now.Add(1500 * time.Millisecond)},
		{"iat in the future", `{"roomId":"r1","iat":1900000000}`, "", room.ReadOnly, time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := authorize(j, "r1", signRaw(`{"alg":"HS256"}`, tc.payload))
			if err != nil {
				t.Fatal(err)
			}
			if g.Permission != tc.permission || string(g.Metadata) != tc.metadata || !g.Expires.Equal(tc.expires) {
				t.Errorf("got %+v", g)
			}
			if tc.metadata == "" && g.Metadata != nil {
				t.Error("metadata is not nil")
			}
		})
	}
	// A room id that JSON cannot hold is not confused with one that it can.
	_, err := authorize(j, "a\xff", signRaw(`{"alg":"HS256"}`, "{\"roomId\":\"a\xff\"}"))
	refused(t, err)
}

func TestJWTLeeway(t *testing.T) {
	const tick = time.Second
	for _, tc := range []struct {
		name           string
		leeway, effect time.Duration
	}{{"default", 0, 10 * tick}, {"set", 3 * tick, 3 * tick}, {"none", -1, 0}} {
		t.Run(tc.name, func(t *testing.T) {
			at := now
			j := newJWT(t, JWTConfig{Secret: secret, Leeway: tc.leeway, Now: func() time.Time { return at }})
			exp := sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"roomId": "r1", "exp": now.Unix()})
			nbf := sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"roomId": "r1", "nbf": now.Unix()})

			at = now.Add(tc.effect - 1)
			if g, err := authorize(j, "r1", exp); err != nil || !g.Expires.Equal(now) {
				t.Errorf("just before the end of the leeway: %+v, %v", g, err)
			}
			at = now.Add(tc.effect)
			_, err := authorize(j, "r1", exp)
			refused(t, err)

			at = now.Add(-tc.effect)
			if _, err := authorize(j, "r1", nbf); err != nil {
				t.Errorf("at the beginning of the leeway: %v", err)
			}
			at = now.Add(-tc.effect - 1)
			_, err = authorize(j, "r1", nbf)
			refused(t, err)
		})
	}
}

func TestJWTClaimNames(t *testing.T) {
	names := ClaimNames{Room: "sub", Write: "https://example.com/write", Metadata: "user"}
	j := newJWT(t, JWTConfig{Secret: secret, Claims: names})
	token := must(Mint(secret, MintConfig{Room: "r1", Write: true, TTL: time.Hour, Metadata: json.RawMessage(`"ada"`), Claims: names, Now: clock}))
	g, err := authorize(j, "r1", token)
	if err != nil || g.Permission != room.ReadWrite || string(g.Metadata) != `"ada"` {
		t.Errorf("got %+v, %v", g, err)
	}
	_, err = authorize(j, "r1", must(Mint(secret, MintConfig{Room: "r1", TTL: time.Hour, Now: clock})))
	refused(t, err)
	long := newJWT(t, JWTConfig{Secret: secret, Claims: ClaimNames{Room: strings.Repeat("\u0001é", 60)}})
	_, err = authorize(long, "r1", sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{strings.Repeat("\u0001é", 60): 1}))
	refused(t, err)
}

func TestNewJWTRefusesConfigurations(t *testing.T) {
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, tc := range []struct {
		name string
		cfg  JWTConfig
		want string
	}{
		{"nothing", JWTConfig{}, "one of them must be"},
		{"empty secret", JWTConfig{Secret: []byte{}}, "is not set"},
		{"guessable secret", JWTConfig{Secret: []byte("15 bytes of it.")}, "Secret has less than 16 bytes"},
		{"blank secret", JWTConfig{Secret: []byte(" \n")}, "Secret is empty"},
		{"PEM as secret", JWTConfig{Secret: publicPEM(ecKey())}, "Secret is a PEM"},
		{"two", JWTConfig{Secret: secret, JWKSURL: "http://127.0.0.1/"}, "cannot be set together"},
		{"no PEM", JWTConfig{PublicKey: []byte("hello")}, "is not PEM"},
		{"private key", JWTConfig{PublicKey: pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ecKey())))}, "give the public key"},
		{"bad DER", JWTConfig{PublicKey: pemOf("PUBLIC KEY", []byte("x"))}, "cannot be read"},
		{"bad certificate", JWTConfig{PublicKey: pemOf("CERTIFICATE", []byte("x"))}, "cannot be read"},
		{"two keys", JWTConfig{PublicKey: append(publicPEM(ecKey()), publicPEM(edKey())...)}, "just one key"},
		{"wrong curve", JWTConfig{PublicKey: publicPEM(p384)}, "P-384"},
		{"short RSA", JWTConfig{PublicKey: publicPEM(weak)}, "1024 bits"},
		{"bad URL", JWTConfig{JWKSURL: "://user:hunter2@x"}, "authz.JWTConfig.JWKSURL is not an http or https URL"},
		{"bad scheme", JWTConfig{JWKSURL: "ftp://user:hunter2@x/"}, "authz.JWTConfig.JWKSURL is not an http or https URL"},
		{"no host", JWTConfig{JWKSURL: "http:///keys?key=hunter2"}, "authz.JWTConfig.JWKSURL is not an http or https URL"},
		{"registered claim", JWTConfig{Secret: secret, Claims: ClaimNames{Write: "exp"}}, "ClaimNames.Write is taken"},
		{"same claims", JWTConfig{Secret: secret, Claims: ClaimNames{Room: "x", Write: "x"}}, "ClaimNames.Write is also the name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewJWT(context.Background(), tc.cfg)
			failed(t, err, string(secret), "hunter2")
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %q, want …%s…", err, tc.want)
			}
		})
	}
}

func TestShortSecretIsWarnedOf(t *testing.T) {
	for _, tc := range []struct {
		secret string
		warns  bool
	}{{"sixteen bytes it", true}, {strings.Repeat("k", 31), true}, {strings.Repeat("k", 32), false}} {
		var out bytes.Buffer
		newJWT(t, JWTConfig{Secret: []byte(tc.secret), Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if warns := strings.Contains(out.String(), "level=WARN"); warns != tc.warns || strings.Contains(out.String(), tc.secret) {
			t.Errorf("%d bytes: logged %q", len(tc.secret), out.String())
		}
	}
}
