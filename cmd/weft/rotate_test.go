package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/authz"
	"github.com/weftsync/weft/cluster"
	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// readServer reads settings of the server as `weft serve` does.
func readServer(t *testing.T, args ...string) *settings.Server {
	t.Helper()
	o := new(settings.Server)
	if problems := o.Read(o.Table(), settings.Sources{Command: "weft serve", Args: args}); len(problems) > 0 {
		t.Fatal(problems)
	}
	return o
}

// A secret is replaced in three steps, in none of which a token is refused that
// was good before and after it.
func TestSecretsAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const other = "another-secret-of-more-than-32-bytes"
	write("\n  " + testSecret + " \r\n\n")
	lines := newLogLines()
	log := newLogger(lines, "info", "text")
	files := &rotation{log: log}
	auth, closeAuth, err := authorizer(t.Context(), readServer(t, "--auth-jwt-secret-file", path, "--auth-negative-ttl", "0s"), new(health), files, log)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAuth()
	good := func(secret string) bool {
		token, err := authz.Mint([]byte(secret), authz.MintConfig{Room: "r", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		_, err = auth.Authorize(t.Context(), authz.Info{RoomID: "r", ClientID: "c", Token: token})
		return err == nil
	}
	for _, step := range []struct {
		content    string
		old, young bool
		logged     string // since the step before
	}{
		{"\n  " + testSecret + " \r\n\n", true, false, ""},
		{other + "\n" + testSecret, true, true, "what it holds is in use"},
		{other + "\n", false, true, "what it holds is in use"},
		{"too short", false, true, `auth-jwt-secret-file: \"` + path + `\" has a secret, number 1 of 1, which has less than 16 bytes`},
		{"too short", false, true, ""},
		{"", false, true, "has no secret"},
		{testSecret, true, false, "what it holds is in use"},
	} {
		write(step.content)
		before := len(lines.String())
		files.files[0].look(log)
		if got := lines.String()[before:]; !strings.Contains(got, step.logged) || step.logged == "" && got != "" || strings.Contains(got, other) || strings.Contains(got, testSecret) {
			t.Errorf("%q: logged %q, want %q", step.content, got, step.logged)
		}
		if old, young := good(testSecret), good(other); old != step.old || young != step.young {
			t.Errorf("%q: the old secret is good: %v, the new one: %v", step.content, old, young)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	files.files[0].look(log)
	if !strings.Contains(lines.String(), "cannot be read: no such file") || !good(testSecret) {
		t.Errorf("without the file: %s", lines)
	}
}

// The files are looked at again and again, until that is stopped.
func TestRotationRuns(t *testing.T) {
	path := writeFile(t, "one")
	used := make(chan string)
	files := &rotation{log: newLogger(newLogLines(), "info", "text")}
	files.add(nil, nil)
	files.add(&settings.File{Setting: &settings.Setting{Name: "x"}, Path: path, Content: []byte("one")}, func(content []byte) error {
		used <- string(content)
		return nil
	})
	stop := files.start(time.Millisecond)
	// As Kubernetes does it: a link to another file.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(writeFile(t, "two"), path); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-used:
		if got != "two" {
			t.Errorf("used %q", got)
		}
	case <-time.After(patience):
		t.Error("the file is not read again")
	}
	stop()
}

func TestLoginIsReadAgain(t *testing.T) {
	o := readServer(t, "--dev", "--redis-url-file", writeFile(t, " redis://a:one@h1,h2/0?cluster=true\n"))
	logins := cluster.NewCredentials(o.Cluster.Redis)
	if err := setLogin(logins, o.Cluster.Redis, []byte("redis://b:two@h1,h2/0?cluster=true\n")); err != nil {
		t.Error(err)
	}
	if user, password := o.Cluster.Redis.CredentialsProvider(); user != "b" || password != "two" {
		t.Errorf("logs in as %q with %q", user, password)
	}
	if err := setLogin(logins, o.Cluster.Redis, []byte("redis://c:three@elsewhere")); err == nil || !strings.Contains(err.Error(), "names another Redis") {
		t.Error(err)
	}
	if err := setLogin(logins, o.Cluster.Redis, []byte("rediss://c:three@h1,h2/0?cluster=true")); err == nil || !strings.Contains(err.Error(), "restart of this node") {
		t.Error(err)
	}
	if user, _ := o.Cluster.Redis.CredentialsProvider(); user != "b" {
		t.Errorf("logs in as %q, which is for another Redis", user)
	}
	if err := setLogin(logins, o.Cluster.Redis, []byte("http://h")); err == nil {
		t.Error("no error")
	}
}
