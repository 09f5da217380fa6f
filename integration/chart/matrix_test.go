package chart

import (
	"bytes"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
)

// The matrix: each way to keep rooms, with each load balancer, with each way to
// say who may connect, with nothing else and with everything that can be turned
// on.
var (
	keepers = map[string]string{
		"redis":            "{redis: {existingSecret: weft-redis, caKey: ca.crt}, gossip: {existingSecret: weft-gossip}}",
		"embedded":         "{redis: {embedded: {enabled: true, persistence: {enabled: false}}}}",
		"embedded, volume": "{redis: {embedded: {enabled: true, persistence: {storageClass: fast}}}}",
		"one node":         "{replicaCount: 1, redis: {existingSecret: weft-redis}}",
		"file":             "{mode: file}",
	}
	profiles    = []string{"generic", "alb", "nlb", "gke", "envoy", "nginx"}
	authorizers = map[string]string{
		"secret":  "{auth: {existingSecret: weft-auth, issuer: me, audience: you}, api: {existingSecret: weft-api}}",
		"jwks":    "{auth: {jwksUrl: 'https://auth.example.com:8443/keys'}}",
		"webhook": "{auth: {webhookUrl: 'http://app.rooms.svc/may'}, settings: {auth-webhook-headers: [Cookie]}}",
		"dev":     "{settings: {dev: true}}",
	}
	everything = `
httpRoute: {enabled: true, parentRefs: [{name: gateway}], hostnames: [canvas.example.com]}
ingress: {enabled: true, className: some, hosts: [{host: canvas.example.com}]}
networkPolicy: {enabled: true, adminFrom: [{podSelector: {}}], clientFrom: [{podSelector: {}}], redisTo: [{ipBlock: {cidr: 10.0.0.0/8}}]}
serviceMonitor: {enabled: true, labels: {release: prometheus}, interval: 15s}
prometheusRule: {enabled: true}
dashboard: {enabled: true}
service: {type: LoadBalancer, port: 443}
settings: {start-timeout: 2m30s, max-message-bytes: 33554432, allowed-origins: [https://canvas.example.com]}
commonLabels: {team: canvas}
imagePullSecrets: [{name: regcred}]
`
)

type instance struct {
	name   string
	values values
}

func matrix(t *testing.T) []instance {
	t.Helper()
	var instances []instance
	for keeper, k := range keepers {
		for _, profile := range profiles {
			for authorizer, a := range authorizers {
				v := merge(parse(t, k), parse(t, a), values{"loadBalancer": values{"profile": profile}})
				name := fmt.Sprintf("%s/%s/%s", keeper, profile, authorizer)
				instances = append(instances, instance{name, v})
				more := parse(t, everything)
				if keeper != "file" {
					more["autoscaling"] = values{"enabled": true}
				}
				instances = append(instances, instance{name + "/everything", merge(v, more)})
			}
		}
	}
	for name, v := range ciValues(t) {
		instances = append(instances, instance{name, v})
	}
	return instances
}

// TestMatrix holds every rendering to the rules, and has every object decoded by
// both versions of Kubernetes.
func TestMatrix(t *testing.T) {
	var stream bytes.Buffer
	kinds := map[string]bool{}
	for _, instance := range matrix(t) {
		t.Run(instance.name, func(t *testing.T) {
			r := mustInstall(t, instance.values)
			checkRules(t, r)
			stream.Write(r.stream())
			for _, o := range r.objects {
				kinds[o.Kind] = true
			}
		})
	}
	want := []string{
		"ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "Pod", "PodDisruptionBudget",
		"PrometheusRule", "Secret", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet",
	}
	if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) {
		t.Errorf("the matrix has the kinds %v, want %v", got, want)
	}
	for _, version := range []string{"go.mod", "oldest.mod"} {
		if got, err := decode(t, version, stream.Bytes()); err != nil {
			t.Errorf("%s: %v", version, err)
		} else if n := bytes.Count(got, []byte("\n")); n != bytes.Count(stream.Bytes(), []byte("---\n")) {
			t.Errorf("%s: %d objects were decoded", version, n)
		}
	}
}

// TestDecodeIsStrict makes sure that the check above can fail.
func TestDecodeIsStrict(t *testing.T) {
	for _, text := range []string{
		"{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {conainers: []}}",
		"{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {terminationGracePeriodSeconds: soon}}",
		"{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: x}, spec: {endpoint: []}}",
		"{apiVersion: v1, kind: Podd, metadata: {name: x}}",
		"{apiVersion: v1, kind: Pod}",
	} {
		for _, version := range []string{"go.mod", "oldest.mod"} {
			if _, err := decode(t, version, []byte(text)); err == nil {
				t.Errorf("%s: decoded %s", version, text)
			}
		}
	}
}

// decode has a stream of objects decoded, by the API types that a file of
// modules in decode names.
func decode(t *testing.T, version string, stream []byte) ([]byte, error) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "decode")
	build := exec.Command("go", "build", "-modfile", version, "-o", program, ".")
	build.Dir = "decode"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building decode by %s: %v\n%s", version, err, out)
	}
	run := exec.Command(program)
	run.Stdin = bytes.NewReader(stream)
	var failed bytes.Buffer
	run.Stderr = &failed
	out, err := run.Output()
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, failed.Bytes())
	}
	return out, nil
}

// TestLint is `helm lint --strict` over the values that come with the chart.
func TestLint(t *testing.T) {
	for name, v := range ciValues(t) {
		lint := action.NewLint()
		lint.Strict, lint.Namespace = true, namespace
		result := lint.Run([]string{chartDir}, v)
		if len(result.Errors) > 0 {
			t.Errorf("%s: %v", name, result.Errors)
		}
		for _, message := range result.Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %s", name, message)
			}
		}
	}
}
