package images

import (
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
)

// library finds a library's file in a line of ldd.
var library = regexp.MustCompile(`(/\S+) \(0x`)

// Redis is this machine's own redis-server, with the libraries that it needs, where the official image
// has it: in the path, with /data to write to, and as the user that the official image has for it.
func Redis(name string) (*Image, error) {
	const user = 999
	i := New(name, Config{
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Entrypoint: []string{"redis-server"},
		WorkingDir: "/data",
	})
	if err := i.Dir("/data", 0o777, user, user); err != nil {
		return nil, err
	}
	if err := i.Dir("/tmp", 0o777|fs.ModeSticky, 0, 0); err != nil {
		return nil, err
	}
	added := map[string]bool{}
	for _, program := range []string{"redis-server", "redis-cli"} {
		file, err := exec.LookPath(program)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		if err := i.Add(file, "/usr/local/bin/"+program, 0, 0); err != nil {
			return nil, err
		}
		libraries, err := exec.Command("ldd", file).Output()
		if err != nil {
			return nil, fmt.Errorf("image %s: libraries of %s: %w", name, file, err)
		}
		for _, found := range library.FindAllSubmatch(libraries, -1) {
			file := string(found[1])
			if added[file] {
				continue
			}
			added[file] = true
			if err := i.Add(file, file, 0, 0); err != nil {
				return nil, err
			}
		}
	}
	return i, nil
}
