package integration

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience bounds every single wait of these tests. It is long because the machine may be busy; no
// test waits this long unless it fails.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if builtDir != "" {
		_ = os.RemoveAll(builtDir)
	}
	os.Exit(code)
}

var (
	builtDir string

	weftBinary = sync.OnceValues(func() (string, error) {
		if path := os.Getenv("WEFT_BIN"); path != "" {
			path, err := filepath.Abs(path)
			if err != nil {
				return "", err
			}
			if _, err := os.Stat(path); err != nil {
				return "", fmt.Errorf("WEFT_BIN names no file: %w", err)
			}
			return path, nil
		}
		dir, err := os.MkdirTemp("", "weft-integration-")
		if err != nil {
			return "", err
		}
		builtDir = dir
		path := filepath.Join(dir, "weft")
		build := exec.Command("go", "build", "-o", path, "./cmd/weft")
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building ../cmd/weft: %w\n%s", err, out)
		}
		return path, nil
	})

	node = sync.OnceValues(func() (string, error) {
		path, err := exec.LookPath("node")
		if err != nil {
			return "", errors.New("node is not on the PATH: install Node 20 or later, then run `make test-deps`")
		}
		if _, err := os.Stat("node/node_modules/@woven-ecs/canvas-store-server"); err != nil {
			return "", errors.New("the npm packages in integration/node are not installed: run `make test-deps`")
		}
		return path, nil
	})

	chromium = sync.OnceValues(func() (string, error) {
		for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
			if name == "" {
				continue
			}
			if path, err := exec.LookPath(name); err == nil {
				return path, nil
			}
		}
		return "", errors.New("no Chromium was found: run `make test-deps`, or name one in CHROMIUM")
	})
)

// need gives a tool's path, or fails the test with the sentence that says how to get it.
func need(t testing.TB, tool func() (string, error)) string {
	t.Helper()
	path, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
