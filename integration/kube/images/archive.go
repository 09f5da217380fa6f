// Package images makes images of containers without a daemon and without a registry: a layer of files
// from this machine, and what is to run. What it writes, `ctr images import` and `docker load` read.
package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
)

// Image is one layer and its configuration.
type Image struct {
	Name   string // with its tag, such as "weft:latest"
	Config Config

	layer bytes.Buffer
	tar   *tar.Writer
	dirs  []string // in the layer already
}

// Config is what a container of the image runs, under the names that image formats give these.
type Config struct {
	User         string              `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
}

// New returns an image without files.
func New(name string, config Config) *Image {
	i := &Image{Name: name, Config: config}
	i.tar = tar.NewWriter(&i.layer)
	return i
}

// Add puts a file of this machine at a path in the image, or a folder with all that is in it. Links are
// followed. What it adds belongs to a user and a group by their numbers.
func (i *Image) Add(source, target string, uid, gid int) error {
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	if !info.IsDir() {
		return i.addFile(source, target, info, uid, gid)
	}
	if err := i.Dir(target, info.Mode().Perm(), uid, gid); err != nil {
		return err
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	for _, e := range entries {
		if err := i.Add(filepath.Join(source, e.Name()), path.Join(target, e.Name()), uid, gid); err != nil {
			return err
		}
	}
	return nil
}

func (i *Image) addFile(source, target string, info fs.FileInfo, uid, gid int) error {
	target = path.Clean("/" + target)
	if err := i.Dir(path.Dir(target), 0o755, 0, 0); err != nil {
		return err
	}
	text, err := os.ReadFile(source)
	if err == nil {
		err = i.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: target[1:], Size: int64(len(text)), Mode: int64(info.Mode().Perm()), Uid: uid, Gid: gid})
	}
	if err == nil {
		_, err = i.tar.Write(text)
	}
	if err != nil {
		return fmt.Errorf("image %s: adding %s: %w", i.Name, source, err)
	}
	return nil
}

// Dir makes a folder in the image, unless it has it, and those above it, which are root's.
func (i *Image) Dir(target string, mode fs.FileMode, uid, gid int) error {
	target = path.Clean("/" + target)
	if target == "/" || slices.Contains(i.dirs, target) {
		return nil
	}
	if err := i.Dir(path.Dir(target), 0o755, 0, 0); err != nil {
		return err
	}
	i.dirs = append(i.dirs, target)
	// The bits beyond those of the permissions, such as that of /tmp, have other places in a mode of Go's.
	bits := int64(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	if err := i.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: target[1:] + "/", Mode: bits, Uid: uid, Gid: gid}); err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	return nil
}

// Write writes the image as `docker save` does. Nothing can be added after.
func (i *Image) Write(w io.Writer) error {
	if err := i.tar.Close(); err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       i.Config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(i.layer.Bytes()))}},
	})
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{i.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	archive := tar.NewWriter(w)
	for _, part := range []struct {
		name string
		data []byte
	}{{configName, config}, {"layer.tar", i.layer.Bytes()}, {"manifest.json", manifest}} {
		err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: part.name, Size: int64(len(part.data)), Mode: 0o644})
		if err == nil {
			_, err = archive.Write(part.data)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", i.Name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	return nil
}
