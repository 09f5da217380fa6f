package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftsync/weft/cmd/weft/internal/settings"
)

// What the Makefile's builds are told by -ldflags: `git describe`'s version, and the whole commit.
// They are empty in others, such as `go install`'s, of which Go knows the module's version.
var version, commit string

func (p *program) version() command {
	return command{name: "version", usage: "print the version and the commit", run: func(_ context.Context, from settings.Sources) error {
		if err := flagsOnly(nil, from); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.stdout, whatWasBuilt(version, commit, buildInfo()))
		return err
	}}
}

func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}

// build is the version, the commit it was built from as far as the build knows
// it, and what there is to say of that commit.
type build struct{ version, commit, remark string }

func whatWasBuilt(version, commit string, info *debug.BuildInfo) build {
	b := build{version: cmp.Or(version, info.Main.Version, "(devel)"), commit: commit}
	if commit != "" {
		return b
	}
	vcs := map[string]string{}
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	if b.commit = vcs["vcs.revision"]; b.commit == "" {
		return b
	}
	if t := vcs["vcs.time"]; t != "" {
		b.remark = " of " + t
	}
	if vcs["vcs.modified"] == "true" {
		b.remark += ", changed"
	}
	return b
}

func (b build) String() string {
	line := "weft " + b.version
	if b.commit != "" {
		line += ", commit " + b.commit + b.remark
	}
	return fmt.Sprintf("%s, %s %s/%s", line, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildMetric says which weft runs.
func buildMetric() prometheus.Collector {
	b := whatWasBuilt(version, commit, buildInfo())
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weft_build_info", Help: "Which weft this is: always 1, with the labels saying what.",
		ConstLabels: prometheus.Labels{"version": b.version, "commit": b.commit, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}
