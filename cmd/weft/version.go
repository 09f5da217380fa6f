package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v3"
)

func (p *program) version() *cli.Command {
	return p.command("version", "print which weft this is", nil, nil, func(context.Context) error {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			info = &debug.BuildInfo{}
		}
		_, err := fmt.Fprintln(p.stdout, versionLine(info))
		return err
	})
}

// versionLine is the module's version, the commit it was built from as far as
// the build knows it, and what built it.
func versionLine(info *debug.BuildInfo) string {
	vcs := map[string]string{}
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	line := "weft " + cmp.Or(info.Main.Version, "(devel)")
	if revision := vcs["vcs.revision"]; revision != "" {
		line += ", commit " + revision
		if t := vcs["vcs.time"]; t != "" {
			line += " of " + t
		}
		if vcs["vcs.modified"] == "true" {
			line += ", changed"
		}
	}
	return fmt.Sprintf("%s, %s %s/%s", line, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
