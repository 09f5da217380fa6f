package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// Exit statuses. 128 and a signal's number is one more: see untilSignal.
const (
	exitOK      = 0
	exitFailed  = 1
	exitSetting = 2 // something is set wrong; trying again fails alike
)

// errReported says that the user knows already, and errWrongReported that it was
// about what is set.
var (
	errReported      = errors.New("reported")
	errWrongReported = fmt.Errorf("%w: %w", errReported, settings.ErrWrong)
)

// program is one run of weft.
type program struct {
	env            map[string]string
	stdout, stderr io.Writer
}

// command is something that weft does.
type command struct {
	name, usage string
	args        string         // what it takes beside flags, for the help
	table       settings.Table // what can be set of it
	inFile      settings.Table // what a file of settings may hold; none: it reads no file
	run         func(context.Context, settings.Sources) error
}

// run is the program: it returns the exit status. args begins with the
// program's name, environ is like [os.Environ]. It returns soon after ctx
// ends; `serve` then has closed its sockets and saved its rooms.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &program{env: settings.Environment(environ), stdout: stdout, stderr: stderr}
	err := p.dispatch(ctx, args[1:], []command{p.serve(), p.configCheck(), p.configPrint(), p.configReference(), p.token(), p.canary(), p.load(), p.version()})
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintf(p.stderr, "weft: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, settings.ErrWrong):
		return exitSetting
	}
	return exitFailed
}

func (p *program) dispatch(ctx context.Context, args []string, commands []command) error {
	if len(args) == 0 {
		return settings.Misused("nothing to do: see weft --help")
	}
	help := false
	switch args[0] {
	case "help", "--help", "-h":
		if help, args = true, args[1:]; len(args) == 0 {
			return p.help(commands)
		}
	}
	var names []string
	for _, c := range commands {
		words := strings.Fields(c.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != c.name {
			names = append(names, c.name)
			continue
		}
		if help {
			return c.help(p.stdout)
		}
		err := c.run(ctx, settings.Sources{Command: "weft " + c.name, Args: args[len(words):], Env: p.env, InFile: c.inFile})
		if errors.Is(err, settings.ErrHelp) {
			return c.help(p.stdout)
		}
		return err
	}
	called := args[0]
	if called == "config" { // the only one of two words
		if len(args) == 1 && help || len(args) > 1 && (args[1] == "--help" || args[1] == "-h") {
			return p.help(commands)
		}
		called = strings.Join(args[:min(2, len(args))], " ")
	}
	called = settings.Cut(called, 100)
	return settings.Misused("there is no command %q%s: see weft --help", called, settings.Suggest("", called, names))
}

func (p *program) help(commands []command) error {
	fmt.Fprint(p.stdout, "weft - a server for multiplayer canvases\n\n")
	for _, c := range commands {
		fmt.Fprintf(p.stdout, "  weft %-18s%s\n", c.name, c.usage)
	}
	_, err := fmt.Fprint(p.stdout, "\nweft COMMAND --help lists its flags and settings.\n")
	return err
}

func (c command) help(w io.Writer) error {
	head := "weft " + c.name
	if c.args != "" {
		head += " " + c.args
	}
	_, err := fmt.Fprintf(w, "%s - %s\n\n%s", head, c.usage, c.table.Help(c.inFile != nil))
	return err
}

// flagsOnly reads the settings of a command that takes no arguments.
func flagsOnly(t settings.Table, from settings.Sources) error {
	rest, problems := t.Read(from)
	if len(rest) > 0 {
		problems = append(problems, settings.NoArguments(from.Command))
	}
	return first(problems)
}

// first is the one problem that is told where there may be several.
func first(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	return problems[0]
}

// inServerFile is what may be in a file of settings: one that is written for the
// server is good for the other commands too.
func inServerFile() settings.Table { return new(settings.Server).Table() }
