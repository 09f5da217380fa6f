package chart

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the chart's README")

// TestReadmeIsCurrent: the chart's README is what helm-docs makes of its
// template and of values.yaml, in which every value is explained.
func TestReadmeIsCurrent(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Chart.yaml", "values.yaml", "README.md.gotmpl"} {
		text, err := os.ReadFile(filepath.Join(chartDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.Command("go", "tool", "helm-docs", "--chart-search-root", dir, "--sort-values-order", "file", "--log-level", "warning")
	run.Dir = "helmdocs"
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(chartDir, "README.md")
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // everybody may read it
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("the chart's README is not what its template and values.yaml make: run `make chart-docs`")
	}
	if !strings.Contains(string(got), table()) {
		t.Errorf("the README does not have what the model says:\n%s", table())
	}
	for line := range strings.SplitSeq(string(got), "\n") {
		if strings.HasPrefix(line, "| `") && strings.HasSuffix(line, "|  |") {
			t.Errorf("not explained: %s", line)
		}
	}
}

// TestSchemaKnowsEveryValue: what values.yaml has can be set, and what the
// schema has is in values.yaml, but for what a parent chart brings.
func TestSchemaKnowsEveryValue(t *testing.T) {
	read := func(name string) map[string]any {
		text, err := os.ReadFile(filepath.Join(chartDir, name))
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	compare(t, "", read("values.yaml"), read("values.schema.json"))
}

func compare(t *testing.T, at string, v, schema map[string]any) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	if schema["additionalProperties"] != false || properties == nil {
		return // a map of the user's, or an object of Kubernetes
	}
	for name, p := range properties {
		value, there := v[name]
		if !there && at+name != "global" && at+name != "enabled" {
			t.Errorf("values.yaml does not have %s%s", at, name)
		}
		if inner, ok := value.(map[string]any); ok {
			compare(t, at+name+".", inner, p.(map[string]any))
		}
	}
	for name := range v {
		if properties[name] == nil {
			t.Errorf("the schema does not have %s%s", at, name)
		}
	}
}
