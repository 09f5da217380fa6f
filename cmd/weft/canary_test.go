package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/authz"
)

func TestCanary(t *testing.T) {
	s := start(t, withSecret, "--store", "memory")
	secret := "--auth-jwt-secret-file=" + writeFile(t, "\n"+testSecret+"\nthe-one-before-which-is-not-used\n")
	for name, args := range map[string][]string{
		"through one URL": {"ws://" + s.listen, secret},
		"through three":   {"http://" + s.listen + "/a?x=1", "ws://" + s.listen + "/b", "ws://" + s.listen, secret, "--timeout", "20s"},
		"with a token":    {"--token", mint(t, "other"), "ws://" + s.listen, "--room", "other"},
		"with a secret":   {"ws://" + s.listen, "--auth-jwt-secret", testSecret},
		"every address":   {"--every-address", "ws://" + strings.Replace(s.listen, "127.0.0.1", "localhost", 1), secret},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := weft(t, nil, append([]string{"canary"}, args...)...)
			if code != exitOK || stderr != "" || strings.Contains(out, "eyJ") {
				t.Fatalf("status %d: %s%s", code, out, stderr)
			}
			urls := max(2, strings.Count(strings.Join(args, " "), "://"))
			for hop, times := range map[string]int{"connect": urls, "ack": 1, "delete": 1, "broadcast": 2 * (urls - 1)} {
				if n := len(regexp.MustCompile(`(?m)^`+hop+` +ws://\S+.* [0-9.]+ ms$`).FindAllString(out, -1)); n != times {
					t.Errorf("%s %d times, want %d:\n%s", hop, n, times, out)
				}
			}
			if !strings.Contains(out, "\nok: ") {
				t.Errorf("no summary:\n%s", out)
			}
		})
	}
	// Nothing is left of it but that it is gone.
	conn := s.dial(t, "weft-canary", mint(t, "weft-canary"))
	send(t, conn, `{"type":"reconnect","lastTimestamp":0,"protocolVersion":2}`)
	awaitText(t, conn, `{"weft-canary/probe":{"_exists":false}}`)
}

// What failed is told, and where.
func TestCanaryFails(t *testing.T) {
	s, other := start(t, withSecret, "--store", "memory"), start(t, withSecret, "--store", "memory")
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Weft-Reason", "draining")
		http.Error(w, "server is restarting", http.StatusServiceUnavailable)
	}))
	defer refusing.Close()
	readonly, err := authz.Mint([]byte(testSecret), authz.MintConfig{Room: "weft-canary", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	secret := "--auth-jwt-secret=" + testSecret
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"refused":       {[]string{secret, "ws://" + s.listen, refusing.URL}, "connect " + strings.Replace(refusing.URL, "http", "ws", 1) + ": answered with 503 Service Unavailable (draining): server is restarting"},
		"another room":  {[]string{"ws://" + s.listen, "--token", mint(t, "elsewhere")}, "): answered with 403 Forbidden (wrong_room): token is for another room"},
		"nobody there":  {[]string{secret, "ws://" + freeAddress(t)}, "no connection: connection refused"},
		"silence":       {[]string{secret, "ws://" + silent.Addr().String(), "--timeout", "100ms"}, "no connection: the timeout of 100ms is over"},
		"not shared":    {[]string{secret, "ws://" + s.listen, "ws://" + other.listen, "--timeout", "300ms"}, "broadcast ws://" + other.listen + ": waiting for the edit"},
		"may not write": {[]string{"ws://" + s.listen, "--token", readonly, "--timeout", "300ms"}, "broadcast ws://" + s.listen + " (2): waiting for the edit, which a client that may not write cannot make: the timeout of 300ms is over"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := weft(t, nil, append([]string{"canary"}, c.args...)...)
			if code != exitFailed || !strings.HasPrefix(stderr, "weft: ") || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("status %d: %s\n%s\nwant %s", code, out, stderr, c.want)
			}
			if strings.Contains(stderr, "eyJ") || strings.Contains(out, "\nok: ") {
				t.Errorf("%s%s", out, stderr)
			}
		})
	}
}
