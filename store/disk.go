package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	fileMode   = 0o600
	folderMode = 0o700

	// What is not a room's file begins with a dot, as no room's file does, and
	// ends otherwise than one.
	lockName   = ".weft.lock"
	tempPrefix = ".weft-"
	tempSuffix = ".tmp"
)

// disk is what File does with the file system; tests make it fail.
type disk struct {
	read       func(ctx context.Context, path string) ([]byte, error)
	createTemp func(dir string) (tempFile, error) // mode fileMode
	rename     func(from, to string) error
	syncFolder func(dir string) error
}

// tempFile is an [*os.File] to write to.
type tempFile interface {
	io.Writer
	Name() string
	Sync() error
	Close() error
}

var osDisk = disk{
	read: read,
	createTemp: func(dir string) (tempFile, error) {
		return os.CreateTemp(dir, tempPrefix+"*"+tempSuffix)
	},
	rename:     os.Rename,
	syncFolder: syncFolder,
}

// replace writes what w has to say to a temporary file beside path, and when it
// is safe puts it in path's place. After an error there is no temporary file,
// and path is what it was.
func (d *disk) replace(ctx context.Context, path string, w io.WriterTo) error {
	temp, err := d.createTemp(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = write(ctx, temp, w)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = d.rename(temp.Name(), path)
	}
	if err != nil {
		// The name is still ours: without an error it might be another's by now.
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// write writes, syncs and closes a file.
func write(ctx context.Context, file tempFile, w io.WriterTo) error {
	_, err := w.WriteTo(patientWriter{ctx, file})
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// patientWriter writes as long as the context lasts, and all or an error.
type patientWriter struct {
	ctx context.Context
	w   io.Writer
}

func (p patientWriter) Write(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}

// read reads a file as long as the context lasts.
func read(ctx context.Context, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	var text bytes.Buffer
	if info, err := file.Stat(); err == nil {
		text.Grow(int(info.Size()) + bytes.MinRead)
	}
	_, err = text.ReadFrom(patientReader{ctx, file})
	return text.Bytes(), err
}

type patientReader struct {
	ctx context.Context
	r   io.Reader
}

func (p patientReader) Read(b []byte) (int, error) {
	const most = 1 << 20
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b[:min(len(b), most)])
}

// syncFolder makes sure that a folder's entries survive a power failure.
// Windows has no way to ask for that.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // nothing was written
	return d.Sync()
}

// makeFolder creates a folder and those above it that are missing, for good.
func makeFolder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return errors.New("there is a file of that name")
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if parent == dir {
		return err
	}
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, folderMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

// removeLeftovers removes our own temporary files, and no other's.
func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); e.Type().IsRegular() && isTemp(name) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// isTemp reports whether a name is one that createTemp makes: a number between
// the prefix and the suffix.
func isTemp(name string) bool {
	rest, ok := strings.CutPrefix(name, tempPrefix)
	number, ok2 := strings.CutSuffix(rest, tempSuffix)
	return ok && ok2 && number != "" && strings.Trim(number, "0123456789") == ""
}

// tryWriting makes sure that files can be made in a folder.
func tryWriting(dir string) error {
	file, err := osDisk.createTemp(dir)
	if err != nil {
		return err
	}
	_, err = file.Write([]byte("{}"))
	return errors.Join(err, file.Close(), os.Remove(file.Name()))
}
