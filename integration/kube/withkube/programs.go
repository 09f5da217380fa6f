package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programs are those that are built from Go modules, in folders beside what Go itself keeps: building
// Kubernetes takes minutes.
type programs struct{ kubernetes, tools, pause string }

// components are the names by which the one program of ../kubernetes is called.
var components = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}

// path is the folders of programs, for PATH.
func (p programs) path() string { return p.kubernetes + ":" + p.tools }

// build builds what is not there in its version yet. It must run in the folder of this module.
func build(ctx context.Context) (p programs, err error) {
	version, err := goTool(ctx, "kubernetes", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return p, err
	}
	numbers := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(numbers) != 3 {
		return p, fmt.Errorf("k8s.io/kubernetes has the version %q", version)
	}
	const variable = " -X k8s.io/component-base/version."
	ldflags := "-s -w" + variable + "gitVersion=" + version + variable + "gitMajor=" + numbers[0] + variable + "gitMinor=" + numbers[1]
	if p.kubernetes, err = buildModule(ctx, "kubernetes", ldflags, "kubernetes", "."); err != nil {
		return p, err
	}
	for _, name := range components {
		if err := os.Symlink("kubernetes", filepath.Join(p.kubernetes, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return p, err
		}
	}
	if p.tools, err = buildModule(ctx, "tools", "-s -w", "", "helm.sh/helm/v4/cmd/helm", "./coredns"); err != nil {
		return p, err
	}
	p.pause, err = buildModule(ctx, "pause", "-s -w", "pause", ".")
	return p, err
}

// buildModule builds packages in a folder, which is a module or a part of one, into a folder that it
// returns: one beside what Go keeps, whose name has a hash of all that they are made of.
func buildModule(ctx context.Context, dir, ldflags, name string, packages ...string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, ldflags, packages)
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		fmt.Fprintln(hash, file, len(text))
		hash.Write(text)
		return err
	})
	if err != nil {
		return "", err
	}
	about, err := goTool(ctx, dir, "env", "GOVERSION", "GOARCH", "GOCACHE")
	if err != nil {
		return "", err
	}
	lines := strings.Split(about, "\n")
	fmt.Fprintln(hash, lines[:2])
	target := filepath.Join(lines[2], "weft-kube", fmt.Sprintf("%s-%x", dir, hash.Sum(nil)[:6]))
	forget(filepath.Dir(target), dir)
	now := time.Now()
	if err := os.Chtimes(target, now, now); err == nil {
		return target, nil
	}

	begin := time.Now()
	fmt.Printf("withkube: building %s\n", dir)
	unfinished := target + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return "", err
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", filepath.Join(unfinished, name) + suffix(name)}, packages...)
	if _, err := goTool(ctx, dir, args...); err != nil {
		return "", err
	}
	fmt.Printf("withkube: %s was built in %v\n", dir, time.Since(begin).Round(time.Second))
	return target, os.Rename(unfinished, target)
}

// forget removes builds that nobody has used for a week.
func forget(cache, dir string) {
	old, err := filepath.Glob(filepath.Join(cache, dir+"-*"))
	if err != nil {
		return
	}
	for _, o := range old {
		if info, err := os.Stat(o); err == nil && time.Since(info.ModTime()) > 7*24*time.Hour {
			_ = os.RemoveAll(o) // the next run tries again
		}
	}
}

// suffix tells go build that a name is of a folder.
func suffix(name string) string {
	if name == "" {
		return "/"
	}
	return ""
}

func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, said.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
