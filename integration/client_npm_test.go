package integration

import (
	"context"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestClient runs node/client.test.mjs: the published client's CanvasStore against Weft, one node or three.
func TestClient(t *testing.T) {
	t.Parallel()
	runNode(t, 3*time.Minute, nil, "--test", "--test-reporter", "spec", "client.test.mjs")
}

// runNode runs Node in the folder node, with Weft's binary in WEFT_BIN, and fails the test, showing
// what Node said, unless it exits with 0. It is ended after the given time.
func runNode(t *testing.T, limit time.Duration, env []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, need(t, node), args...)
	cmd.Dir = "node"
	cmd.Env = append(environment(), "WEFT_SUBJECT="+*subjectFlag, "WEFT_TEST_REDIS="+sharedRedis)
	if *subjectFlag == "weft" {
		cmd.Env = append(cmd.Env, "WEFT_BIN="+need(t, weftBinary))
	}
	cmd.Env = append(cmd.Env, env...)
	// The tests start servers; a group of their own lets an impatient end reach them as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("node was ended after %v", limit)
	}
	if err != nil {
		t.Fatalf("node %v: %v\n%s", args, err, out)
	}
	t.Logf("%s", out)
}
