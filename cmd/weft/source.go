package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lookedUp marks, in setting.from, a source in which a value has been found
// and not yet been read: the library asks a source and then sets the value,
// without telling the value where it is from.
const lookedUp = "found in "

// environment is what the process was started with.
type environment map[string]string

func newEnvironment(pairs []string) environment {
	env := environment{}
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// unknown lists, sorted, the variables with Weft's prefix that mean nothing.
func (e environment) unknown(known []*setting) []string {
	var names []string
	for name := range e {
		if strings.HasPrefix(name, envPrefix) && !orchestrated.MatchString(name) &&
			!slices.ContainsFunc(known, func(s *setting) bool { return !s.flagOnly && s.env() == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// orchestrated matches the variables that Kubernetes and Docker links put into
// every container beside a service that is called weft.
var orchestrated = regexp.MustCompile(`^WEFT_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP).*)?)$`)

// envSource is a setting's environment variable.
type envSource struct {
	env environment
	s   *setting
}

func (e envSource) String() string   { return e.s.env() }
func (e envSource) GoString() string { return e.s.env() }
func (e envSource) IsFromEnv() bool  { return true }
func (e envSource) Key() string      { return e.s.env() }

// Lookup passes over an empty variable where empty is no value: that is how
// compose files and charts write "not set".
func (e envSource) Lookup() (string, bool) {
	text, ok := e.env[e.s.env()]
	if !ok || text == "" && !e.s.canEmpty {
		return "", false
	}
	e.s.from = lookedUp + e.s.env()
	return text, true
}

// fileSource is a setting's key in the YAML file, once that has been read.
type fileSource struct {
	file *configFile
	s    *setting
}

func (f fileSource) String() string   { return f.file.path }
func (f fileSource) GoString() string { return f.file.path }

func (f fileSource) Lookup() (string, bool) {
	v, ok := f.file.values[f.s.name]
	if !ok {
		return "", false
	}
	f.s.from = lookedUp + v.from
	return v.text, true
}

// configFile is a YAML file of settings: a mapping from their names to their
// values, as the flags are called and written. A list is a YAML list too.
type configFile struct {
	known  []*setting // every setting that may be in the file
	path   string
	values map[string]fileValue
}

type fileValue struct{ text, from string }

// maxConfigFile bounds the file, in bytes.
const maxConfigFile = 1 << 20

// setting is the flag that names the file. It must come before the settings
// that the file may hold, since its value is what they are looked up in.
func (f *configFile) setting() *setting {
	return &setting{
		name: "config", metavar: "FILE",
		usage: "YAML file of settings, by the names of the flags: `save-interval: 2s`. Flags and environment variables come before it.",
		set: func(path string) error {
			if path == "" {
				return nil
			}
			return f.read(path)
		},
	}
}

// read reads the file. Its errors complete the sentence `"path" …`.
func (f *configFile) read(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", rootCause(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfigFile+1))
	switch {
	case err != nil:
		return fmt.Errorf("cannot be read: %w", rootCause(err))
	case len(text) > maxConfigFile:
		return fmt.Errorf("is larger than %d bytes", maxConfigFile)
	}
	f.path, f.values = path, map[string]fileValue{}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // nothing but comments
	case err != nil:
		return yamlError(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("has more than one YAML document")
	}
	return f.take(doc.Content[0])
}

func (f *configFile) take(root *yaml.Node) error {
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return errors.New("is not a YAML mapping from settings to values")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		at := slices.IndexFunc(f.known, func(s *setting) bool { return s.name == key.Value && !s.flagOnly })
		if at < 0 {
			return fmt.Errorf("line %d: unknown setting %q", key.Line, cut(key.Value, maxShown))
		}
		if _, twice := f.values[key.Value]; twice {
			return fmt.Errorf("line %d: %s is there twice", key.Line, key.Value)
		}
		text, ok := scalar(value)
		if !ok && f.known[at].isList {
			text, ok = list(value)
		}
		if !ok {
			return fmt.Errorf("line %d: %s has no plain value", value.Line, key.Value)
		}
		f.values[key.Value] = fileValue{text, fmt.Sprintf("%s, line %d", f.path, value.Line)}
	}
	return nil
}

// scalar is a value as it stands in the file, so that 1h, true and 8MiB are
// read by the setting and not by YAML.
func scalar(n *yaml.Node) (string, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && n.Tag != "!!null"
}

func list(n *yaml.Node) (string, bool) {
	if n.Kind != yaml.SequenceNode {
		return "", false
	}
	var items []string
	for _, item := range n.Content {
		text, ok := scalar(item)
		if !ok {
			return "", false
		}
		items = append(items, text)
	}
	return strings.Join(items, ","), true
}

var yamlLine = regexp.MustCompile(`line \d+`)

// yamlError keeps of the library's error the line only: the rest may quote the
// file, which may hold secrets.
func yamlError(err error) error {
	if line := yamlLine.FindString(err.Error()); line != "" {
		return fmt.Errorf("is not YAML: %s", line)
	}
	return errors.New("is not YAML")
}

// cut shows no more of a text than n bytes.
func cut(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// rootCause is the innermost error: of `open x: no such file or directory` the
// part that a sentence about x needs.
func rootCause(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}
