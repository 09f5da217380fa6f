package chart

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	release "helm.sh/helm/v4/pkg/release/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	chartDir    = "../../helm/weft"
	releaseName = "canvas"
	namespace   = "rooms"
	fullname    = "canvas-weft"
)

// values are what a user gives to helm.
type values = map[string]any

// parse reads values as `--values` does.
func parse(t *testing.T, text string) values {
	t.Helper()
	v := values{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("values: %v\n%s", err, text)
	}
	return v
}

// merge puts values over each other; the last one wins.
func merge(all ...values) values {
	sum := values{}
	for _, v := range all {
		for key, value := range v {
			inner, isMap := value.(map[string]any)
			before, wasMap := sum[key].(map[string]any)
			if isMap && wasMap {
				value = merge(before, inner)
			}
			sum[key] = value
		}
	}
	return sum
}

// rendering is what `helm install` would make of values.
type rendering struct {
	objects []object // of the release, and the pods of `helm test`
	notes   string
}

type object struct {
	meta.TypeMeta `json:",inline"`
	Metadata      meta.ObjectMeta `json:"metadata"`
	text          string
}

func (o object) String() string { return o.Kind + " " + o.Metadata.Name }

// install renders the chart as `helm install --dry-run=client` does.
func install(v values) (rendering, error) { return installChart(chartDir, v) }

func installChart(dir string, v values) (rendering, error) {
	loaded, err := loader.Load(dir)
	if err != nil {
		return rendering{}, err
	}
	config := action.NewConfiguration()
	config.SetLogger(slog.NewTextHandler(io.Discard, nil))
	install := action.NewInstall(config)
	install.DryRunStrategy = action.DryRunClient
	install.ReleaseName, install.Namespace = releaseName, namespace
	install.KubeVersion = &common.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	made, err := install.Run(loaded, v)
	if err != nil {
		return rendering{}, err
	}
	r := made.(*release.Release)
	texts := []string{r.Manifest}
	for _, hook := range r.Hooks {
		texts = append(texts, hook.Manifest)
	}
	rendered := rendering{notes: r.Info.Notes}
	for text := range strings.SplitSeq("\n"+strings.Join(texts, "\n---\n"), "\n---") {
		o := object{text: text}
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			return rendering{}, fmt.Errorf("%w in:\n%s", err, text)
		}
		if o.Kind != "" {
			rendered.objects = append(rendered.objects, o)
		}
	}
	return rendered, nil
}

func mustInstall(t *testing.T, v values) rendering {
	t.Helper()
	r, err := install(v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// all are the objects of a kind.
func all[T any](t *testing.T, r rendering, kind string) []T {
	t.Helper()
	var found []T
	for _, o := range r.objects {
		if o.Kind != kind {
			continue
		}
		var typed T
		if err := yaml.Unmarshal([]byte(o.text), &typed); err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		found = append(found, typed)
	}
	return found
}

// one is the only object of a kind, or the one with the name, if that is given.
func one[T any](t *testing.T, r rendering, kind string, name ...string) T {
	t.Helper()
	var found []object
	for _, o := range r.objects {
		if o.Kind == kind && (len(name) == 0 || o.Metadata.Name == name[0]) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s %v, want one", len(found), kind, name)
	}
	return all[T](t, rendering{objects: found}, kind)[0]
}

func (r rendering) has(kind string) bool {
	return slices.ContainsFunc(r.objects, func(o object) bool { return o.Kind == kind })
}

// stream is the rendering as `helm template` prints it.
func (r rendering) stream() []byte {
	var b bytes.Buffer
	for _, o := range r.objects {
		fmt.Fprintf(&b, "---\n%s\n", o.text)
	}
	return b.Bytes()
}

// env is a variable of a container; "" if it is not there.
func env(c core.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
				return e.ValueFrom.FieldRef.FieldPath
			}
			return e.Value
		}
	}
	return ""
}

// ciValues are the files of values that come with the chart.
func ciValues(t *testing.T) map[string]values {
	t.Helper()
	files, err := filepath.Glob(chartDir + "/ci/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values in %s/ci: %v", chartDir, err)
	}
	found := map[string]values{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(file)] = parse(t, string(text))
	}
	return found
}
