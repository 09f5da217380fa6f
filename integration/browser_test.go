package integration

import (
	"testing"
	"time"
)

// TestBrowser runs node/browser.test.mjs: two pages of the playground in headless Chromium. It leaves
// pictures in screenshots/.
func TestBrowser(t *testing.T) {
	t.Parallel()
	if *subjectFlag != "weft" {
		t.Fatal("only weft has a playground: leave this test out with -run")
	}
	need(t, weftBinary)
	runNode(t, 3*time.Minute, []string{"CHROMIUM=" + need(t, chromium)}, "--test", "--test-reporter", "spec", "browser.test.mjs")
}
