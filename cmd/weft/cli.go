package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

// Exit statuses. 128 and a signal's number is one more: see untilSignal.
const (
	exitOK      = 0
	exitFailed  = 1
	exitSetting = 2 // something is set wrong; trying again fails alike
)

// errReported says that the user knows already.
var errReported = errors.New("reported")

// program is one run of weft.
type program struct {
	env            environment
	stdout, stderr io.Writer
	settings       []*setting // of the command that runs
}

// run is the program: it returns the exit status. args begins with the
// program's name, environ is like [os.Environ]. It returns soon after ctx
// ends; `serve` then has closed its sockets and saved its rooms.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &program{env: newEnvironment(environ), stdout: stdout, stderr: stderr}
	return p.run(ctx, args, p.serve(), p.token(), p.load(), p.version())
}

func (p *program) run(ctx context.Context, args []string, commands ...*cli.Command) int {
	root := &cli.Command{
		Name:   "weft",
		Usage:  "a server for multiplayer canvases",
		Writer: p.stdout, ErrWriter: p.stderr,
		Commands:       commands,
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run's caller exits
		OnUsageError:   p.usageError,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return settingError{fmt.Errorf("there is no command %q: see weft --help", cut(cmd.Args().First(), maxShown))}
			}
			return settingError{errors.New("nothing to do: see weft --help")}
		},
	}
	err := root.Run(ctx, args)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	}
	err = p.plainError(err)
	if errors.As(err, new(cli.ExitCoder)) { // `weft help` for what there is not
		err = settingError{err}
	}
	fmt.Fprintf(p.stderr, "weft: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if errors.Is(err, errSetting) {
		return exitSetting
	}
	return exitFailed
}

// command makes a command of its settings, which may be in the environment and
// in file, and of what it does once they are read.
func (p *program) command(name, usage string, file *configFile, settings []*setting, action func(context.Context) error) *cli.Command {
	if file != nil {
		settings = append([]*setting{file.setting()}, settings...)
	}
	cmd := &cli.Command{
		Name: name, Usage: usage,
		HideHelpCommand: true, CustomHelpTemplate: helpTemplate,
		OnUsageError: p.usageError,
		ArgValidator: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() { // not quoted: it may be half of a secret
				return settingError{fmt.Errorf("%s takes flags only, and an argument is none; a switch is turned off like this: --flag=false", name)}
			}
			return nil
		},
		Action: func(ctx context.Context, _ *cli.Command) error { return action(ctx) },
	}
	// The library asks sources in the order of the flags: the file must be
	// read before the settings that may be in it.
	for _, s := range settings {
		var sources []cli.ValueSource
		if !s.flagOnly {
			sources = append(sources, envSource{p.env, s})
			if file != nil && s.name != "config" {
				sources = append(sources, fileSource{file, s})
			}
		}
		cmd.Flags = append(cmd.Flags, s.flag(sources...))
		cmd.Description += s.help()
	}
	p.settings = append(p.settings, settings...)
	return cmd
}

// helpTemplate shows the settings as they describe themselves, in their own
// order; the library would sort them.
const helpTemplate = "{{.FullName}} - {{.Usage}}\n\n{{.Description}}"

// usageError keeps the library from printing the help when a flag is wrong.
func (p *program) usageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	err = p.plainError(err)
	if errors.Is(err, errSetting) {
		return err
	}
	text := err.Error()
	if flag, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		text = fmt.Sprintf("there is no flag --%s: see %s --help", cut(flag, maxShown), cmd.FullName())
	} else if flag, ok := strings.CutPrefix(text, "flag needs an argument: "); ok {
		text = fmt.Sprintf("%s needs a value", cut(flag, maxShown))
	}
	return settingError{errors.New(text)}
}

// plainError prefers what a setting says about its value to what the library
// makes of it.
func (p *program) plainError(err error) error {
	for _, s := range p.settings {
		if s.err != nil {
			return s.err
		}
	}
	return err
}

// known lists every setting of the server: a file or an environment that is
// written for it is good for the other commands too.
func known() []*setting { return new(options).settings() }
