package settings

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// readAll reads the server's settings, without a problem.
func readAll(t *testing.T, args ...string) *Server {
	t.Helper()
	o := new(Server)
	if problems := o.Read(o.Table(), Sources{Command: "weft serve", Args: args}); len(problems) > 0 {
		t.Fatal(problems)
	}
	return o
}

// What is set in one place arrives in every config that wants it.
func TestSettingsReachTheConfigs(t *testing.T) {
	o := readAll(t, "--dev", "--redis-url=rediss://h", "--handshake-timeout=7s", "--save-interval=3s", "--room-idle-timeout=5s", "--max-message-bytes=2KiB",
		"--max-queue-bytes=3KiB", "--gather=0s", "--accept-rate=11", "--max-connection-age=1h", "--rebalance", "--drain-rate=12", "--peer-listen=:1", "--auth-negative-ttl=0s")
	for what, ok := range map[string]bool{
		"authorize timeout": o.Rooms.AuthorizeTimeout == 7*time.Second && o.Cluster.AuthorizeTimeout == 7*time.Second && o.Sockets.HandshakeTimeout == 7*time.Second,
		"save interval":     o.Rooms.SaveInterval == 3*time.Second && o.Cluster.SaveInterval == 3*time.Second,
		"idle timeout":      o.Rooms.IdleTimeout == 5*time.Second && o.Cluster.RoomIdleTimeout == 5*time.Second,
		"message":           o.Rooms.Limits.MaxMessageBytes == 2048 && o.Cluster.Limits.MaxMessageBytes == 2048 && o.Sockets.MaxMessageBytes == 2048,
		"queue":             o.Rooms.MaxWaitingBytes == 3072 && o.Sockets.MaxQueueBytes == 3072,
		"no gathering":      o.Sockets.GatherDelay < 0,
		"accept rate":       o.Sockets.AcceptRate == 11,
		"age":               o.Sockets.MaxConnectionAge == time.Hour,
		"balance":           o.Cluster.Rebalance && o.Cluster.DrainRate == 12 && o.Cluster.PeerListen == ":1",
		"forgetful":         o.Auth.NegativeTTL == 0,
		"shared":            o.Shared() && o.Cluster.Redis.TLSConfig != nil,
	} {
		if !ok {
			t.Errorf("%s: %+v", what, o)
		}
	}
}

func TestFilesOfSecrets(t *testing.T) {
	const one, two = "c2l4dGVlbiBieXRlcyAxMQ==", "c2l4dGVlbiBieXRlcyAxMg=="
	keys := writeFile(t, "\n "+two+"\t\r\n\n"+one)
	o := readAll(t, "--auth-jwt-secret-file", keys, "--gossip-key-file", keys, "--redis-url-file", writeFile(t, "\nredis://a:b@h\n"))
	if !slices.Equal(o.Cluster.GossipKeys, []string{two, one}) || len(o.Auth.JWT.Secrets) != 2 || string(o.Auth.JWT.Secrets[0]) != two || o.Cluster.Redis.Password != "b" {
		t.Errorf("%+v", o)
	}
	if o.RedisSetting() != "redis-url-file" || o.SecretFile.Path != keys || o.GossipKeyFile.Path != keys || o.RedisURLFile == nil {
		t.Errorf("%+v", o)
	}
	// Nothing of a file's content is shown.
	for _, name := range []string{"--auth-jwt-secret-file", "--gossip-key-file", "--redis-url-file"} {
		o := new(Server)
		problems := o.Read(o.Table(), Sources{Args: []string{"--dev", "--redis-url=redis://h", name, writeFile(t, "hunter2\nhunter3 hunter4")}})
		for _, err := range problems {
			if strings.Contains(err.Error(), "hunter") {
				t.Error(err)
			}
		}
		if len(problems) == 0 {
			t.Errorf("%s takes anything", name)
		}
	}
}

// Some editors begin a file with a byte order mark, which is no part of a secret.
func TestByteOrderMarkIsNoSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("\ufeff0123456789abcdef\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	content, err := (&File{Path: path}).Read()
	if secrets := Secrets(content); err != nil || len(secrets) != 1 || string(secrets[0]) != "0123456789abcdef" {
		t.Errorf("%q, %v", secrets, err)
	}
}

// What could not be read may have said who may connect.
func TestNothingIsMissingInWhatCouldNotBeRead(t *testing.T) {
	for _, args := range [][]string{
		{"--lisen", ":1", "--auth-jwt-secret", "0123456789abcdef"},
		{"--config", filepath.Join(t.TempDir(), "none.yaml")},
	} {
		o := new(Server)
		problems := o.Read(o.Table(), Sources{Command: "weft serve", Args: args})
		if len(problems) != 1 || !errors.Is(problems[0], ErrWrong) {
			t.Errorf("%q: %v", args, problems)
		}
	}
}
