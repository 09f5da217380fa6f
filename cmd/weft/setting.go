package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v3"
)

// setting is one thing that a user can set: a flag, and unless it is flagOnly
// an environment variable and a key of the YAML file too. Whatever the source,
// its value arrives as text, and set is where text becomes a value.
type setting struct {
	name     string // of the flag and the YAML key
	usage    string
	metavar  string // what stands for the value in the help
	initial  string // the default, as the help shows it
	heading  string // in the help, above this setting and those after it
	flagOnly bool
	secret   bool // its value is never shown, not even when it is wrong
	isSwitch bool // needs no value on the command line
	canEmpty bool // an empty environment variable is a value, not "not set"
	isList   bool // may be a list in YAML

	// set takes a value. Its error completes the sentence `"the value" …`; it
	// does not quote the value.
	set func(text string) error

	// from says where the value comes from; empty while it is the default.
	from string
	err  error // why the value was refused
}

// env is the name of the setting's environment variable.
func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

const envPrefix = "WEFT_"

func (s *setting) isSet() bool { return s.from != "" }

// take sets the value that source holds.
func (s *setting) take(text, source string) error {
	s.from = source
	if err := s.set(text); err != nil {
		s.err = s.refuse(text, err)
		return s.err
	}
	return nil
}

func (s *setting) refuse(text string, why error) error {
	shown := strconv.Quote(text)
	switch {
	case s.secret:
		shown = "the value"
	case len(text) > maxShown:
		shown = strconv.Quote(strings.ToValidUTF8(text[:maxShown], "")) + "…"
	}
	return s.wrong("%s %w", shown, why)
}

// wrong says what is wrong with a setting, and where its value is from.
func (s *setting) wrong(format string, args ...any) error {
	if s.from != "" {
		format += " (from " + strings.ReplaceAll(s.from, "%", "%%") + ")"
	}
	return badSetting(s.name, format, args...)
}

// maxShown is how much of a wrong value is shown, in bytes.
const maxShown = 300

// errSetting is wrapped by every error about what the user has set. It makes
// the exit status 2.
var errSetting = errors.New("bad setting")

type settingError struct{ error }

func (settingError) Is(target error) bool { return target == errSetting }
func (e settingError) Unwrap() error      { return e.error }

// badSetting names a setting and says what is wrong with it.
func badSetting(name, format string, args ...any) error {
	return settingError{fmt.Errorf(name+": "+format, args...)}
}

// flag is the setting as the command line knows it. It asks the sources in
// their order if the command line does not have it.
func (s *setting) flag(sources ...cli.ValueSource) cli.Flag {
	return &settingFlag{Name: s.name, Config: s, Sources: cli.NewValueSourceChain(sources...)}
}

// settingFlag adapts a setting to the command line library. The library picks
// the source; the setting itself reads the value, so that one error text
// serves all sources.
type settingFlag = cli.FlagBase[string, *setting, settingCreator]

type settingCreator struct{}

func (settingCreator) Create(_ string, _ *string, s *setting) cli.Value { return settingValue{s} }
func (settingCreator) ToString(string) string                           { return "" }

type settingValue struct{ s *setting }

func (v settingValue) IsBoolFlag() bool { return v.s.isSwitch }
func (v settingValue) String() string   { return "" }
func (v settingValue) Get() any         { return "" }

func (v settingValue) Set(text string) error {
	source := "--" + v.s.name
	if pending := v.s.from; strings.HasPrefix(pending, lookedUp) {
		source = strings.TrimPrefix(pending, lookedUp)
	}
	return v.s.take(text, source)
}

// help is the setting's paragraph in the help.
func (s *setting) help() string {
	head := "--" + s.name
	if s.metavar != "" {
		head += " " + s.metavar
	}
	var notes []string
	if !s.flagOnly {
		notes = append(notes, s.env())
	}
	if s.initial != "" {
		notes = append(notes, "default "+s.initial)
	}
	text := s.usage
	if len(notes) > 0 {
		text += " [" + strings.Join(notes, ", ") + "]"
	}
	if s.heading != "" {
		head = "\n" + s.heading + ":\n  " + head
	} else {
		head = "  " + head
	}
	return head + "\n" + wrap(text, "      ", 84) + "\n"
}

