package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRefusalsSayWhy(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t))
	good := token("r", true, time.Hour)
	cases := []struct {
		name, url string
		status    int
		label     string // of the Weft-Reason header
		words     string // "" for any, as long as there are some
	}{
		{"no room", s.url("", "c", good), 400, "bad_request", "Missing roomId query parameter"},
		{"no client", s.url("r", "", good), 400, "bad_request", "Missing clientId query parameter"},
		{"no token", s.url("r", "c", ""), 401, "bad_token", "Missing token query parameter"},
		{"nothing", "ws://" + s.all[0].addr + "/any/path", 400, "bad_request", "Missing roomId query parameter"},
		{"forged", s.url("r", "c", forge(good)), 401, "bad_token", ""},
		{"no JWT", s.url("r", "c", "hello"), 401, "bad_token", ""},
		{"expired", s.url("r", "c", token("r", true, -time.Hour)), 401, "expired_token", "expired"},
		{"another room's", s.url("r", "c", token("r2", true, time.Hour)), 403, "wrong_room", "room"},
		{"unsigned", s.url("r", "c", "eyJhbGciOiJub25lIn0."+strings.Split(good, ".")[1]+"."), 401, "bad_token", ""},
	}
	for _, c := range cases {
		_, err := dial(c.url)
		var no *notUpgraded
		if !errors.As(err, &no) || no.status != c.status || no.label != c.label || no.words == "" || !strings.Contains(no.words, c.words) {
			t.Errorf("%s: %v, want status %d, %s, with %q", c.name, err, c.status, c.label, c.words)
		}
		if err != nil && strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: the answer holds the token: %v", c.name, err)
		}
	}
}

// The published client sends its first frame in the same instant the socket opens, and a proxy may
// hand over the upgrade request and the frame as one.
func TestFramesSentWithTheHandshakeAreKept(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t))
	var frames []string
	for i := range 200 {
		frames = append(frames, fmt.Sprintf(`{"type":"patch","messageId":"m%d","documentPatches":[{"k/A":{"_exists":true,"n":%d,"pad":%q}}]}`,
			i, i, strings.Repeat("p", 10*i)))
	}
	c := rawDial(t, s.url("early", "c", token("early", true, time.Hour)), frames...)
	c.upgraded(t)
	acks := 0
	for acks < len(frames) {
		op, text, err := c.readFrame()
		if err != nil || op != 1 {
			t.Fatalf("after %d acks: opcode %d, %v", acks, op, err)
		}
		if bytes.Contains(text, []byte(`"ack"`)) {
			if want := fmt.Sprintf(`"m%d"`, acks); !bytes.Contains(text, []byte(want)) {
				t.Fatalf("ack %d is %s", acks, text)
			}
			acks++
		}
	}
}

func TestExpiredTokenEndsTheSessionUnlessRefreshed(t *testing.T) {
	t.Parallel()
	s := startNodes(t, newData(t), "--token-grace", "100ms")
	// exp counts whole seconds: these are good for one to two more.
	lazy := mustDial(t, s.url("r", "lazy", token("r", true, 2*time.Second)))
	keen := mustDial(t, s.url("r", "keen", token("r", true, 2*time.Second)))
	keen.awaitCount(t, 2)
	keen.send(fmt.Sprintf(`{"type":"auth-refresh","token":%q}`, token("r", true, time.Hour)))
	if why := lazy.mustEnd(t); why.code != 1008 || !strings.Contains(why.reason, "expired") {
		t.Errorf("the one whose token expired: %v", &why)
	}
	keen.awaitCount(t, 1)
	keen.mustPatch(t, "m", `[{}]`)
}

func TestShutdownSavesAndSaysComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startWeft(t, dir, "--save-interval", "1h")
	const rooms = 20
	clients := make([]*wsClient, rooms)
	for i := range clients {
		room := fmt.Sprintf("room-%d", i)
		clients[i] = join(t, s, room, "c")
		clients[i].mustPatch(t, "m", fmt.Sprintf(`[{"k/A":{"_exists":true,"is":%d}}]`, i))
		if got := roomFile(t, dir, room); got != nil {
			t.Fatalf("%s was saved before its time: %s", room, got)
		}
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for i, c := range clients {
		if why := c.mustEnd(t); why.code != 1012 {
			t.Errorf("room %d: %v, want 1012", i, &why)
		}
	}
	if code := s.exitCode(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for i := range clients {
		room := fmt.Sprintf("room-%d", i)
		if got := roomFile(t, dir, room); !bytes.Contains(got, fmt.Appendf(nil, `"is":%d`, i)) {
			t.Errorf("%s was saved as %q", room, got)
		}
	}
}

// A room's file that is a pipe into which nobody writes keeps its reader waiting, and with it the end.
// Who wants into that room is told at once.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "stuck.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s := startWeft(t, dir)
	answer := make(chan error, 1)
	url := s.url("stuck", "c", token("stuck", true, time.Hour))
	go func() {
		_, err := dial(url)
		answer <- err
	}()
	waitFor(t, "the room to be loaded", func() bool {
		// This succeeds when there is a reader.
		writer, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			t.Cleanup(func() { writer.Close() })
		}
		return err == nil
	})
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var no *notUpgraded
	if err := <-answer; !errors.As(err, &no) || no.status != 503 || no.label != "draining" {
		t.Errorf("who waited for the room: %v", err)
	}
	select {
	case <-s.exited:
		t.Fatalf("weft ended (%v) although a room is still being loaded: this test proves nothing", s.exitErr)
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.exitCode(t); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want 143", code)
	}
}

func TestBadSettingsAreOneLineAndExitCodeTwo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "weft.yaml")
	if err := os.WriteFile(config, []byte("save-intervall: 2s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	withSecret := []string{"WEFT_AUTH_JWT_SECRET=" + secret}
	cases := []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no auth", nil, nil, "--auth-jwt-secret"},
		{"no auth says --dev", nil, nil, "--dev"},
		{"two kinds of auth", withSecret, []string{"--dev"}, "auth-jwt-secret"},
		{"duration", withSecret, []string{"--save-interval", "soon"}, "save-interval"},
		{"duration in the environment", append([]string{"WEFT_SAVE_INTERVAL=soon"}, withSecret...), nil, "WEFT_SAVE_INTERVAL"},
		{"store", withSecret, []string{"--store", "tape"}, "store"},
		{"address", withSecret, []string{"--listen", "nowhere"}, "listen"},
		{"size", withSecret, []string{"--max-message-bytes", "-1"}, "max-message-bytes"},
		{"unknown flag", withSecret, []string{"--no-such-flag"}, "no-such-flag"},
		{"unknown key in the file", withSecret, []string{"--config", config}, "save-intervall"},
		{"missing file", withSecret, []string{"--config", "none.yaml"}, "none.yaml"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"serve", "--listen", freeAddr(t), "--admin-listen", freeAddr(t), "--data-dir", t.TempDir()}, c.args...)
			cmd := exec.Command(need(t, weftBinary), args...)
			cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
			s := launch(t, "weft", cmd, "")
			code := s.exitCode(t)
			out := strings.TrimRight(s.log.String(), "\n")
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if out == "" || strings.Contains(out, "\n") || !strings.Contains(out, c.want) {
				t.Errorf("it should say one line with %q in it, not:\n%s", c.want, out)
			}
			if strings.Contains(out, secret) {
				t.Errorf("the secret is shown: %s", out)
			}
		})
	}
}

// A folder that cannot be used is no bad setting, but weft must not start, and must say which folder.
func TestUnusableDataFolderIsSaid(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a-file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := startWeft(t, t.TempDir())
	for dir, want := range map[string]string{file: "a file", used.dir: "another process"} {
		s := launchWeft(t, dir)
		if code := s.exitCode(t); code == 0 {
			t.Errorf("%s: exit code 0", dir)
		}
		if out := s.log.String(); !strings.Contains(out, dir) || !strings.Contains(out, want) {
			t.Errorf("%s: it should say %q, not:\n%s", dir, want, out)
		}
	}
}
