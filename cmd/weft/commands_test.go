package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cmd/weft/internal/load"
	"github.com/weftsync/weft/room"
)

func TestToken(t *testing.T) {
	cases := []struct {
		name  string
		args  []string
		env   map[string]string
		yaml  string
		check authz.JWTConfig
		want  room.Grant
		ttl   time.Duration
	}{
		{name: "readonly", env: withSecret, want: room.Grant{Permission: room.ReadOnly}, ttl: time.Hour},
		{name: "all", env: withSecret,
			args:  []string{"--write", "--ttl", "90s", "--metadata", `{"name":"Ada"}`, "--auth-issuer", "i", "--auth-audience", "a", "--auth-room-claim", "room", "--auth-write-claim", "w", "--auth-metadata-claim", "m"},
			check: authz.JWTConfig{Issuer: "i", Audience: "a", Claims: authz.ClaimNames{Room: "room", Write: "w", Metadata: "m"}},
			want:  room.Grant{Permission: room.ReadWrite, Metadata: json.RawMessage(`{"name":"Ada"}`)}, ttl: 90 * time.Second},
		{name: "with the server's file",
			yaml:  "listen: :8080\nauth-jwt-secret: " + testSecret + "\nauth-issuer: us\n",
			check: authz.JWTConfig{Issuer: "us"},
			want:  room.Grant{Permission: room.ReadOnly}, ttl: time.Hour},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			env := c.env
			if c.yaml != "" {
				env = map[string]string{"WEFT_CONFIG": writeFile(t, c.yaml)}
			}
			before := time.Now().Truncate(time.Second)
			code, out, stderr := weft(t, env, append([]string{"token", "--room", "a room"}, c.args...)...)
			if code != exitOK || stderr != "" {
				t.Fatalf("status %d: %s", code, stderr)
			}
			token, ok := strings.CutSuffix(out, "\n")
			if !ok || strings.ContainsAny(token, " \n") {
				t.Fatalf("printed %q", out)
			}
			c.check.Secret = []byte(testSecret)
			verify, err := authz.NewJWT(t.Context(), c.check)
			if err != nil {
				t.Fatal(err)
			}
			defer verify.Close()
			grant, err := verify.Authorize(t.Context(), authz.Info{RoomID: "a room", ClientID: "c", Token: token})
			if err != nil {
				t.Fatal(err)
			}
			if grant.Permission != c.want.Permission || string(grant.Metadata) != string(c.want.Metadata) {
				t.Errorf("got %+v, want %+v", grant, c.want)
			}
			if earliest, latest := before.Add(c.ttl), time.Now().Add(c.ttl); grant.Expires.Before(earliest) || grant.Expires.After(latest) {
				t.Errorf("expires %v, want between %v and %v", grant.Expires, earliest, latest)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	s := start(t, withSecret, "--store", "memory")
	args := []string{"load", "--url", "ws://" + s.listen, "--workload", "pen", "--rooms", "2", "--clients", "3", "--writers", "1", "--duration", "200ms", "--warmup", "0s"}
	code, out, stderr := weft(t, withSecret, append(args, "--json")...)
	if code != exitOK || stderr != "" {
		t.Fatalf("status %d: %s", code, stderr)
	}
	var report load.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Workload != load.Pen || report.Connected != 6 || report.WritersPerRoom != 1 || report.Sends == 0 || report.Delivered != 2*report.Sends {
		t.Errorf("got %+v", report)
	}
	code, out, _ = weft(t, nil, append(args, "--token", mint(t, "load-0"), "--rooms", "1")...)
	if code != exitOK || !strings.HasPrefix(out, "workload ") {
		t.Errorf("status %d:\n%s", code, out)
	}
}

func TestLoadOnNobody(t *testing.T) {
	code, out, stderr := weft(t, nil, "load", "--url", "ws://127.0.0.1:1", "--ramp-timeout", "300ms", "--duration", "10ms")
	if code != exitFailed || out != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "weft: ") {
		t.Errorf("status %d, output %q, error %q", code, out, stderr)
	}
}

func TestLoadWritesASnapshot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "load-0.json")
	if code, _, stderr := weft(t, nil, "load", "--write-snapshot", path, "--components", "7"); code != exitOK {
		t.Fatalf("status %d: %s", code, stderr)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var snapshot struct{ State map[string]any }
	if err := json.Unmarshal(text, &snapshot); err != nil || len(snapshot.State) != 7 {
		t.Errorf("%d components, %v", len(snapshot.State), err)
	}
}

func TestVersion(t *testing.T) {
	code, out, stderr := weft(t, nil, "version")
	if code != exitOK || stderr != "" || !strings.HasPrefix(out, "weft ") || !strings.Contains(out, ", go1.") || strings.Count(out, "\n") != 1 {
		t.Errorf("status %d: %q %q", code, out, stderr)
	}
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	if got, want := whatWasBuilt("", "", info).String(), "weft v1.2.3, commit abc of 2026-01-02T03:04:05Z, changed, go1."; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q…", got, want)
	}
	if got, want := whatWasBuilt("v1.2.4-1-gdef", "def", info).String(), "weft v1.2.4-1-gdef, commit def, go1."; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q…", got, want)
	}
}
