package kube

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/docker/faults"
	"github.com/weftsync/weft/integration/kube/images"
)

const (
	weftPods  = "app.kubernetes.io/instance=" + release + ",app.kubernetes.io/component=server"
	redisPods = "app.kubernetes.io/instance=" + release + ",app.kubernetes.io/component=redis"

	redisImage = "localhost/weft-kube-redis:1"
	firstTag   = "first"
	secondTag  = "second" // the same program, under another version
)

// What people may notice when pods are replaced with surge.
const (
	mostReconnects = 1.3 // a client
	longestOffline = 3 * time.Second
)

// kubeTest is the test's state.
type kubeTest struct {
	report *report
	crowd  *crowd
}

func TestKubernetes(t *testing.T) {
	importer(t)
	k := &kubeTest{report: &report{begin: time.Now()}}
	t.Cleanup(func() { k.report.write(t) })
	t.Cleanup(func() {
		if t.Failed() {
			tell(t)
		}
	})
	k.prepare(t)

	k.step(t, "helm install, 3 replicas and Redis", nothing, func() { k.install(t) })
	k.step(t, "helm test", nothing, func() { helm(t, "test", release, "--timeout", "3m") })

	target := faults.Target{Name: "service", Addr: k.address(t), Token: token}
	k.step(t, fmt.Sprintf("%d people and %d recorders come", people, recorders*recorderRooms), nothing, func() {
		k.crowd = gather(t, "ws://"+target.Addr+"/")
	})
	load := record(t, target)

	k.step(t, "nothing, for 20 s", limits{reconnects: 0.001, offline: time.Nanosecond}, func() { pass(t, 20*time.Second) })
	replaced := limits{reconnects: mostReconnects, offline: longestOffline}
	k.step(t, "kubectl rollout restart", replaced, func() {
		kubectl(t, "rollout", "restart", "deployment/"+release)
		k.settled(t, 3)
	})
	k.step(t, "helm upgrade: 4 replicas, another image", replaced, func() {
		helm(t, "upgrade", release, chart, "--reuse-values", "--set", "replicaCount=4", "--set", "image.tag="+secondTag, "--wait", "--timeout", "5m")
		for _, p := range k.settled(t, 4) {
			if metrics := get(t, "http://"+p.Status.PodIP+":9090/metrics"); !strings.Contains(metrics, `version="`+secondTag+`"`) {
				t.Errorf("%s, of the image %s, does not say that it is %s", p.Metadata.Name, p.Spec.Containers[0].Image, secondTag)
			}
		}
	})
	for _, n := range []int{3, 5, 2, 3} {
		k.step(t, fmt.Sprintf("scale to %d", n), replaced, func() {
			kubectl(t, "scale", "deployment/"+release, fmt.Sprint("--replicas=", n))
			k.settled(t, n)
		})
	}
	k.step(t, "a pod killed with grace 0", limits{reconnects: mostReconnects, offline: 15 * time.Second}, func() {
		kubectl(t, "delete", "pod", busiest(t, pods(t, weftPods)).Metadata.Name, "--grace-period=0", "--force")
		k.settled(t, 3)
	})
	k.step(t, "Redis killed", stays, func() {
		kubectl(t, "delete", "pod", pods(t, redisPods)[0].Metadata.Name, "--grace-period=0", "--force")
		awaitPods(t, redisPods, 1)
		awaitPods(t, weftPods, 3)
	})
	away, whileAway := redisAway()
	k.step(t, fmt.Sprintf("Redis away for %v", away), whileAway, func() { k.redisAway(t, away) })

	k.step(t, "everybody agrees, every block is there", nothing, func() {
		n := k.crowd.leaves(t)
		k.crowd = nil
		k.report.note("People: %d edits acknowledged, 0 lost: all %d, and somebody new in each room, have every block as it was drawn.", n.Acks, n.Clients)
	})
	k.step(t, "the fault tests' checker", nothing, func() {
		result := check(t, load, target)
		k.report.note("Recorded: %d frames acknowledged, %d of them lost, %d violations of any rule.", result.Acked, result.Of(faults.RuleAcked), len(result.Violations))
	})
	k.step(t, "helm uninstall", nothing, func() {
		helm(t, "uninstall", release, "--wait", "--timeout", "4m")
		awaitPods(t, weftPods, 0)
	})
}

// redisAway is how long Redis is away, and what may be noticed of it. In a long run it is ten minutes. Then
// half a million updates come at once to the one process that all people are in here, and while it reads
// them it may not answer the servers' pings in time: some sockets close.
func redisAway() (time.Duration, limits) {
	if os.Getenv("WEFT_KUBE") == "long" {
		return 10 * time.Minute, limits{reconnects: mostReconnects, offline: 30 * time.Second}
	}
	return 2 * time.Minute, stays
}

// limits are on what people may notice of a step.
type limits struct {
	reconnects float64 // a client; 0 means that there is no limit
	offline    time.Duration
}

var (
	nothing = limits{}
	// stays: no socket closes.
	stays = limits{reconnects: 0.001, offline: time.Nanosecond}
)

