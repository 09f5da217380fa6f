package docker

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sharedTests are the tests of the folder above that hold three nodes, which share their rooms by one
// Redis, to the same as one: clients of one room are on different nodes.
var sharedTests = []string{
	"TestDifferential",
	"TestClient",
	"TestBetterFirstJoinsAtOnceShareOneRoom",
	"TestBetterHalfOpenSocketIsDropped",
	"TestBetterLateCloseKeepsPresence",
	"TestBetterLongestDeltaIsStillTaken",
	"TestBetterMalformedMessageClosesOnlyItsSocket",
	"TestBetterSlowConsumerIsClosedAlone",
	"TestExpiredTokenEndsTheSessionUnlessRefreshed",
	"TestFramesSentWithTheHandshakeAreKept",
	"TestRefusalsSayWhy",
}

// TestSharedRoomsAreAsOnOneNode runs them. It does not run beside others, which would have to wait for it.
func TestSharedRoomsAreAsOnOneNode(t *testing.T) {
	r := startRedis(t)
	program := filepath.Join(t.TempDir(), "integration.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the tests: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, program, "-test.v", "-test.parallel", "1",
		"-test.run", "^("+strings.Join(sharedTests, "|")+")$", "-sequences", "120")
	run.Dir = ".."
	run.Env = append(os.Environ(), "WEFT_TEST_REDIS="+r.URL(), "WEFT_BIN="+needBinary(t))
	// They start servers; a group of their own lets an end before their time reach those as well.
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run.Cancel = func() error { return syscall.Kill(-run.Process.Pid, syscall.SIGKILL) }
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	var passed []string
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "--- PASS: "); ok {
			name, _, _ = strings.Cut(name, " ")
			passed = append(passed, name)
		}
	}
	for _, name := range sharedTests {
		if !slices.Contains(passed, name) {
			t.Errorf("%s did not run", name)
		}
	}
}
