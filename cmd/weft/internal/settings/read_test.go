package settings

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "weft.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parse reads the settings of the server, and returns them and where each is
// from.
func parse(t *testing.T, env map[string]string, args ...string) (o *Server, from map[string]string) {
	t.Helper()
	o, from = new(Server), map[string]string{}
	table := o.Table()
	if _, problems := table.Read(Sources{Command: "weft serve", Args: args, Env: env, InFile: table}); len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, s := range table.All() {
		from[s.Name] = s.from
	}
	return o, from
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

func sample(s *Setting) [2]string {
	if s.Name == "redis-url" {
		return [2]string{"redis://eleven", "redis+sentinel://twelve/m"}
	}
	if values, ok := samples[s.Kind.metavar]; ok {
		return values
	}
	return [2]string{"eleven", "twelve"}
}

// Every setting takes the value of the flag before that of the environment
// before that of the file, whichever of them there are.
func TestFlagBeforeEnvironmentBeforeFile(t *testing.T) {
	for i, s := range new(Server).Table().All() {
		win, lose := sample(s)[0], sample(s)[1]
		// Bit 2 is the flag, bit 1 the environment, bit 0 the file.
		for sources := range 8 {
			value := func(bit int) string {
				if sources>>bit == 1 { // the highest that there is
					return win
				}
				return lose
			}
			want, _ := parse(t, nil)
			wantFrom := ""
			if sources > 0 {
				if err := want.Table().All()[i].Kind.set(win); err != nil {
					t.Fatalf("%s cannot be %q: %v", s.Name, win, err)
				}
			}
			var args []string
			env := map[string]string{}
			if sources&1 != 0 {
				path := writeFile(t, "# a comment\n"+s.Name+": "+value(0)+"\n")
				env["WEFT_CONFIG"], wantFrom = path, path+", line 2"
			}
			if sources&2 != 0 {
				env[s.Env()], wantFrom = value(1), s.Env()
			}
			if sources&4 != 0 {
				args, wantFrom = []string{"--" + s.Name + "=" + value(2)}, "--"+s.Name
			}
			got, from := parse(t, env, args...)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s from %q:\ngot  %+v\nwant %+v", s.Name, wantFrom, got, want)
			}
			if from[s.Name] != wantFrom {
				t.Errorf("%s is from %q, want %q", s.Name, from[s.Name], wantFrom)
			}
		}
	}
}

func TestConfigFlagBeforeEnvironment(t *testing.T) {
	a, b := writeFile(t, "save-interval: 3s\n"), writeFile(t, "save-interval: 4s\ndata-dir: elsewhere\n")
	o, _ := parse(t, map[string]string{"WEFT_CONFIG": b}, "--config", a)
	if o.Rooms.SaveInterval != 3*time.Second || o.DataDir != "./data" {
		t.Errorf("save-interval %v, data-dir %q", o.Rooms.SaveInterval, o.DataDir)
	}
}

func TestListsAreYAMLListsToo(t *testing.T) {
	o, _ := parse(t, nil, "--config", writeFile(t, "allowed-origins:\n  - https://a.example\n  - https://b.example\n"))
	if want := []string{"https://a.example", "https://b.example"}; !slices.Equal(o.Sockets.AllowedOrigins, want) {
		t.Errorf("got %q, want %q", o.Sockets.AllowedOrigins, want)
	}
}

