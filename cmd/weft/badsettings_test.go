package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is set wrong: status 2, nothing on the standard output, and one
// line that names the setting, says what is wrong, and where it is from.
func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := writeFile(t, " \n\n")
	cases := []struct {
		name string
		args []string // of serve, unless they begin with another command
		env  map[string]string
		yaml string
		want []string
	}{
		{name: "nothing", args: []string{}, want: []string{"weft --help"}},
		{name: "unknown command", args: []string{"server"}, want: []string{`"server", did you mean serve?`}},
		{name: "unknown topic", args: []string{"help", "me"}, want: []string{"me"}},

		{name: "no authorization", args: []string{"serve"}, want: []string{"--auth-jwt-secret", "--auth-jwks-url", "--auth-public-key-file", "--auth-webhook-url", "--dev"}},
		{name: "dev and authorization", args: []string{"serve", "--dev"}, env: withSecret, want: []string{"auth-jwt-secret", "dev", "(from WEFT_AUTH_JWT_SECRET)"}},
		{name: "two authorizations", args: []string{"serve", "--auth-jwks-url", "https://a.example/" + testSecret}, env: withSecret, want: []string{"auth-jwt-secret", "auth-jwks-url"}},
		{name: "guessable secret", args: []string{"serve"}, env: map[string]string{"WEFT_AUTH_JWT_SECRET": "15 bytes of it."}, want: []string{"auth-jwt-secret: the value has less than 16 bytes", "(from WEFT_AUTH_JWT_SECRET)"}},
		{name: "secret is a key", args: []string{"serve"}, env: map[string]string{"WEFT_AUTH_JWT_SECRET": "-----BEGIN PUBLIC KEY-----"}, want: []string{"auth-jwt-secret: ", "PEM"}},
		{name: "no key file", args: []string{"serve", "--auth-public-key-file", dir + "/none"}, want: []string{"auth-public-key-file: ", dir + "/none", "--auth-public-key-file"}},
		{name: "key file without key", args: []string{"serve", "--auth-public-key-file", file}, want: []string{"auth-public-key-file: ", "PEM"}},
		{name: "jwks url", args: []string{"serve", "--auth-jwks-url", "ftp://user:" + testSecret + "@h"}, want: []string{"auth-jwks-url: ", "not an http or https URL"}},
		{name: "webhook url", args: []string{"serve", "--auth-webhook-url", "h/" + testSecret}, want: []string{"auth-webhook-url: ", "not an http or https URL"}},
		{name: "webhook header", args: []string{"serve", "--auth-webhook-url", "http://h", "--auth-webhook-headers", "X-A,a b"}, want: []string{"auth-webhook-headers: ", "header"}},
		{name: "header without webhook", args: []string{"serve", "--auth-webhook-headers", "Cookie"}, env: withSecret, want: []string{"auth-webhook-headers: means nothing with auth-jwt-secret (from --auth-webhook-headers)"}},
		{name: "issuer without JWT", args: []string{"serve", "--auth-webhook-url", "http://h"}, env: map[string]string{"WEFT_AUTH_ISSUER": "me"}, want: []string{"auth-issuer: means nothing with auth-webhook-url (from WEFT_AUTH_ISSUER)"}},
		{name: "audience in dev", args: []string{"serve", "--dev", "--auth-audience", "me"}, want: []string{"auth-audience: means nothing with dev"}},
		{name: "claims alike", args: []string{"serve", "--auth-write-claim", "roomId"}, env: withSecret, want: []string{"auth-write-claim", "roomId"}},
		{name: "claim taken", args: []string{"serve", "--auth-room-claim", "exp"}, env: withSecret, want: []string{"auth-room-claim", "exp"}},

		{name: "duration by flag", args: []string{"serve", "--save-interval", "abc"}, want: []string{`save-interval: "abc" is not a duration`, "(from --save-interval)"}},
		{name: "duration by variable", args: []string{"serve"}, env: map[string]string{"WEFT_SAVE_INTERVAL": "abc"}, want: []string{`save-interval: "abc" is not a duration`, "(from WEFT_SAVE_INTERVAL)"}},
		{name: "duration by file", args: []string{"serve"}, yaml: "listen: :0\nsave-interval: abc\n", want: []string{`save-interval: "abc" is not a duration`, "weft.yaml, line 2)"}},
		{name: "duration without unit", args: []string{"serve"}, yaml: "save-interval: 2\n", want: []string{`save-interval: "2" is not a duration`}},
		{name: "duration of nothing", args: []string{"serve", "--ping-interval", "0s"}, want: []string{`ping-interval: "0s" is not between 1ms and`}},
		{name: "negative duration", args: []string{"serve", "--gather", "-1ms"}, want: []string{`gather: "-1ms" is not between 0s and`}},
		{name: "endless duration", args: []string{"serve", "--token-grace", "20000h"}, want: []string{"token-grace: ", "10000h"}},
		{name: "size", args: []string{"serve", "--max-queue-bytes", "8 parsecs"}, want: []string{`max-queue-bytes: "8 parsecs" is not a number of bytes`}},
		{name: "size with a comma", args: []string{"serve", "--max-queue-bytes", "1,5MB"}, want: []string{"max-queue-bytes: "}},
		{name: "negative size", args: []string{"serve", "--max-message-bytes", "-1"}, want: []string{"max-message-bytes: "}},
		{name: "tiny size", args: []string{"serve", "--max-message-bytes", "1023"}, want: []string{"max-message-bytes: ", "1KiB"}},
		{name: "vast size", args: []string{"serve", "--max-document-bytes", "9EiB"}, want: []string{"max-document-bytes: "}},
		{name: "count", args: []string{"serve", "--max-connections", "many"}, want: []string{`max-connections: "many" is not a whole number`}},
		{name: "count of none", args: []string{"serve", "--max-sessions-per-room", "0"}, want: []string{"max-sessions-per-room: ", "between 1 and"}},
		{name: "vast count", args: []string{"serve", "--max-buffer-length", "3000000000"}, want: []string{"max-buffer-length: "}},
		{name: "address", args: []string{"serve", "--listen", "8080"}, want: []string{`listen: "8080" is not an address`}},
		{name: "no address", args: []string{"serve", "--listen", ""}, want: []string{`listen: "" is not an address`}},
		{name: "port", args: []string{"serve", "--admin-listen", ":65536"}, want: []string{"admin-listen: ", "port"}},
		{name: "named port", args: []string{"serve", "--listen", ":http"}, want: []string{"listen: ", "port"}},
		{name: "choice", args: []string{"serve", "--store", "tape"}, want: []string{`store: "tape" is not one of file, memory`}},
		{name: "log level", args: []string{"serve"}, env: map[string]string{"WEFT_LOG_LEVEL": "loud"}, want: []string{"log-level: ", "debug, info, warn, error", "WEFT_LOG_LEVEL"}},
		{name: "switch", args: []string{"serve", "--dev=maybe"}, want: []string{`dev: "maybe" is not true or false`}},
		{name: "switch by variable", args: []string{"serve"}, env: map[string]string{"WEFT_PPROF": "on"}, want: []string{"pprof: ", "WEFT_PPROF"}},
		{name: "origin", args: []string{"serve", "--allowed-origins", "https://a.example,b.example"}, want: []string{"allowed-origins: ", "origin"}},
		{name: "origin with a path", args: []string{"serve", "--allowed-origins", "https://a.example/"}, want: []string{"allowed-origins: "}},
		{name: "any origin", args: []string{"serve", "--allowed-origins", "*"}, want: []string{"allowed-origins: "}},
		{name: "pprof nowhere", args: []string{"serve", "--dev", "--pprof", "--admin-listen", ""}, want: []string{"pprof: ", "admin-listen"}},
		{name: "no data folder", args: []string{"serve", "--dev", "--data-dir", ""}, want: []string{"data-dir: "}},
		{name: "data folder is a file", args: []string{"serve", "--dev", "--data-dir", file}, want: []string{"data-dir: ", file}},
		{name: "redis and a store", args: []string{"serve", "--dev", "--redis-url", "redis://h"}, want: []string{"store: means nothing with redis-url, since rooms are kept in Redis then (from --store)"}},
		{name: "join without redis", args: []string{"serve", "--dev", "--join", "a:1"}, want: []string{"join: means nothing without redis-url", "(from --join)"}},
		{name: "gossip key without redis", args: []string{"serve", "--dev"}, env: map[string]string{"WEFT_GOSSIP_KEY": "YS1zZWNyZXQtb2YtbW9yZS10aGFuLTMyLWJ5dGVzLWY="}, want: []string{"gossip-key: means nothing without redis-url", "(from WEFT_GOSSIP_KEY)"}},
		{name: "max log without redis", args: []string{"serve", "--dev"}, yaml: "max-log-bytes: 2MiB\n", want: []string{"max-log-bytes: means nothing without redis-url", "line 1)"}},
		{name: "redis url", args: []string{"serve", "--dev", "--redis-url", "http://:" + testSecret + "@h"}, want: []string{"redis-url: the value begins with none of redis://", "(from --redis-url)"}},
		{name: "redis url with a bare password", args: []string{"serve", "--dev"}, env: map[string]string{"WEFT_REDIS_URL": "redis://" + testSecret + "/@h"}, want: []string{"redis-url: the value has an @", "percent-encode", "(from WEFT_REDIS_URL)"}},
		{name: "redis prefix", args: []string{"serve", "--dev", "--redis-prefix", "{a}"}, want: []string{`redis-prefix: "{a}" has something else than letters`}},
		{name: "no redis prefix", args: []string{"serve", "--dev", "--redis-prefix="}, want: []string{`redis-prefix: "" must not be empty`}},
		{name: "node name", args: []string{"serve", "--dev", "--node-name", "a b"}, want: []string{`node-name: "a b" has something else than letters`}},
		{name: "long node name", args: []string{"serve", "--dev", "--node-name", strings.Repeat("a", 101)}, want: []string{"node-name: ", "100 bytes"}},
		{name: "join without a port", args: []string{"serve", "--dev", "--join", "a:1,b"}, want: []string{"join: ", "10.0.0.1:7946"}},
		{name: "join nobody", args: []string{"serve", "--dev", "--join", ":7946"}, want: []string{"join: "}},
		{name: "join at port 0", args: []string{"serve", "--dev", "--join", "a:0"}, want: []string{"join: "}},
		{name: "gossip nowhere", args: []string{"serve", "--dev", "--gossip-listen", ""}, want: []string{"gossip-listen: "}},
		{name: "advertise a name", args: []string{"serve", "--dev", "--gossip-advertise", "a.example:7946"}, want: []string{"gossip-advertise: ", "IP address"}},
		{name: "advertise anything", args: []string{"serve", "--dev", "--gossip-advertise", "0.0.0.0:7946"}, want: []string{"gossip-advertise: ", "one machine"}},
		{name: "advertise port 0", args: []string{"serve", "--dev", "--gossip-advertise", "10.0.0.1:0"}, want: []string{"gossip-advertise: ", "port"}},
		{name: "gossip key", args: []string{"serve", "--dev", "--gossip-key", testSecret}, want: []string{"gossip-key: the value is not base64"}},
		{name: "short gossip key", args: []string{"serve", "--dev", "--gossip-key", "YWJj"}, want: []string{"gossip-key: the value does not stand for 16, 24 or 32 bytes"}},
		{name: "secret and its file", args: []string{"serve", "--auth-jwt-secret-file", file}, env: withSecret, want: []string{"auth-jwt-secret: cannot be set together with auth-jwt-secret-file (from WEFT_AUTH_JWT_SECRET)"}},
		{name: "no secret file", args: []string{"serve", "--auth-jwt-secret-file", dir + "/none"}, want: []string{"auth-jwt-secret-file: ", `none" cannot be read: no such file`, "(from --auth-jwt-secret-file)"}},
		{name: "guessable secret in a file", args: []string{"serve", "--auth-jwt-secret-file", file}, want: []string{"auth-jwt-secret-file: ", "a secret, number 1 of 1, which has less than 16 bytes"}},
		{name: "secret file without any", args: []string{"serve", "--auth-jwt-secret-file", empty}, want: []string{"auth-jwt-secret-file: ", "has no line that is not empty"}},
		{name: "secret file without any, to sign", args: []string{"token", "--room", "r", "--auth-jwt-secret-file", empty}, want: []string{"auth-jwt-secret-file: ", "has no line that is not empty"}},
		{name: "guessable secret in a file, to sign", args: []string{"token", "--room", "r", "--auth-jwt-secret-file", file}, want: []string{"auth-jwt-secret-file: ", "less than 16 bytes"}},
		{name: "gossip key and its file", args: []string{"serve", "--dev", "--redis-url", "redis://h", "--gossip-key-file", file}, env: map[string]string{"WEFT_GOSSIP_KEY": "YWJj"}, want: []string{"gossip-key: cannot be set together with gossip-key-file"}},
		{name: "gossip key file", args: []string{"serve", "--dev", "--gossip-key-file", file}, want: []string{"gossip-key-file: ", "is not base64"}},
		{name: "redis url and its file", args: []string{"serve", "--dev", "--redis-url", "redis://h", "--redis-url-file", file}, want: []string{"redis-url: cannot be set together with redis-url-file"}},
		{name: "redis url file", args: []string{"serve", "--dev", "--redis-url-file", file}, want: []string{"redis-url-file: ", "is not a URL such as redis:"}},
		{name: "certificates without TLS", args: []string{"serve", "--dev", "--redis-url", "redis://h", "--redis-ca-file", file}, want: []string{"redis-ca-file: ", "rediss://"}},
		{name: "no certificates", args: []string{"serve", "--dev", "--redis-url", "rediss://h", "--redis-ca-file", file}, want: []string{"redis-ca-file: ", "has no certificate in PEM"}},
		{name: "no redis for the certificates", args: []string{"serve", "--dev", "--redis-ca-file", file}, want: []string{"redis-ca-file: means nothing without redis-url"}},
		{name: "short lease", args: []string{"serve", "--dev", "--lease-ttl", "100ms"}, want: []string{`lease-ttl: "100ms" is not between 200ms and`}},
		{name: "tiny log", args: []string{"serve", "--dev", "--max-log-bytes", "1KiB"}, want: []string{"max-log-bytes: ", "1MiB"}},

		{name: "long value", args: []string{"serve", "--listen", strings.Repeat("é", 100_000)}, want: []string{"listen: "}},
		{name: "value of two lines", args: []string{"serve", "--listen", "a\nb"}, want: []string{`listen: "a\nb"`}},

		{name: "unknown flag", args: []string{"serve", "--save-intervall=" + testSecret}, want: []string{"--save-intervall, did you mean --save-interval?", "weft serve --help"}},
		{name: "unknown short flag", args: []string{"serve", "-p"}, want: []string{"-p"}},
		{name: "flag without value", args: []string{"serve", "--listen"}, want: []string{"--listen needs a value"}},
		{name: "argument", args: []string{"serve", "--dev", testSecret}, want: []string{"serve takes flags only"}},

		{name: "no file", args: []string{"serve", "--config", dir + "/none.yaml"}, want: []string{"config: ", "none.yaml", "(from --config)"}},
		{name: "file is a folder", args: []string{"serve"}, env: map[string]string{"WEFT_CONFIG": dir}, want: []string{"config: ", dir, "(from WEFT_CONFIG)"}},
		{name: "unknown key", args: []string{"serve"}, yaml: "dev: true\nsave-intervall: 2s\n", want: []string{"weft.yaml", `line 2: unknown setting "save-intervall", did you mean save-interval?`}},
		{name: "the file in the file", args: []string{"serve"}, yaml: "config: other.yaml\n", want: []string{`unknown setting "config"`}},
		{name: "flag of another command", args: []string{"token"}, yaml: "room: r\n", want: []string{`unknown setting "room"`}},
		{name: "twice", args: []string{"serve"}, yaml: "dev: true\ndev: false\n", want: []string{"line 2: dev is there twice"}},
		{name: "no value", args: []string{"serve"}, yaml: "listen:\n", want: []string{"line 1: listen has no plain value"}},
		{name: "map for a value", args: []string{"serve"}, yaml: "listen: {port: 1}\n", want: []string{"listen has no plain value"}},
		{name: "list for a value", args: []string{"serve"}, yaml: "listen: [a]\n", want: []string{"listen has no plain value"}},
		{name: "list in a list", args: []string{"serve"}, yaml: "allowed-origins: [[a]]\n", want: []string{"allowed-origins has no plain value"}},
		{name: "no mapping", args: []string{"serve"}, yaml: "- dev\n", want: []string{"not a YAML mapping"}},
		{name: "two documents", args: []string{"serve"}, yaml: "dev: true\n---\ndev: true\n", want: []string{"more than one YAML document"}},
		{name: "no YAML", args: []string{"serve"}, yaml: "dev: true\n\tlisten: {\n", want: []string{"is not YAML: line"}},
		{name: "alias of nothing", args: []string{"serve"}, yaml: "auth-jwt-secret: *" + testSecret + "\n", want: []string{"is not YAML"}},
		{name: "vast file", args: []string{"serve"}, yaml: strings.Repeat("# no settings\n", 100_000), want: []string{"larger than"}},

		{name: "token without room", args: []string{"token"}, env: withSecret, want: []string{"room: ", "--room"}},
		{name: "token without secret", args: []string{"token", "--room", "r"}, want: []string{"auth-jwt-secret", "WEFT_AUTH_JWT_SECRET"}},
		{name: "token without time", args: []string{"token", "--room", "r", "--ttl", "0s"}, env: withSecret, want: []string{"ttl: "}},
		{name: "token with words for metadata", args: []string{"token", "--room", "r", "--metadata", "{a}"}, env: withSecret, want: []string{`metadata: "{a}" is not JSON`}},
		{name: "token with a claim that is taken", args: []string{"token", "--room", "r", "--auth-room-claim", "exp"}, env: withSecret, want: []string{"exp"}},

		{name: "canary without a URL", args: []string{"canary"}, env: withSecret, want: []string{"there is no URL", "weft canary --help"}},
		{name: "canary of no URL", args: []string{"canary", "ws://h", "h:8080/?token=" + testSecret}, env: withSecret, want: []string{"URL 2 is none"}},
		{name: "canary elsewhere", args: []string{"canary", "ftp://h"}, env: withSecret, want: []string{"URL 1 begins with none of ws://"}},
		{name: "canary without a token", args: []string{"canary", "ws://h"}, want: []string{"token: ", "auth-jwt-secret-file"}},
		{name: "canary with a claim that is taken", args: []string{"canary", "ws://h", "--auth-room-claim", "exp"}, env: withSecret, want: []string{"auth-room-claim: ", "JWT standard"}},
		{name: "load elsewhere", args: []string{"load", "--url", "ws://192.0.2.1"}, want: []string{"192.0.2.1", "loopback"}},
		{name: "load of no URL", args: []string{"load", "--url", "http://127.0.0.1/?token=" + testSecret}, want: []string{"url"}},
		{name: "unknown workload", args: []string{"load", "--workload", "sleep"}, want: []string{"workload: ", "idle"}},
		{name: "rate", args: []string{"load", "--rate", "-3"}, want: []string{`rate: "-3" is not a number above 0`}},
		{name: "too many clients", args: []string{"load", "--clients", "1000000"}, want: []string{"clients"}},
		{name: "snapshot of too much", args: []string{"load", "--write-snapshot", filepath.Join(dir, "s.json"), "--components", "99999999"}, want: []string{"components"}},
		{name: "load claims", args: []string{"load", "--auth-room-claim", "exp"}, env: withSecret, want: []string{"exp"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			env := map[string]string{}
			for name, value := range c.env {
				env[name] = value
			}
			if c.yaml != "" {
				env["WEFT_CONFIG"] = writeFile(t, c.yaml)
			}
			args := c.args
			if len(args) > 0 && args[0] == "serve" { // in case it does start
				args = append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", "file", "--data-dir", t.TempDir()}, args[1:]...)
			}
			code, stdout, stderr := weft(t, env, args...)
			if code != exitSetting || stdout != "" {
				t.Errorf("status %d, output %q", code, stdout)
			}
			line, rest, ok := strings.Cut(stderr, "\n")
			if !ok || rest != "" || !strings.HasPrefix(line, "weft: ") || len(line) > 1000 {
				t.Errorf("not one short line: %.2000q", stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("%q is not in %q", want, line)
				}
			}
			if strings.Contains(stderr, testSecret) {
				t.Errorf("a secret is shown: %s", stderr)
			}
		})
	}
}
