// Command decode reads rendered manifests, a stream of YAML documents, and
// decodes each strictly into its API type: an unknown field, a field that is
// there twice and a value of the wrong type are errors. It prints what it has
// decoded, a line each: the kind and the name.
//
// The module is built twice: go.mod has the API types of the newest Kubernetes,
// oldest.mod those of the oldest that the chart supports. One binary cannot have
// both.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

func main() {
	if err := decodeAll(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// decodeAll returns every error, joined.
func decodeAll(in io.Reader, out io.Writer) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, autoscaling.AddToScheme, core.AddToScheme, networking.AddToScheme, policy.AddToScheme,
		monitoring.AddToScheme, gateway.Install,
	} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := utilyaml.NewYAMLReader(bufio.NewReader(in))
	var wrong []error
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return errors.Join(wrong...)
		}
		if err != nil {
			return err
		}
		object, kind, err := decoder.Decode(text, nil, nil)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%w in:\n%s", err, text))
			continue
		}
		named, ok := object.(meta.Object)
		if !ok || named.GetName() == "" {
			wrong = append(wrong, fmt.Errorf("%v has no name", kind))
			continue
		}
		fmt.Fprintf(out, "%s %s\n", kind.Kind, named.GetName())
	}
}
