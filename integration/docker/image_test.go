package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// The images. Each is made at most once in a run.
var (
	redisImage = sync.OnceValues(func() (string, error) {
		const published = "redis:7-alpine"
		if err := pull(published); err == nil {
			return published, nil
		}
		// No registry, then: the machine's own, with a data folder as the published image has it.
		return "weft-test/redis", buildFromProgram("weft-test/redis", "redis-server", "WORKDIR /data\nVOLUME /data\n")
	})

	haproxyImage = sync.OnceValues(func() (string, error) {
		return "weft-test/haproxy", buildFromProgram("weft-test/haproxy", "haproxy", "")
	})

	// weftImage is the one of `make image`, which builds what has changed since.
	weftImage = sync.OnceValues(func() (string, error) {
		if _, err := daemon(); err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "make", "-C", "../..", "image").CombinedOutput(); err != nil {
			return "", fmt.Errorf("make image: %w\n%s", err, out)
		}
		return "weft:latest", nil
	})
)

// needImage gives an image's name, or fails the test with why there is none.
func needImage(t testing.TB, image func() (string, error)) string {
	t.Helper()
	name, err := image()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// Bounds of a pull: until the registry answers, and until all is there.
const (
	pullAnswer = 5 * time.Second
	pullAll    = time.Minute
)

// pull makes sure that a published image is there, if a registry can be reached.
func pull(image string) error {
	docker, err := daemon()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pullAll)
	defer cancel()
	if _, err := docker.ImageInspect(ctx, image); err == nil {
		return nil
	}
	answer := time.AfterFunc(pullAnswer, cancel)
	defer answer.Stop()
	progress, err := docker.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	for message, err := range progress.JSONMessages(ctx) {
		answer.Stop()
		if err != nil {
			return err
		}
		if message.Error != nil {
			return message.Error
		}
	}
	_, err = docker.ImageInspect(ctx, image)
	return err
}

// buildFromProgram makes an image of a program of this machine and the libraries that it loads.
func buildFromProgram(image, program, instructions string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + program); err != nil {
			return fmt.Errorf("%s is not installed: run `make test-docker`, which installs it, or: sudo apt-get install redis-server haproxy", program)
		}
	}
	libraries, err := exec.Command("ldd", path).Output()
	if err != nil {
		return fmt.Errorf("listing the libraries of %s: %w", path, err)
	}
	context := &buildContext{}
	context.text("Dockerfile", "FROM scratch\nCOPY root/ /\nENV PATH=/usr/bin\n"+instructions)
	context.program("root/usr/bin/"+program, path)
	// Lines are "name => /path (address)", or "/path (address)" for the loader.
	for field := range strings.FieldsSeq(string(libraries)) {
		if filepath.IsAbs(field) {
			context.program("root"+field, field)
		}
	}
	return context.build(image)
}

// buildContext is what an image is built from: a Dockerfile and the files that it copies.
type buildContext struct {
	buf bytes.Buffer
	tar *tar.Writer
	err error // the first
}

func (c *buildContext) add(header *tar.Header, content []byte) {
	if c.tar == nil {
		c.tar = tar.NewWriter(&c.buf)
	}
	header.Size = int64(len(content))
	if c.err == nil {
		c.err = c.tar.WriteHeader(header)
	}
	if c.err == nil {
		_, c.err = c.tar.Write(content)
	}
}

func (c *buildContext) text(name, content string) {
	c.add(&tar.Header{Name: name, Mode: 0o644}, []byte(content))
}

// program adds a file of this machine, or the one that a link leads to.
func (c *buildContext) program(name, path string) {
	content, err := os.ReadFile(path)
	c.err = errors.Join(c.err, err)
	c.add(&tar.Header{Name: name, Mode: 0o755}, content)
}

// contentLabel is on each image, with a hash of what it was built from.
const contentLabel = "weft-test.content"

// build makes the image unless it is there with the same content. It then removes its predecessor.
func (c *buildContext) build(image string) error {
	if c.err == nil {
		c.err = c.tar.Close()
	}
	if c.err != nil {
		return fmt.Errorf("collecting files for %s: %w", image, c.err)
	}
	docker, err := daemon()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	hash := sha256.Sum256(c.buf.Bytes())
	content := hex.EncodeToString(hash[:])
	before, err := docker.ImageInspect(ctx, image)
	there := err == nil
	if there && before.Config != nil && before.Config.Labels[contentLabel] == content {
		return nil
	}
	built, err := docker.ImageBuild(ctx, &c.buf, client.ImageBuildOptions{
		Tags:        []string{image},
		Labels:      map[string]string{contentLabel: content},
		Remove:      true,
		ForceRemove: true,
	})
	if err != nil {
		return fmt.Errorf("building %s: %w", image, err)
	}
	defer built.Body.Close()
	var log bytes.Buffer
	if _, err := log.ReadFrom(built.Body); err != nil {
		return fmt.Errorf("building %s: %w", image, err)
	}
	after, err := docker.ImageInspect(ctx, image)
	if err != nil || after.Config.Labels[contentLabel] != content {
		return fmt.Errorf("building %s: it did not come about:\n%s", image, log.String())
	}
	if there {
		// A container of another run may still use it: then it stays for now.
		_, _ = docker.ImageRemove(ctx, before.ID, client.ImageRemoveOptions{PruneChildren: true})
	}
	return nil
}

var builtDir string

func cleanBuilt() {
	if builtDir != "" {
		_ = os.RemoveAll(builtDir)
	}
}

// weftBinary is Weft's binary, linked statically as its image needs it.
var weftBinary = sync.OnceValues(func() (string, error) {
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
	dir, err := os.MkdirTemp("", "weft-docker-")
	if err != nil {
		return "", err
	}
	builtDir = dir
	path := filepath.Join(dir, "weft")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/weft")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building ../../cmd/weft: %w\n%s", err, out)
	}
	return path, nil
})