// step does something, waits until people can edit, and holds what they noticed against limits. No
// container of Weft may ever have restarted, and no room may ever have known less than a client.
func (k *kubeTest) step(t *testing.T, what string, l limits, do func()) {
	t.Helper()
	begin := time.Now()
	do()
	s := step{what: what, took: time.Since(begin), verdict: "ok"}
	fail := func(format string, args ...any) {
		t.Helper()
		s.verdict = "FAILED"
		t.Errorf("%s: "+format, append([]any{what}, args...)...)
	}
	if k.crowd != nil {
		n := k.crowd.goesOn(t)
		s.noticed = &n
		if l.reconnects > 0 && n.PerClient > l.reconnects {
			fail("%.2f reconnects a client, at most %.2f may be", n.PerClient, l.reconnects)
		}
		if offline := time.Duration(n.Longest * float64(time.Millisecond)); l.offline > 0 && offline > l.offline {
			fail("somebody was offline for %v, at most %v may be", offline, l.offline)
		}
		if n.Resyncs > 0 {
			fail("%d times a room knew less than one of its clients", n.Resyncs)
		}
	}
	for _, p := range pods(t, weftPods) {
		s.restarts += p.restarts()
	}
	if s.restarts > 0 {
		fail("containers of Weft were restarted %d times", s.restarts)
	}
	k.report.add(s)
	if s.verdict != "ok" {
		tell(t) // while those concerned are there
	}
}

// settled waits until n pods are ready and all others gone.
func (k *kubeTest) settled(t *testing.T, n int) []pod {
	t.Helper()
	kubectl(t, "rollout", "status", "deployment/"+release, "--timeout=5m")
	return awaitPods(t, weftPods, n)
}

// chart is the folder of the chart.
var chart = filepath.Join("..", "..", "helm", "weft")

// prepare gives the cluster the images, and what a person has to have before they install.
func (k *kubeTest) prepare(t *testing.T) {
	t.Helper()
	redis, err := images.Redis(redisImage)
	if err != nil {
		t.Fatal(err)
	}
	give(t, redis)
	for _, tag := range []string{firstTag, secondTag} {
		give(t, weftImage(t, tag))
	}
	run(t, nil, "kubectl", "create", "namespace", namespace)
	// No pod may ask for more than the strictest of the usual rules grant.
	run(t, nil, "kubectl", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
	kubectl(t, "create", "secret", "generic", "weft-auth", "--from-literal=jwt-secret="+secret)
	kubectl(t, "create", "secret", "generic", "weft-gossip", "--from-literal=gossip-key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
}

// weftImage is the image that the Dockerfile describes, with a program that is built here.
func weftImage(t *testing.T, version string) *images.Image {
	t.Helper()
	const root = "../.."
	folder := t.TempDir()
	bin := filepath.Join(folder, "bin")
	if err := os.MkdirAll(filepath.Join(bin, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version+" -X main.commit=none", "-o", filepath.Join(bin, "weft"), "./cmd/weft")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building weft: %v\n%s", err, out)
	}
	certificates, err := os.ReadFile(filepath.Join(root, "bin", "ca-certificates.crt"))
	if err == nil {
		err = os.WriteFile(filepath.Join(bin, "ca-certificates.crt"), certificates, 0o644)
	}
	if err != nil {
		t.Fatalf("%v: run `make kube-test`", err)
	}
	image, err := images.FromDockerfile("localhost/weft:"+version, folder, filepath.Join(root, "Dockerfile"), map[string]string{"VERSION": version})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func (k *kubeTest) install(t *testing.T) {
	t.Helper()
	notes := helm(t, "install", release, chart, "--values", "values.yaml", "--wait", "--timeout", "5m")
	if !strings.Contains(notes, "NOTES:") {
		t.Errorf("helm install shows no notes:\n%s", notes)
	}
	t.Log(notes)
	awaitPods(t, weftPods, 3)
	awaitPods(t, redisPods, 1)
}

// address is that of the Service for clients.
func (k *kubeTest) address(t *testing.T) string {
	t.Helper()
	return kubectl(t, "get", "service", release, "--output", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}")
}

// redisAway takes Redis away for a time. Meanwhile the nodes live on and say that they are not ready, so
// that after a while the Service has none; the sockets stay.
func (k *kubeTest) redisAway(t *testing.T, away time.Duration) {
	t.Helper()
	set := strings.TrimSpace(kubectl(t, "get", "statefulset", "--selector", redisPods, "--output", "name"))
	begin := time.Now()
	kubectl(t, "scale", set, "--replicas=0")
	awaitPods(t, redisPods, 0)
	waitFor(t, "no pod to be ready without Redis", func() bool {
		for _, p := range pods(t, weftPods) {
			if p.isReady() {
				return false
			}
		}
		return true
	})
	k.report.note("Without Redis, the Service was empty after %v.", time.Since(begin).Round(time.Second))
	pass(t, away-min(away, time.Since(begin)))
	back := time.Now()
	kubectl(t, "scale", set, "--replicas=1")
	awaitPods(t, redisPods, 1)
	all := awaitPods(t, weftPods, 3)
	k.report.note("All were ready %v after Redis was to come back.", time.Since(back).Round(time.Second))
	k.crowd.say(t, "mark")
	if closed := closes(t, all); len(closed) > 0 {
		k.report.note("Sockets that these pods had closed by then, by reason: %v.", closed)
	}
}
