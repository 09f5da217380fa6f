// Package tools tests what `make release` makes. Beside it are the programs that the Makefile needs, and
// go.mod pins those of others.
package tools

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
)

const root = "../.."

// identity is what version.sh says of this checkout.
type identity struct{ version, commit, created string }

// TestRelease makes the release twice: here, and from a copy of the source in another folder, with
// nothing that was built before. Both must be the same bytes.
func TestRelease(t *testing.T) {
	out := output(t, exec.Command("./version.sh"))
	words := strings.Fields(out)
	if len(words) != 3 {
		t.Fatalf("version.sh says %q", out)
	}
	id := identity{words[0], words[1], words[2]}
	here, there := t.TempDir(), t.TempDir()
	makeRelease(t, root, id, here)
	makeRelease(t, copyOfSource(t), id, there)

	amd64, arm64 := "weft-"+id.version+"-linux-amd64", "weft-"+id.version+"-linux-arm64"
	bom := "weft-" + id.version + ".spdx.json"
	for _, name := range []string{amd64, arm64, bom, "SHA256SUMS"} {
		if !bytes.Equal(read(t, filepath.Join(here, name)), read(t, filepath.Join(there, name))) {
			t.Errorf("%s differs when it is made elsewhere", name)
		}
	}
	if files, err := filepath.Glob(filepath.Join(here, "*")); err != nil || len(files) != 4 {
		t.Errorf("the release is %q %v", files, err)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = here
	if checked := output(t, check); strings.Count(checked, ": OK\n") != 3 {
		t.Errorf("sha256sum --check says:\n%s", checked)
	}
	for arch, name := range map[string]string{"amd64": amd64, "arm64": arm64} {
		checkBinary(t, filepath.Join(here, name), arch, id)
	}
	checkSBOM(t, here, bom, amd64, arm64)
}

func makeRelease(t *testing.T, source string, id identity, dist string) {
	t.Helper()
	output(t, exec.Command("make", "-C", source, "release", "DIST="+dist,
		"VERSION="+id.version, "COMMIT="+id.commit, "SOURCE_DATE_EPOCH="+id.created))
}

// copyOfSource has the files that git knows as they are now, in a folder that is no git repository.
func copyOfSource(t *testing.T) string {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = root
	dir := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimRight(output(t, list), "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, read(t, from), info.Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// checkBinary: it is linked statically for its platform, has the page in it, and says the version.
func checkBinary(t *testing.T, path, arch string, id identity) {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(info.String(), "GOARCH="+arch+"\n") || !strings.Contains(info.String(), "CGO_ENABLED=0\n") {
		t.Errorf("%s was built with:\n%s", path, info)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Errorf("%s is linked dynamically", path)
		}
	}
	content := read(t, path)
	for _, text := range []string{id.version, id.commit, "playground.js"} {
		if !bytes.Contains(content, []byte(text)) {
			t.Errorf("%s is not in %s", text, path)
		}
	}
	if arch == runtime.GOARCH && runtime.GOOS == "linux" {
		want := fmt.Sprintf("weft %s, commit %s, go", id.version, id.commit)
		if said := output(t, exec.Command(path, "version")); !strings.HasPrefix(said, want) {
			t.Errorf("weft version says %q, want %q…", said, want)
		}
	}
}

// checkSBOM: it is SPDX, describes the binaries, and names what is in them.
func checkSBOM(t *testing.T, dist, name string, binaries ...string) {
	t.Helper()
	doc, err := spdxjson.Read(bytes.NewReader(read(t, filepath.Join(dist, name))))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	described, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(described) != len(binaries) {
		t.Errorf("it describes %q: %v", described, err)
	}
	packages := map[string]*spdx.Package{}
	for _, p := range doc.Packages {
		packages[p.PackageName] = p
	}
	for _, binary := range binaries {
		sum := sha256.Sum256(read(t, filepath.Join(dist, binary)))
		if p := packages[binary]; p == nil || p.PackageChecksums[0].Value != hex.EncodeToString(sum[:]) {
			t.Errorf("%s is there as %+v", binary, p)
		}
		info, err := buildinfo.ReadFile(filepath.Join(dist, binary))
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range info.Deps {
			p := packages[module.Path]
			if p == nil || p.PackageVersion != module.Version {
				t.Errorf("%s %s is there as %+v", module.Path, module.Version, p)
			} else if p.PackageLicenseDeclared == "NOASSERTION" {
				t.Errorf("the license of %s is not known", module.Path)
			}
		}
	}
	for _, name := range []string{"stdlib", "@woven-ecs/canvas-store"} {
		if packages[name] == nil {
			t.Errorf("%s is not there", name)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func output(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", c, err, out, &complaint)
	}
	return string(out)
}
