package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// files reads what a tar holds, by name.
func files(t *testing.T, r io.Reader) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	contents, headers := map[string][]byte{}, map[string]*tar.Header{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return contents, headers
		}
		if err == nil {
			contents[h.Name], err = io.ReadAll(archive)
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestImageFromDockerfile(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "bin/tool"), "a program")
	put(t, filepath.Join(dir, "bin/data/keep"), "")
	put(t, filepath.Join(dir, "Dockerfile"), `# A comment.
FROM scratch
ARG BINARY=bin/other
COPY ${BINARY} /opt/tool
COPY --chown=7:8 bin/data /data
USER 7:8
VOLUME /data
ENV A=1
EXPOSE 80 81/udp
ARG VERSION=unknown
LABEL a="one \
two" \
      version="${VERSION}"
ENTRYPOINT ["/opt/tool"]
CMD ["serve"]
`)
	image, err := FromDockerfile("tool:1", dir, filepath.Join(dir, "Dockerfile"), map[string]string{"BINARY": "bin/tool", "VERSION": "1"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		User: "7:8", Entrypoint: []string{"/opt/tool"}, Cmd: []string{"serve"},
		Env:          append(image.Config.Env[:1:1], "A=1"),
		Volumes:      map[string]struct{}{"/data": {}},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "81/udp": {}},
		Labels:       map[string]string{"a": "one two", "version": "1"},
	}
	if !reflect.DeepEqual(image.Config, want) {
		t.Errorf("got %+v, want %+v", image.Config, want)
	}

	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		t.Fatal(err)
	}
	parts, _ := files(t, &archive)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(parts["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || manifest[0].RepoTags[0] != "tool:1" || parts[manifest[0].Config] == nil {
		t.Fatalf("manifest is %s", parts["manifest.json"])
	}
	contents, headers := files(t, bytes.NewReader(parts[manifest[0].Layers[0]]))
	if string(contents["opt/tool"]) != "a program" {
		t.Errorf("opt/tool holds %q", contents["opt/tool"])
	}
	for name, mode := range map[string]int64{"opt/": 0o755, "opt/tool": 0o755, "data/": 0o755, "data/keep": 0o755} {
		h := headers[name]
		if h == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		uid := 0
		if strings.HasPrefix(name, "data/") {
			uid = 7
		}
		if h.Mode != mode || h.Uid != uid {
			t.Errorf("%s has mode %o and user %d", name, h.Mode, h.Uid)
		}
	}
}

// What cannot be done must not be passed over.
func TestDockerfileWithWhatCannotBeDone(t *testing.T) {
	for _, text := range []string{"FROM debian", "FROM scratch\nRUN true", "FROM scratch\nCOPY --from=x a b", "FROM scratch\nCOPY missing /x", "FROM scratch\nCOPY --chown=weft:weft Dockerfile /x"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "Dockerfile")
		put(t, file, text)
		if _, err := FromDockerfile("tool:1", dir, file, nil); err == nil {
			t.Errorf("%q made an image", text)
		}
	}
}
