package settings

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Help describes the settings for a terminal, in the table's order. inFile says
// that the command reads a file of settings.
func (t Table) Help(inFile bool) string {
	var b strings.Builder
	if inFile {
		b.WriteString(configSetting().help())
	}
	for _, g := range t {
		if g.Heading != "" {
			b.WriteString("\n" + g.Heading + ":\n")
		}
		for _, s := range g.Settings {
			b.WriteString(s.help())
		}
	}
	return b.String()
}

func (s *Setting) help() string {
	head := "--" + s.Name
	if s.Kind.metavar != "" {
		head += " " + s.Kind.metavar
	}
	var notes []string
	if !s.FlagOnly {
		notes = append(notes, s.Env())
	}
	if s.Default != "" {
		notes = append(notes, "default "+s.Default)
	}
	text := s.Usage
	if len(notes) > 0 {
		text += " [" + strings.Join(notes, ", ") + "]"
	}
	return "  " + head + "\n" + wrap(text, "      ", 84) + "\n"
}

// wrap breaks text between words so that indented lines have at most width
// characters.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	room := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
			b.WriteString(indent)
			room = width - len(indent)
		case room < n+1:
			b.WriteString("\n" + indent)
			room = width - len(indent)
		default:
			b.WriteByte(' ')
			room--
		}
		b.WriteString(word)
		room -= n
	}
	return b.String()
}

// Reference writes the table as Markdown.
func (t Table) Reference(w io.Writer) error {
	var b strings.Builder
	for _, g := range t {
		fmt.Fprintf(&b, "\n## %s\n\n| setting | variable | value | default | |\n|---|---|---|---|---|\n", g.Heading)
		for _, s := range g.Settings {
			value := s.Kind.metavar
			if s.Kind.isSwitch {
				value = "true|false"
			}
			usage := s.Usage
			if effect := s.Only.String(); effect != "" {
				usage += " (" + effect + ")"
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", s.Name, s.Env(), cell(value), code(s.Default), cell(usage))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// cell keeps a text in one cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(text)
}

// String says, for those who read about a setting, when it has an effect.
func (m Mode) String() string {
	return [...]string{Always: "", OneNode: "one node only", InCluster: "in a cluster only", ByJWT: "with a JWT only", ByWebhook: "with a webhook only"}[m]
}

// WriteYAML writes the settings that have an effect as a file that can be read
// back, and where each comes from. Secrets are written as ***. The server has
// been read without a problem.
func (o *Server) WriteYAML(w io.Writer, t Table) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	var unset []string
	for _, g := range t {
		first := true
		for _, s := range g.Settings {
			switch {
			case !o.hasEffect(s, t):
				continue
			case s.text == "" && !s.CanEmpty:
				unset = append(unset, s.Name)
				continue
			}
			key := &yaml.Node{Kind: yaml.ScalarNode, Value: s.Name}
			if first {
				key.HeadComment = g.Heading
				if first = false; len(root.Content) > 0 {
					key.HeadComment = "\n" + g.Heading
				}
			}
			value := s.yaml()
			value.LineComment = "default"
			if s.from != "" {
				value.LineComment = "from " + s.from
			}
			root.Content = append(root.Content, key, value)
		}
	}
	encoder := yaml.NewEncoder(w)
	if err := encoder.Encode(root); err != nil {
		return err
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	if len(unset) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n# not set: %s\n", strings.Join(unset, ", "))
	return err
}

func (s *Setting) yaml() *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.text}
	switch {
	case s.Secret:
		n.Value, n.Style = "***", yaml.DoubleQuotedStyle
	case s.Kind.plain:
		n.Tag = ""
	}
	return n
}

// hasEffect reports whether a setting does anything as the others are.
func (o *Server) hasEffect(s *Setting, t Table) bool {
	switch s.Only {
	case OneNode:
		return !o.Shared()
	case InCluster:
		return o.Shared()
	case ByJWT, ByWebhook:
		return !o.Dev && s.Only == t.chosenMode()
	}
	return true
}
