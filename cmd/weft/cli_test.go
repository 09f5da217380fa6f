package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestHelpHidesSecrets(t *testing.T) {
	env := map[string]string{"WEFT_AUTH_JWT_SECRET": testSecret}
	code, help, stderr := weft(t, env, "serve", "--auth-jwt-secret", testSecret+"2", "--help")
	if code != 0 || stderr != "" || !strings.Contains(help, "--auth-jwt-secret SECRET") || strings.Contains(help, testSecret) {
		t.Errorf("status %d: %s%s", code, help, stderr)
	}
}

func TestHelpOfTheProgram(t *testing.T) {
	if code, out, stderr := weft(t, nil, "help", "config", "check"); code != 0 || stderr != "" || !strings.Contains(out, "weft config check - ") || !strings.Contains(out, "--save-interval") {
		t.Errorf("status %d:\n%s%s", code, out, stderr)
	}
	for _, args := range [][]string{{"config", "--help"}, {"help", "config"}} {
		if code, out, stderr := weft(t, nil, args...); code != 0 || stderr != "" || !strings.Contains(out, "weft config print") {
			t.Errorf("%q: status %d:\n%s%s", args, code, out, stderr)
		}
	}
	code, out, stderr := weft(t, nil, "--help")
	for _, want := range []string{"serve", "config check", "config print", "token", "canary", "load", "version"} {
		if code != 0 || stderr != "" || !strings.Contains(out, want) {
			t.Errorf("status %d, %q not in:\n%s%s", code, want, out, stderr)
		}
	}
}
