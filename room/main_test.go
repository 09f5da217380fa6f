package room

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The engine must be usable where there is no network, and nothing of how its
// sockets or stores are made may become its concern.
func TestReachesNoNetwork(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/weftsync/weft/room", "github.com/weftsync/weft/room/protocol").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/weftsync/weft/room/protocol") {
		t.Fatalf("go list does not list the package itself: %q", deps)
	}
	for _, dep := range deps {
		switch {
		case dep == "net", strings.HasPrefix(dep, "net/"),
			strings.Contains(dep, "redis"), strings.Contains(dep, "gobwas"), strings.Contains(dep, "prometheus"),
			strings.HasPrefix(dep, "github.com/weftsync/weft/") && !strings.HasPrefix(dep, "github.com/weftsync/weft/room"):
			t.Errorf("room reaches %s", dep)
		}
	}
}
