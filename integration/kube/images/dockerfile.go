package images

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var (
	continued = regexp.MustCompile(`\\\n`)
	variable  = regexp.MustCompile(`\$\{(\w+)\}`)
	quoted    = regexp.MustCompile(`(\S+?)=(?:"([^"]*)"|(\S*))`)
)

// FromDockerfile makes the image that the file in a folder describes, as `docker build` would with these
// arguments. Only what needs no container to be run can be done: a file FROM scratch, without RUN. An
// instruction that it does not know is an error, so that the image never differs silently.
func FromDockerfile(name, folder, file string, args map[string]string) (*Image, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	b := builder{folder: folder, given: args, args: map[string]string{}, image: New(name, Config{
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Volumes:      map[string]struct{}{},
		ExposedPorts: map[string]struct{}{},
		Labels:       map[string]string{},
	})}
	for line := range strings.Lines(withoutComments(text)) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if instruction == "" {
			continue
		}
		if err := b.do(strings.ToUpper(instruction), strings.TrimSpace(rest)); err != nil {
			return nil, fmt.Errorf("image %s: %s: %s: %w", name, file, instruction, err)
		}
	}
	return b.image, nil
}

func withoutComments(text []byte) string {
	var kept bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			kept.Write(line)
		}
	}
	return continued.ReplaceAllString(kept.String(), "")
}

type builder struct {
	image       *Image
	folder      string
	given, args map[string]string
}

func (b *builder) do(instruction, rest string) error {
	rest = variable.ReplaceAllStringFunc(rest, func(v string) string { return b.args[v[2:len(v)-1]] })
	config := &b.image.Config
	switch instruction {
	case "FROM":
		if rest != "scratch" {
			return fmt.Errorf("only scratch can be built upon, not %s", rest)
		}
	case "ARG":
		key, value, _ := strings.Cut(rest, "=")
		if given, ok := b.given[key]; ok {
			value = given
		}
		b.args[key] = value
	case "COPY":
		return b.copy(strings.Fields(rest))
	case "USER":
		config.User = rest
	case "WORKDIR":
		config.WorkingDir = rest
	case "VOLUME":
		for _, v := range strings.Fields(rest) {
			config.Volumes[v] = struct{}{}
		}
	case "EXPOSE":
		for _, port := range strings.Fields(rest) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			config.ExposedPorts[port] = struct{}{}
		}
	case "ENV":
		for key, value := range pairs(rest) {
			config.Env = append(config.Env, key+"="+value)
		}
	case "LABEL":
		maps.Copy(config.Labels, pairs(rest))
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &config.Entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(rest), &config.Cmd)
	default:
		return fmt.Errorf("unknown instruction")
	}
	return nil
}

func pairs(s string) map[string]string {
	all := map[string]string{}
	for _, m := range quoted.FindAllStringSubmatch(s, -1) {
		all[m[1]] = m[2] + m[3]
	}
	return all
}

func (b *builder) copy(words []string) error {
	uid, gid := 0, 0
	if len(words) > 0 && strings.HasPrefix(words[0], "--chown=") {
		user, group, _ := strings.Cut(strings.TrimPrefix(words[0], "--chown="), ":")
		var err error
		if uid, err = strconv.Atoi(user); err != nil {
			return err
		}
		if gid, err = strconv.Atoi(group); err != nil {
			return err
		}
		words = words[1:]
	}
	if len(words) != 2 || strings.HasPrefix(words[0], "-") {
		return fmt.Errorf("wanted is one source and one target, not %q", words)
	}
	source := words[0]
	if !filepath.IsAbs(source) {
		source = filepath.Join(b.folder, source)
	}
	return b.image.Add(source, words[1], uid, gid)
}
