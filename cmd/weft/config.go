package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

func (p *program) configCheck() command {
	return p.config("config check", "say whether `weft serve` would take its settings, and connect to nothing", func(*settings.Server, settings.Table) error {
		_, err := fmt.Fprintln(p.stdout, "OK")
		return err
	})
}

func (p *program) configPrint() command {
	return p.config("config print", "print the settings of `weft serve` that have an effect, and where they come from, as a YAML file without the secrets", func(o *settings.Server, t settings.Table) error {
		return o.WriteYAML(p.stdout, t)
	})
}

// config reads the settings of the server, and reports every problem.
func (p *program) config(name, usage string, then func(*settings.Server, settings.Table) error) command {
	o := new(settings.Server)
	t := o.Table()
	return command{name: name, usage: usage, table: t, inFile: t, run: func(_ context.Context, from settings.Sources) error {
		problems := o.Read(t, from)
		if errors.Is(first(problems), settings.ErrHelp) {
			return settings.ErrHelp
		}
		for _, v := range t.UnknownVariables(p.env) {
			fmt.Fprintf(p.stderr, "weft: %s is no setting%s\n", v.Name, v.Hint)
		}
		for _, problem := range problems {
			fmt.Fprintf(p.stderr, "weft: %v\n", problem)
		}
		if len(problems) > 0 {
			return errWrongReported
		}
		return then(o, t)
	}}
}

// referenceHead stands above the reference of the settings.
const referenceHead = "# Settings\n\n<!-- Made by `make docs` from the settings themselves. -->\n\n" + `Every setting of ` + "`weft serve`" + ` has a flag (` + "`--listen`" + `), an environment variable and a key in the YAML file
that ` + "`--config`" + ` or ` + "`WEFT_CONFIG`" + ` names; the flag wins over the variable, the variable over the file. ` + "`weft config check`" + `
says whether they fit together, and ` + "`weft config print`" + ` what is in effect and where it comes from.
`

func (p *program) configReference() command {
	return command{name: "config reference", usage: "print all settings of `weft serve` as Markdown", run: func(_ context.Context, from settings.Sources) error {
		if err := flagsOnly(nil, from); err != nil {
			return err
		}
		if _, err := fmt.Fprint(p.stdout, referenceHead); err != nil {
			return err
		}
		return inServerFile().Reference(p.stdout)
	}}
}
