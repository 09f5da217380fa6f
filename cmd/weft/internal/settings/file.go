package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const configName = "config"

// configSetting names the YAML file. It comes first, since other settings are
// looked up in the file.
func configSetting() *Setting {
	return &Setting{Name: configName, Kind: Text(new(string), "FILE"),
		Usage: "YAML file of settings, by the names of the flags: `save-interval: 2s`. Flags and environment variables override it."}
}

type fileValue struct{ text, from string }

// maxConfigFile bounds the file, in bytes.
const maxConfigFile = 1 << 20

// readFile reads a YAML file of settings: a mapping from their names to their
// values, as the flags are called and written. A list is a YAML list too. The
// problems complete the sentence "the file …".
func readFile(path string, known Table) (map[string]fileValue, []error) {
	text, err := ReadFile(path, maxConfigFile)
	if err != nil {
		return nil, []error{err}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing but comments
	case err != nil:
		return nil, []error{yamlError(err)}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, []error{errors.New("has more than one YAML document")}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, []error{errors.New("is not a YAML mapping from settings to values")}
	}
	values := map[string]fileValue{}
	var problems []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if _, twice := values[key.Value]; twice {
			problems = append(problems, fmt.Errorf("line %d: %s is there twice", key.Line, key.Value))
			continue
		}
		text, err := known.fileText(key, value)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		values[key.Value] = fileValue{text, fmt.Sprintf("%s, line %d", path, value.Line)}
	}
	return values, problems
}

// fileText is the text of one setting in the file.
func (t Table) fileText(key, value *yaml.Node) (string, error) {
	s := t.find(key.Value)
	if s == nil || s.FlagOnly {
		var names []string
		for _, s := range t.All() {
			names = append(names, s.Name)
		}
		return "", fmt.Errorf("line %d: unknown setting %q%s", key.Line, Cut(key.Value, maxShown), Suggest("", key.Value, names))
	}
	text, ok := scalar(value)
	if !ok && s.Kind.isList {
		text, ok = list(value)
	}
	if !ok {
		return "", fmt.Errorf("line %d: %s has no plain value", value.Line, key.Value)
	}
	return text, nil
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

// ReadFile reads a file of at most limit bytes. Its errors complete the sentence
// "the file …".
func ReadFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", rootCause(err))
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", rootCause(err))
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("is larger than %d bytes", limit)
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil // which some editors put first
}

// rootCause is the innermost error: of `open x: no such file or directory` the
// part that a sentence about x needs.
func rootCause(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}