func TestEmptyVariables(t *testing.T) {
	env := map[string]string{}
	for _, s := range new(Server).Table().All() {
		env[s.Env()] = ""
	}
	want, _ := parse(t, nil)
	want.AdminListen = "" // where empty is a value
	if got, _ := parse(t, env); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSwitches(t *testing.T) {
	for text, want := range map[string]bool{"--dev": true, "--dev=true": true, "--dev=false": false, "--dev=0": false} {
		if o, _ := parse(t, map[string]string{"WEFT_DEV": "true"}, text); o.Dev != want {
			t.Errorf("%s: got %v", text, o.Dev)
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
	"redis-url": "", "redis-url-file": "", "redis-ca-file": "", "gossip-key-file": "", "auth-jwt-secret-file": "", "auth-negative-ttl": "10s", "redis-prefix": "weft:", "node-name": "", "join": "", "gossip-listen": ":7946", "gossip-advertise": "", "peer-listen": ":7947", "peer-advertise": "", "gossip-key": "",
	"lease-ttl": "2s", "accept-rate": "0", "max-connection-age": "0s", "rebalance": "false", "drain-rate": "1000", "start-timeout": "1m", "drain-timeout": "45s", "max-session-buffer": "1MiB", "max-node-buffer": "64MiB", "max-log-bytes": "32MiB", "max-out-bytes": "64MiB",
	"auth-jwt-secret": "", "auth-jwks-url": "", "auth-public-key-file": "", "auth-webhook-url": "", "auth-webhook-headers": "",
	"auth-room-claim": "roomId", "auth-write-claim": "canWrite", "auth-metadata-claim": "metadata", "auth-issuer": "", "auth-audience": "",
}

func TestHelpListsEverySetting(t *testing.T) {
	table := new(Server).Table()
	var names []string
	for _, s := range table.All() {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(promised)); !slices.Equal(names, want) {
		t.Fatalf("settings are\n%s, want\n%s", names, want)
	}
	paragraphs := map[string]string{}
	for _, part := range strings.Split("\n"+table.Help(true), "\n  --")[1:] {
		name, _, _ := strings.Cut(strings.SplitN(part, "\n", 2)[0], " ")
		paragraphs[name] = strings.Join(strings.Fields(part), " ")
	}
	defaults, _ := parse(t, nil)
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
		if got, _ := parse(t, nil, "--"+name+"="+initial); !reflect.DeepEqual(got, defaults) {
			t.Errorf("--%s=%s is not the default: %+v", name, initial, got)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	got := new(Server).Table().UnknownVariables(map[string]string{
		"WEFT_LISTEN": "", "WEFT_CONFIG": "", "WEFT_SAVE_INTERVALL": "2s", "WEFT_PASSWORD": "x", "OTHER": "y", "weft_dev": "z",
		"WEFT_PORT": "tcp://10.0.0.1:8080", "WEFT_PORT_8080_TCP_ADDR": "10.0.0.1", "WEFT_SERVICE_HOST": "10.0.0.1", "WEFT_SERVICE_PORT_HTTP": "8080",
		"WEFT_REDIS_PORT": "tcp://10.0.0.1:6379", "WEFT_ADMIN_SERVICE_HOST": "10.0.0.1", "WEFT_ADMIN_PORT": "9090",
	})
	want := []Unknown{{"WEFT_ADMIN_PORT", ""}, {"WEFT_PASSWORD", ""}, {"WEFT_SAVE_INTERVALL", ", did you mean WEFT_SAVE_INTERVAL?"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is printed can be read back, and is the same then.
func TestWriteYAML(t *testing.T) {
	for name, args := range map[string][]string{
		"one node": {"--dev", "--allowed-origins=https://a.example,https://b.example", "--admin-listen=", "--gather=0s", "--data-dir=a: #b", "--log-format=json"},
		"memory":   {"--auth-issuer=true", "--auth-audience=12", "--auth-jwks-url=https://keys.example", "--store=memory", "--save-interval=3s"},
		"webhook":  {"--auth-webhook-url=https://hook.example", "--auth-webhook-headers=Cookie"},
		"cluster":  {"--dev", "--redis-url=redis://h", "--join=a:1,b:2", "--node-name=yes", "--gossip-key=c2l4dGVlbiBieXRlcyAxMQ=="},
	} {
		t.Run(name, func(t *testing.T) {
			read := func(args ...string) (*Server, Table) {
				o := new(Server)
				table := o.Table()
				if problems := o.Read(table, Sources{Command: "weft serve", Args: args}); len(problems) > 0 {
					t.Fatal(problems)
				}
				return o, table
			}
			was, table := read(args...)
			var text strings.Builder
			if err := was.WriteYAML(&text, table); err != nil {
				t.Fatal(err)
			}
			again := []string{"--config", writeFile(t, text.String())}
			for _, s := range table.All() {
				if !s.Secret {
					continue
				}
				if s.IsSet() != strings.Contains(text.String(), "\n"+s.Name+`: "***" # from --`+s.Name) || s.IsSet() && strings.Contains(text.String(), s.text) {
					t.Errorf("%s is set: %v\n%s", s.Name, s.IsSet(), &text)
				}
				if s.IsSet() { // who reads it back knows it
					again = append(again, "--"+s.Name+"="+s.text)
				}
			}
			if now, _ := read(again...); !reflect.DeepEqual(now, was) {
				t.Errorf("read back it is\n%+v\nwant\n%+v\n%s", now, was, &text)
			}
		})
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"listen", "admin-listen", "max-connections", "dev"}
	for text, want := range map[string]string{
		"lisen": "listen", "max-conections": "max-connections", "admin-lsten": "admin-listen", "deb": "dev", "lisetn": "listen",
		"": "", "tape": "", "listen-where": "", "maximum": "",
	} {
		if want != "" {
			want = ", did you mean " + want + "?"
		}
		if got := Suggest("", text, known); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
