package main

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// rotateEvery is how often files of secrets are looked at. Their content is
// compared: Kubernetes puts a new file in the place of the old one by a symbolic
// link to its folder, which neither a time nor the system's notice of a change
// would tell for certain.
const rotateEvery = 3 * time.Second

// rotation puts secrets into use when the files that hold them change.
type rotation struct {
	log   *slog.Logger
	files []*rotating
}

type rotating struct {
	*settings.File
	use     func(content []byte) error
	trouble string // the last one that was told
}

// add has use called with the content of a file whenever that has changed; file
// may be nil, for none.
func (r *rotation) add(file *settings.File, use func(content []byte) error) {
	if file != nil {
		r.files = append(r.files, &rotating{File: file, use: use})
	}
}

// start begins to look at the files. stop ends that, and waits until it has
// ended.
func (r *rotation) start(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var task sync.WaitGroup
	if len(r.files) > 0 {
		task.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				for _, f := range r.files {
					f.look(r.log)
				}
			}
		})
	}
	return func() {
		cancel()
		task.Wait()
	}
}

// look reads the file again. What is no good is told once, and what was in use
// stays in use.
func (f *rotating) look(log *slog.Logger) {
	// A pipe, as of <(command), has been read, and might keep its next reader for ever.
	if info, err := os.Stat(f.Path); err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeDevice|fs.ModeSocket) != 0 {
		return
	}
	content, err := f.Read()
	if err == nil {
		if bytes.Equal(content, f.Content) {
			f.trouble = ""
			return
		}
		err = f.use(content)
	}
	if err == nil {
		f.Content, f.trouble = content, ""
		log.Info("a file of secrets has changed: what it holds is in use from now on", "setting", f.Setting.Name)
		return
	}
	if f.trouble != err.Error() {
		f.trouble = err.Error()
		log.Warn("a file of secrets has changed and cannot be used: what it held before stays in use", "setting", f.Setting.Name, "error", f.Refuse(err))
	}
}
