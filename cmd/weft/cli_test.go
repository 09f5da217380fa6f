package main

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testSecret = "a-secret-of-more-than-32-bytes-for-tests"

// weft runs the program to its end.
func weft(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"weft"}, args...), pairs(env), &out, &errs)
	return code, out.String(), errs.String()
}

func pairs(env map[string]string) []string {
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

func writeFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "weft.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parse reads the settings of serve as `weft serve` does, and returns them
// and where each is from instead of serving.
func parse(t *testing.T, env map[string]string, args ...string) (o options, from map[string]string) {
	t.Helper()
	o, from = options{}, map[string]string{}
	settings := o.settings()
	var errs bytes.Buffer
	p := &program{env: newEnvironment(pairs(env)), stdout: &errs, stderr: &errs}
	ran := false
	serve := p.command("serve", "", &configFile{known: settings}, settings, func(context.Context) error {
		ran = true
		return nil
	})
	if code := p.run(t.Context(), append([]string{"weft", "serve"}, args...), serve); code != exitOK || !ran {
		t.Fatalf("status %d: %s", code, errs.String())
	}
	for _, s := range settings {
		from[s.name] = s.from
	}
	return bare(o), from
}

// bare leaves of options what can be compared.
func bare(o options) options {
	o.auth.kinds, o.auth.jwtOnly, o.auth.webhookOnly = nil, nil, nil
	o.local, o.cluster.means = nil, nil
	return o
}

// samples are two values for every kind of setting.
var samples = map[string][2]string{
	"":                      {"true", "false"},
	"DURATION":              {"11s", "12s"},
	"BYTES":                 {"11MiB", "12MB"},
	"N":                     {"11", "12"},
	"HOST:PORT":             {"127.0.0.1:11", ":12"},
	"ORIGIN,…":              {"https://a.example,https://b.example:8443", "http://c.example"},
	"NAME,…":                {"Cookie,X-Forwarded-For", "Origin"},
	"file|memory":           {"memory", "file"},
	"text|json":             {"json", "text"},
	"debug|info|warn|error": {"debug", "error"},
	"SECRET":                {"sixteen bytes 11", "sixteen bytes 12"},
	"HOST:PORT,…":           {"a.example:11,[::1]:12", "127.0.0.1:13"},
	"IP[:PORT]":             {"10.0.0.1:11", "::1"},
	"KEY":                   {"c2l4dGVlbiBieXRlcyAxMQ==", "c2l4dGVlbiBieXRlcyAxMg=="},
}

func sample(s *setting) [2]string {
	if s.name == "redis-url" {
		return [2]string{"redis://eleven", "redis+sentinel://twelve/m"}
	}
	if values, ok := samples[s.metavar]; ok {
		return values
	}
	return [2]string{"eleven", "twelve"}
}

// Every setting takes the value of the flag before that of the environment
// before that of the file, whichever of them there are.
func TestFlagBeforeEnvironmentBeforeFile(t *testing.T) {
	for i, s := range new(options).settings() {
		win, lose := sample(s)[0], sample(s)[1]
		// Bit 2 is the flag, bit 1 the environment, bit 0 the file.
		for sources := range 8 {
			value := func(bit int) string {
				if sources>>bit == 1 { // the highest that there is
					return win
				}
				return lose
			}
			var want options
			wantFrom := ""
			if sources > 0 {
				if err := want.settings()[i].set(win); err != nil {
					t.Fatalf("%s cannot be %q: %v", s.name, win, err)
				}
			} else {
				want.settings()
			}
			var args []string
			env := map[string]string{}
			if sources&1 != 0 {
				path := writeFile(t, "# a comment\n"+s.name+": "+value(0)+"\n")
				env["WEFT_CONFIG"], wantFrom = path, path+", line 2"
			}
			if sources&2 != 0 {
				env[s.env()], wantFrom = value(1), s.env()
			}
			if sources&4 != 0 {
				args, wantFrom = []string{"--" + s.name + "=" + value(2)}, "--"+s.name
			}
			got, from := parse(t, env, args...)
			if !reflect.DeepEqual(got, bare(want)) {
				t.Errorf("%s from %q:\ngot  %+v\nwant %+v", s.name, wantFrom, got, bare(want))
			}
			if from[s.name] != wantFrom {
				t.Errorf("%s is from %q, want %q", s.name, from[s.name], wantFrom)
			}
		}
	}
}

func TestConfigFlagBeforeEnvironment(t *testing.T) {
	a, b := writeFile(t, "save-interval: 3s\n"), writeFile(t, "save-interval: 4s\ndata-dir: elsewhere\n")
	o, _ := parse(t, map[string]string{"WEFT_CONFIG": b}, "--config", a)
	if o.saveInterval != 3*time.Second || o.dataDir != "./data" {
		t.Errorf("save-interval %v, data-dir %q", o.saveInterval, o.dataDir)
	}
}

func TestListsAreYAMLListsToo(t *testing.T) {
	o, _ := parse(t, nil, "--config", writeFile(t, "allowed-origins:\n  - https://a.example\n  - https://b.example\n"))
	if want := []string{"https://a.example", "https://b.example"}; !slices.Equal(o.allowedOrigins, want) {
		t.Errorf("got %q, want %q", o.allowedOrigins, want)
	}
}

func TestEmptyVariables(t *testing.T) {
	env := map[string]string{}
	for _, s := range new(options).settings() {
		env[s.env()] = ""
	}
	var want options
	want.settings()
	want.adminListen = "" // where empty is a value
	if got, _ := parse(t, env); !reflect.DeepEqual(got, bare(want)) {
		t.Errorf("got  %+v\nwant %+v", got, bare(want))
	}
}

func TestSwitches(t *testing.T) {
	for text, want := range map[string]bool{"--dev": true, "--dev=true": true, "--dev=false": false, "--dev=0": false} {
		if o, _ := parse(t, map[string]string{"WEFT_DEV": "true"}, text); o.dev != want {
			t.Errorf("%s: got %v", text, o.dev)
		}
	}
}

// The names and defaults that others rely on.
var promised = map[string]string{
	"listen": ":8080", "admin-listen": "127.0.0.1:9090", "allowed-origins": "", "pprof": "false", "dev": "false",
	"store": "file", "data-dir": "./data", "save-interval": "2s", "room-idle-timeout": "1m",
	"max-message-bytes": "32MiB", "max-buffer-length": "1000000", "max-document-bytes": "256MiB", "max-presence-bytes": "4MiB",
	"max-sessions-per-room": "10000", "max-connections": "100000", "max-queue-bytes": "8MiB",
	"gather": "4ms", "ping-interval": "25s", "pong-timeout": "10s", "handshake-timeout": "10s", "write-timeout": "10s",
	"token-grace": "25s", "shutdown-timeout": "30s", "log-level": "info", "log-format": "text",
	"redis-url": "", "redis-prefix": "weft:", "node-name": "", "join": "", "gossip-listen": ":7946", "gossip-advertise": "", "gossip-key": "",
	"lease-ttl": "2s", "drain-timeout": "45s", "max-session-buffer": "1MiB", "max-node-buffer": "64MiB", "max-log-bytes": "32MiB", "max-out-bytes": "64MiB",
	"auth-jwt-secret": "", "auth-jwks-url": "", "auth-public-key-file": "", "auth-webhook-url": "", "auth-webhook-headers": "",
	"auth-room-claim": "roomId", "auth-write-claim": "canWrite", "auth-metadata-claim": "metadata", "auth-issuer": "", "auth-audience": "",
}

func TestHelpListsEverySetting(t *testing.T) {
	var names []string
	for _, s := range new(options).settings() {
		names = append(names, s.name)
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(promised)); !slices.Equal(names, want) {
		t.Fatalf("settings are\n%s, want\n%s", names, want)
	}
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret}
	code, help, stderr := weft(t, env, "serve", "--auth-jwt-secret", testSecret+"2", "--help")
	if code != 0 || stderr != "" {
		t.Fatalf("status %d: %s", code, stderr)
	}
	if strings.Contains(help, testSecret) {
		t.Error("the help shows the secret")
	}
	paragraphs := map[string]string{}
	for _, part := range strings.Split(help, "\n  --")[1:] {
		name, _, _ := strings.Cut(strings.SplitN(part, "\n", 2)[0], " ")
		paragraphs[name] = strings.Join(strings.Fields(part), " ")
	}
	promised := maps.Clone(promised)
	promised["config"] = ""
	for name, initial := range promised {
		want := "[WEFT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if initial != "" {
			want += ", default " + initial
		}
		if !strings.Contains(paragraphs[name], want+"]") {
			t.Errorf("--%s: %q, want %q in it", name, paragraphs[name], want+"]")
		}
		if initial == "" {
			continue
		}
		// The default is what it says: setting it changes nothing.
		if got, _ := parse(t, nil, "--"+name+"="+initial); !reflect.DeepEqual(got, defaults(t)) {
			t.Errorf("--%s=%s is not the default: %+v", name, initial, got)
		}
	}
}

func defaults(t *testing.T) options {
	t.Helper()
	o, _ := parse(t, nil)
	return o
}

func TestHelpOfTheProgram(t *testing.T) {
	code, out, stderr := weft(t, nil, "--help")
	for _, want := range []string{"serve", "token", "load", "version"} {
		if code != 0 || stderr != "" || !strings.Contains(out, want) {
			t.Errorf("status %d, %q not in:\n%s%s", code, want, out, stderr)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	var settings options
	got := environment{
		"WEFT_LISTEN": "", "WEFT_SAVE_INTERVALL": "2s", "WEFT_ADMIN": "x", "OTHER": "y", "weft_dev": "z",
		"WEFT_PORT": "tcp://10.0.0.1:8080", "WEFT_PORT_8080_TCP_ADDR": "10.0.0.1", "WEFT_SERVICE_HOST": "10.0.0.1", "WEFT_SERVICE_PORT_HTTP": "8080",
	}.unknown(settings.settings())
	if want := []string{"WEFT_ADMIN", "WEFT_SAVE_INTERVALL"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
