// Package settings is what can be set of weft, and how it is read.
//
// A command has a [Table], whose rows say everything about a setting: its name,
// its kind, its default and when it has an effect. [Table.Read] fills in what
// the rows point to, from flags before environment variables before a YAML
// file. [Server] is the table of `weft serve`, in server.go; a new setting is a
// row there. What is wrong with a value is said by its kind (kinds.go), by the
// package whose Config it goes into (see [room.ConfigError]), or, where
// settings contradict each other, by [Server.Check].
package settings

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weftsync/weft/room"
)

// A Setting is one thing that a user can set: a flag, and unless it is FlagOnly
// an environment variable and a key of the YAML file too. Whatever the source,
// its value arrives as text.
type Setting struct {
	Name    string // of the flag and the YAML key
	Kind    Kind   // how text becomes a value, and where that goes
	Default string // as one would set it
	Usage   string
	Field   string // which the value goes to, as a [room.ConfigError] names it
	Only    Mode   // when it has an effect

	FlagOnly bool
	Secret   bool // its value is never shown, not even when it is wrong
	CanEmpty bool // an empty environment variable is a value, not "not set"

	text string // its value
	from string // where that comes from; empty while it is the default
}

// Mode is when a setting has an effect.
type Mode int

// The modes. Settings for one that is not chosen are refused.
const (
	Always    Mode = iota
	OneNode        // without a Redis
	InCluster      // with a Redis
	ByJWT          // where a JWT says who may connect
	ByWebhook      // where a webhook does
)

// Env is the name of the setting's environment variable.
func (s *Setting) Env() string { return envName(s.Name) }

// From says where the value comes from; empty while it is the default.
func (s *Setting) From() string { return s.from }

// IsSet reports whether anybody has set it.
func (s *Setting) IsSet() bool { return s.from != "" }

const envPrefix = "WEFT_"

func envName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// take sets the value that source holds.
func (s *Setting) take(text, source string) error {
	s.text, s.from = text, source
	if err := s.Kind.set(text); err != nil {
		return s.refuse(err)
	}
	return nil
}

// refuse says why the value cannot be: why completes the sentence "the value …".
func (s *Setting) refuse(why error) error {
	shown := strconv.Quote(s.text)
	switch {
	case s.Secret:
		shown = "the value"
	case len(s.text) > maxShown:
		shown = strconv.Quote(Cut(s.text, maxShown)) // with its mark
	}
	return s.Wrong("%s %w", shown, why)
}

// Wrong says what is wrong with a setting, and where its value is from.
func (s *Setting) Wrong(format string, args ...any) error {
	if s.from != "" {
		format += " (from " + strings.ReplaceAll(s.from, "%", "%%") + ")"
	}
	return Wrong(s.Name, format, args...)
}

// maxShown is how much of a wrong value is shown, in bytes.
const maxShown = 300

// Cut shows no more of a text than n bytes.
func Cut(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// ErrWrong is wrapped by every error about what the user has set.
var ErrWrong = errors.New("wrong setting")

type wrong struct{ error }

func (wrong) Is(target error) bool { return target == ErrWrong }
func (e wrong) Unwrap() error      { return e.error }

// Wrong names what is set wrong and says what is wrong with it.
func Wrong(name, format string, args ...any) error {
	return wrong{fmt.Errorf(name+": "+format, args...)}
}

// Misused is an error about how a command was called, in its own words.
func Misused(format string, args ...any) error {
	return wrong{fmt.Errorf(format, args...)}
}

// A Table lists what can be set, under headings.
type Table []Group

// A Group is a part of a table.
type Group struct {
	Heading  string
	Settings []*Setting
}

// All lists the settings of all groups.
func (t Table) All() []*Setting {
	var all []*Setting
	for _, g := range t {
		all = append(all, g.Settings...)
	}
	return all
}

// find returns the setting of a name, nil if there is none.
func (t Table) find(name string) *Setting {
	for _, s := range t.All() {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Translate makes of what a package says about a field of its Config what the
// setting behind that field says, which wraps [ErrWrong] unless it may do later.
// Other errors stay as they are.
func (t Table) Translate(err error) error {
	bad, ok := errors.AsType[*room.ConfigError](err)
	if !ok {
		return err
	}
	var behind *Setting
	for _, s := range t.All() {
		if s.Field == bad.Field && (behind == nil || s.IsSet()) {
			behind = s
		}
	}
	if behind == nil {
		return err
	}
	if !behind.IsSet() && behind.text == "" {
		err = behind.Wrong("%w", bad.Problem)
	} else {
		err = behind.refuse(bad.Problem)
	}
	if bad.Temporary {
		return errors.New(err.Error()) // which may be right without a change
	}
	return err
}
