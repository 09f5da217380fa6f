package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if builtDir != "" {
		_ = os.RemoveAll(builtDir)
	}
	os.Exit(code)
}

var builtDir string

var weftBinary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("WEFT_BIN"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "weft-faults-")
	if err != nil {
		return "", err
	}
	builtDir = dir
	path := filepath.Join(dir, "weft")
	build := exec.Command("go", "build", "-o", path, "./cmd/weft")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building ../../../cmd/weft: %w\n%s", err, out)
	}
	return path, nil
})

// alone runs clients at one node that keeps rooms in files, and gives them back with the rooms at the end.
// break happens while they edit.
func alone(t *testing.T, breaks func(ctx context.Context, n *Node, l *Load), args ...string) Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	binary, err := weftBinary()
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode("n1", binary)
	if err != nil {
		t.Fatal(err)
	}
	n.SetArgs(append([]string{"--dev", "--store", "file", "--data-dir", t.TempDir()}, args...)...)
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.Log(4000))
		}
	})
	start(ctx, t, n)
	const rooms = 5
	l := StartLoad(LoadConfig{Targets: []Target{n.Target}, Rooms: rooms, ClientsPerRoom: 3, PatchesPerSecond: 300})
	if err := l.AwaitSynced(ctx); err != nil {
		t.Error(err)
	}
	breaks(ctx, n, l)
	settle, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	run := Run{Recordings: l.Finish(settle)}
	for i := range rooms {
		f, err := ReadFinal(ctx, n.Target, RoomName("", i))
		if err != nil {
			t.Fatal(err)
		}
		run.Finals = append(run.Finals, f)
	}
	return run
}

func start(ctx context.Context, t *testing.T, n *Node) {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// edited returns when the clients have made some more edits.
func edited(ctx context.Context, t *testing.T, l *Load) {
	t.Helper()
	for _, c := range l.clients {
		c.mu.Lock()
		want := len(c.events) + 30
		c.mu.Unlock()
		if err := c.wait(ctx, func() bool { return len(c.events) >= want }); err != nil {
			t.Fatalf("waiting for %s to do something: %v", c.id, err)
		}
	}
}

func TestLoadOnOneNodeThatRestarts(t *testing.T) {
	t.Parallel()
	var down Window
	run := alone(t, func(ctx context.Context, n *Node, l *Load) {
		edited(ctx, t, l)
		down.From = l.Since()
		if err := n.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		start(ctx, t, n)
		down.To = l.Since()
		edited(ctx, t, l)
	})
	if result := Check(run); result.Of(RuleClosed) != 15 {
		t.Errorf("%d sockets closed, want 15: %v", result.Of(RuleClosed), result.Violations)
	}
	run.MayClose = []Window{down}
	result := Check(run)
	if len(result.Violations) > 0 {
		t.Errorf("%v", result.Violations)
	}
	if result.Acked < 150 || result.Applied < result.Acked {
		t.Errorf("%+v, want some", result)
	}
	if w := WaitsOf(run.Recordings, nil); len(w) != result.Acked {
		t.Errorf("%d waits for %d acks", len(w), result.Acked)
	}
}

// A node that forgets what it said is found out.
func TestLoadOnOneNodeThatForgets(t *testing.T) {
	t.Parallel()
	run := alone(t, func(ctx context.Context, n *Node, l *Load) {
		edited(ctx, t, l)
		n.Kill()
		start(ctx, t, n)
		edited(ctx, t, l)
	}, "--save-interval", "1h")
	run.MayClose = []Window{{To: time.Hour}}
	result := Check(run)
	for _, rule := range []Rule{RuleAcked, RuleBack} {
		if result.Of(rule) == 0 {
			t.Errorf("%q was not found", rule)
		}
	}
	if result.Of(RuleClosed) > 0 {
		t.Errorf("sockets closed that may: %v", result.Violations)
	}
}
