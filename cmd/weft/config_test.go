package main

import (
	"os"
	"strings"
	"testing"
)

func TestConfigCheck(t *testing.T) {
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret, "WEFT_LISTN": "x"}
	code, out, stderr := weft(t, env, "config", "check", "--listen", ":1")
	if code != exitOK || out != "OK\n" || stderr != "weft: WEFT_LISTN is no setting, did you mean WEFT_LISTEN?\n" {
		t.Errorf("status %d, %q, %q", code, out, stderr)
	}
	// Every problem is told, on a line of its own.
	env["WEFT_CONFIG"] = writeFile(t, "listn: x\nping-interval: often\nnode-name: a b\njoin: a:1\nlease-ttl: 1ms\n")
	code, out, stderr = weft(t, env, "config", "check", "--gather", "x", "--redis-url", "redis://h", "--data-dir", "d", "--auth-webhook-headers", "Cookie")
	for _, want := range []string{
		`line 1: unknown setting "listn", did you mean listen? (from WEFT_CONFIG)`, `gather: "x" is not a duration`, `ping-interval: "often" is not`,
		`node-name: "a b" has something else`, `lease-ttl: "1ms" is not between 200ms and`, "data-dir: means nothing with redis-url", "auth-webhook-headers: means nothing with auth-jwt-secret",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
	if code != exitSetting || out != "" || strings.Count(stderr, "\n") != 8 || strings.Contains(stderr, testSecret) {
		t.Errorf("status %d, %q\n%s", code, out, stderr)
	}
}

func TestConfigPrint(t *testing.T) {
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret, "WEFT_SAVE_INTERVAL": "3s"}
	code, out, stderr := weft(t, env, "config", "print", "--store", "memory")
	for _, want := range []string{"listen: :8080 # default\n", "\nstore: memory # from --store\n", "\nsave-interval: 3s # from WEFT_SAVE_INTERVAL\n", "\nauth-jwt-secret: \"***\" # from WEFT_AUTH_JWT_SECRET\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != exitOK || stderr != "" || strings.Contains(out, testSecret) || strings.Contains(out, "redis-prefix") {
		t.Errorf("status %d, %q\n%s", code, stderr, out)
	}
	env["WEFT_CONFIG"] = writeFile(t, out)
	if code, _, stderr := weft(t, env, "config", "check"); code != exitOK || stderr != "" {
		t.Errorf("it cannot be read back: status %d, %s", code, stderr)
	}
	if code, out, stderr := weft(t, nil, "config", "print"); code != exitSetting || out != "" || !strings.Contains(stderr, "authorization: ") {
		t.Errorf("status %d, %q, %q", code, out, stderr)
	}
}

func TestSettingsReferenceIsCurrent(t *testing.T) {
	code, want, stderr := weft(t, nil, "config", "reference")
	if code != exitOK || stderr != "" {
		t.Fatalf("status %d: %s", code, stderr)
	}
	got, err := os.ReadFile("../../docs/settings.md")
	if err != nil || string(got) != want {
		t.Errorf("docs/settings.md is not what the settings say, run `make docs` (%v)", err)
	}
}
