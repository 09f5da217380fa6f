package docker

import (
	"archive/tar"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

func TestImageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	docker := needDaemon(t)
	image, err := docker.ImageInspect(t.Context(), needImage(t, weftImage))
	if err != nil {
		t.Fatal(err)
	}
	config := image.Config
	if config.User != "65532:65532" {
		t.Errorf("it runs as %q", config.User)
	}
	for _, port := range []string{"8080/tcp", "9090/tcp", "7946/tcp", "7946/udp", "7947/tcp"} {
		if _, ok := config.ExposedPorts[port]; !ok {
			t.Errorf("port %s is not exposed", port)
		}
	}
	label := func(name string) string { return config.Labels["org.opencontainers.image."+name] }
	for name, form := range map[string]string{
		"title":       `^weft$`,
		"description": `.`,
		"version":     `^v\d+\.\d+\.\d+`,
		"revision":    `^[0-9a-f]{40}$`,
		"source":      `^https://github\.com/weftsync/weft$`,
		"licenses":    `^Apache-2\.0$`,
	} {
		if !regexp.MustCompile(form).MatchString(label(name)) {
			t.Errorf("label %s is %q, want it to match %s", name, label(name), form)
		}
	}
	if created, err := time.Parse(time.RFC3339, label("created")); err != nil || created.Year() < 2020 {
		t.Errorf("label created: %q %v", label("created"), err)
	}
	if tag := "weft:" + label("version"); !slices.Contains(image.RepoTags, tag) || !slices.Contains(image.RepoTags, "weft:latest") {
		t.Errorf("tags are %q, want %s and weft:latest", image.RepoTags, tag)
	}

	c := start(t, plan{name: "version", network: newNetwork(t), image: "weft:latest", cmd: []string{"version"}, strict: true})
	if code := c.exitCode(t); code != 0 {
		t.Errorf("weft version exits with %d", code)
	}
	want := fmt.Sprintf("weft %s, commit %s, go", label("version"), label("revision"))
	if log := c.log(t); !strings.Contains(log, want) {
		t.Errorf("weft version says %q, want %q…", log, want)
	}
}

// TestImageHoldsNothingElse: weft, the data folder, and the authorities that it trusts.
func TestImageHoldsNothingElse(t *testing.T) {
	t.Parallel()
	c := start(t, plan{name: "files", network: newNetwork(t), image: needImage(t, weftImage), cmd: []string{"version"}, strict: true})
	export, err := c.docker.ContainerExport(t.Context(), c.c.GetContainerID(), client.ContainerExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer export.Close()
	var authorities []byte
	for files := tar.NewReader(export); ; {
		file, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := path.Clean(file.Name)
		switch {
		case name == "data":
			if file.Uid != 65532 || file.Gid != 65532 {
				t.Errorf("/data is %d:%d's", file.Uid, file.Gid)
			}
		case name == "etc/ssl/certs/ca-certificates.crt":
			if authorities, err = io.ReadAll(files); err != nil {
				t.Fatal(err)
			}
		case name == "weft":
			if file.Uid != 0 || file.Mode&0o022 != 0 || file.Mode&0o111 != 0o111 {
				t.Errorf("/weft is %d's with mode %o: the user that runs it should not be able to change it", file.Uid, file.Mode)
			}
		case file.Typeflag == tar.TypeReg && file.Size > 0:
			t.Errorf("/%s, %d bytes", name, file.Size)
		}
	}
	n := 0
	for block, rest := pem.Decode(authorities); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err != nil || !cert.IsCA {
			t.Errorf("certificate %d: %v", n, err)
		}
		n++
	}
	if n < 50 {
		t.Errorf("%d certificates of authorities", n)
	}
}
