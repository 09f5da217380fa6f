package settings

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// ErrHelp is what [Table.Read] returns when the arguments ask for help.
var ErrHelp = pflag.ErrHelp

// Sources is where the values of settings come from.
type Sources struct {
	Command string            // which is called, such as "weft serve"
	Args    []string          // after the command's name
	Env     map[string]string // environment variables
	// InFile lists the settings that may be in the YAML file, which --config
	// names; without any there is no such flag.
	InFile Table
}

// Environment makes a map of what [os.Environ] returns.
func Environment(pairs []string) map[string]string {
	env := map[string]string{}
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// Read sets every setting of the table: to the flag among the arguments, else
// to the environment variable, else to what the file says, else to its default.
// It returns the arguments that are no flags, and all that is wrong, each
// wrapping [ErrWrong].
func (t Table) Read(from Sources) (rest []string, problems []error) {
	if from.InFile != nil {
		t = append(Table{{Settings: []*Setting{configSetting()}}}, t...)
	}
	for _, s := range t.All() {
		s.text, s.from = s.Default, ""
		if err := s.Kind.set(s.Default); err != nil {
			panic(fmt.Sprintf("the default of %s %v", s.Name, err))
		}
	}
	flags := t.flags()
	if err := flags.Parse(from.Args); errors.Is(err, pflag.ErrHelp) {
		return nil, []error{ErrHelp}
	} else if err != nil {
		return nil, []error{unread{t.flagError(from.Command, err)}}
	}
	var file map[string]fileValue
	for _, s := range t.All() { // --config is the first
		text, source, ok := s.lookUp(flags, from.Env, file)
		if !ok {
			continue
		}
		if err := s.take(text, source); err != nil {
			problems = append(problems, err)
		}
		if s.Name == configName && text != "" {
			var wrong []error
			file, wrong = readFile(text, from.InFile)
			for _, err := range wrong {
				problems = append(problems, unread{s.refuse(err)})
			}
		}
	}
	return flags.Args(), append(problems, t.twins()...)
}

// unread is an error for which some settings are not known.
type unread struct{ error }

func (e unread) Unwrap() error { return e.error }

func isUnread(err error) bool { return errors.As(err, new(unread)) }

// twins are settings that are set both by themselves and by a file: it would be
// a guess which was meant.
func (t Table) twins() (problems []error) {
	for _, s := range t.All() {
		if file := t.find(s.Name + "-file"); file != nil && s.text != "" && file.text != "" {
			problems = append(problems, s.Wrong("cannot be set together with %s", file.Name))
		}
	}
	return problems
}

// lookUp asks the sources in their order.
func (s *Setting) lookUp(flags *pflag.FlagSet, env map[string]string, file map[string]fileValue) (text, source string, ok bool) {
	if f := flags.Lookup(s.Name); f.Changed {
		return f.Value.String(), "--" + s.Name, true
	}
	if s.FlagOnly {
		return "", "", false
	}
	// An empty variable is how compose files and charts write "not set".
	if text, ok := env[s.Env()]; ok && (text != "" || s.CanEmpty) {
		return text, s.Env(), true
	}
	v, ok := file[s.Name]
	return v.text, v.from, ok
}

// flags makes flags that keep their text: the settings read it, so that one
// error text serves all sources.
func (t Table) flags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	for _, s := range t.All() {
		flags.String(s.Name, "", "")
		if s.Kind.isSwitch {
			flags.Lookup(s.Name).NoOptDefVal = "true"
		}
	}
	return flags
}

// flagError names the flag, never a value: that may be a secret.
func (t Table) flagError(command string, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			return Misused("there is no flag -%s, all begin with two dashes: see %s --help", string([]rune(short)[0]), command)
		}
		names := []string{"--help"}
		for _, s := range t.All() {
			names = append(names, "--"+s.Name)
		}
		return Misused("there is no flag --%s%s: see %s --help", Cut(name, maxShown), Suggest("--", name, names), command)
	}
	if bare, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Misused("--%s needs a value", bare.GetSpecifiedName())
	}
	return Misused("a flag is not written like --name or --name=value: see %s --help", command)
}

// Unknown is an environment variable with Weft's prefix that means nothing.
type Unknown struct {
	Name string
	Hint string // ", did you mean WEFT_…?", or nothing
}

// UnknownVariables lists them, sorted by name.
func (t Table) UnknownVariables(env map[string]string) []Unknown {
	known := []string{envName(configName)}
	for _, s := range t.All() {
		if !s.FlagOnly {
			known = append(known, s.Env())
		}
	}
	var list []Unknown
	for name, value := range env {
		if strings.HasPrefix(name, envPrefix) && !orchestrated(name, value) && !slices.Contains(known, name) {
			list = append(list, Unknown{name, Suggest(envPrefix, name, known)})
		}
	}
	slices.SortFunc(list, func(a, b Unknown) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// orchestrated reports whether it is a variable that Kubernetes and Docker links
// put into every container beside a service that is called weft or weft-….
func orchestrated(name, value string) bool {
	return linkName.MatchString(name) || strings.HasSuffix(name, "_PORT") && linkValue.MatchString(value)
}

var (
	linkName  = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP)(_.*)?)$`)
	linkValue = regexp.MustCompile(`^(tcp|udp)://`)
)