// shortSize writes 8MiB, as one would set it.
func shortSize(n int) string {
	return strings.NewReplacer(" ", "", ".0", "").Replace(humanize.IBytes(uint64(n)))
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

// The kinds of setting. Each sets *p to its default at once.

func textSetting(name string, p *string, initial, metavar, usage string) *setting {
	*p = initial
	return &setting{name: name, initial: initial, metavar: metavar, usage: usage, set: func(text string) error {
		if text == "" && initial != "" {
			return errors.New("must not be empty")
		}
		*p = text
		return nil
	}}
}

func secret(s *setting) *setting { s.secret = true; return s }

// addressSetting is an address to listen at. One that canEmpty means, when it
// is empty, not to listen.
func addressSetting(name string, p *string, initial, usage string, canEmpty bool) *setting {
	*p = initial
	return &setting{name: name, initial: initial, metavar: "HOST:PORT", usage: usage, canEmpty: canEmpty, set: func(text string) error {
		if text != "" || !canEmpty {
			_, port, err := net.SplitHostPort(text)
			if err != nil {
				return errors.New("is not an address, such as :8080 or 127.0.0.1:8080")
			}
			if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				return errors.New("has no port between 0 and 65535")
			}
		}
		*p = text
		return nil
	}}
}

func choiceSetting(name string, p *string, initial, usage string, choices ...string) *setting {
	s := textSetting(name, p, initial, strings.Join(choices, "|"), usage)
	s.set = func(text string) error {
		if !slices.Contains(choices, text) {
			return fmt.Errorf("is not one of %s", strings.Join(choices, ", "))
		}
		*p = text
		return nil
	}
	return s
}

// switchSetting is true when its flag stands alone: --dev.
func switchSetting(name string, p *bool, usage string) *setting {
	*p = false
	return &setting{name: name, usage: usage, isSwitch: true, initial: "false", set: func(text string) error {
		v, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("is not true or false")
		}
		*p = v
		return nil
	}}
}

func durationSetting(name string, p *time.Duration, initial, least time.Duration, usage string) *setting {
	*p = initial
	return &setting{name: name, usage: usage, metavar: "DURATION", initial: shortDuration(initial), set: func(text string) error {
		v, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("is not a duration, such as 500ms, 2s or 1m30s")
		}
		if v < least || v > maxDuration {
			return fmt.Errorf("is not between %s and %s", shortDuration(least), shortDuration(maxDuration))
		}
		*p = v
		return nil
	}}
}

// maxDuration bounds every duration: longer ones are slips, and overflow sums.
const maxDuration = 10_000 * time.Hour

// shortDuration writes 1m rather than 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func sizeSetting(name string, p *int, initial, least int, usage string) *setting {
	*p = initial
	return &setting{name: name, usage: usage, metavar: "BYTES", initial: shortSize(initial), set: func(text string) error {
		v, err := humanize.ParseBytes(text)
		if err != nil || strings.Contains(text, ",") { // the library drops commas: 1,5MB would be 15 MB
			return errors.New("is not a number of bytes, such as 8388608, 8MiB or 32MB")
		}
		if v < uint64(least) || v > math.MaxInt/2 {
			return fmt.Errorf("is not between %s and what this machine can address", shortSize(least))
		}
		*p = int(v)
		return nil
	}}
}

func countSetting(name string, p *int, initial, least int, usage string) *setting {
	*p = initial
	return &setting{name: name, usage: usage, metavar: "N", initial: strconv.Itoa(initial), set: func(text string) error {
		v, err := strconv.ParseInt(text, 10, 0)
		if err != nil {
			return errors.New("is not a whole number")
		}
		if v < int64(least) || v > math.MaxInt32 {
			return fmt.Errorf("is not between %d and %d", least, math.MaxInt32)
		}
		*p = int(v)
		return nil
	}}
}

func numberSetting(name string, p *float64, initial float64, usage string) *setting {
	*p = initial
	return &setting{name: name, usage: usage, metavar: "NUMBER", initial: strconv.FormatFloat(initial, 'g', -1, 64), set: func(text string) error {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return errors.New("is not a number above 0")
		}
		*p = v
		return nil
	}}
}

// listSetting takes texts between commas; blanks around them and empty ones
// do not count.
func listSetting(name string, p *[]string, metavar, usage string, check func(string) error) *setting {
	*p = nil
	return &setting{name: name, usage: usage, metavar: metavar, isList: true, set: func(text string) error {
		var items []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if err := check(item); err != nil {
				return err
			}
			items = append(items, item)
		}
		*p = items
		return nil
	}}
}
