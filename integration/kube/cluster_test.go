package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftsync/weft/integration/kube/images"
)

const (
	namespace = "weft-test"
	release   = "weft"

	// patience is how long any one thing may take that has no limit of its own.
	patience = 5 * time.Minute
)

// importer is the program that gives the cluster an image. The tests are skipped where there is none.
func importer(t testing.TB) string {
	t.Helper()
	program := os.Getenv("WEFT_KUBE_IMPORT")
	if program == "" {
		t.Skip("there is no cluster: run `make kube-test`")
	}
	return program
}

// run runs a program, and returns its output. If it fails, so does the test.
func run(t testing.TB, in *bytes.Buffer, program string, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), in, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(ctx context.Context, in *bytes.Buffer, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	if in != nil {
		cmd.Stdin = in
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out, said.Bytes())
	}
	return string(out), nil
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, nil, "kubectl", append([]string{"--namespace", namespace}, args...)...)
}

func helm(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, nil, "helm", append([]string{"--namespace", namespace}, args...)...)
}

// give gives an image to the cluster.
func give(t testing.TB, image *images.Image) {
	t.Helper()
	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		t.Fatal(err)
	}
	run(t, &archive, importer(t))
}

// pod is what is asked of pods.
type pod struct {
	Metadata struct {
		Name              string
		DeletionTimestamp *time.Time
	}
	Spec struct {
		Containers []struct{ Image string }
	}
	Status struct {
		Phase             string
		PodIP             string
		ContainerStatuses []struct {
			Ready        bool
			RestartCount int
		}
	}
}

func (p pod) isReady() bool {
	for _, c := range p.Status.ContainerStatuses {
		if !c.Ready {
			return false
		}
	}
	return p.Metadata.DeletionTimestamp == nil && len(p.Status.ContainerStatuses) > 0
}

func (p pod) restarts() (n int) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// pods are those with these labels, also those that are ending.
func pods(t testing.TB, selector string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(kubectl(t, "get", "pods", "--selector", selector, "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// awaitPods returns when there are n pods with these labels, all ready, and none that is ending.
func awaitPods(t testing.TB, selector string, n int) []pod {
	t.Helper()
	var all []pod
	waitFor(t, fmt.Sprintf("%d pods of %s to be ready and alone", n, selector), func() bool {
		all = pods(t, selector)
		ready := 0
		for _, p := range all {
			if p.isReady() {
				ready++
			}
		}
		return ready == n && len(all) == n
	})
	return all
}

// metrics are a pod's, by name with labels.
func metrics(t testing.TB, p pod) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(get(t, "http://"+p.Status.PodIP+":9090/metrics")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = n
		}
	}
	return all
}

// busiest is the pod with the most sockets, of which there must be some.
func busiest(t testing.TB, all []pod) pod {
	t.Helper()
	var found pod
	most := 0.0
	for _, p := range all {
		if n := metrics(t, p)["weft_connections"]; n > most {
			found, most = p, n
		}
	}
	if most == 0 {
		t.Fatal("no pod has sockets")
	}
	return found
}

// closes are how many sockets these pods have closed, by reason.
func closes(t testing.TB, all []pod) map[string]float64 {
	t.Helper()
	sum := map[string]float64{}
	for _, p := range all {
		for name, n := range metrics(t, p) {
			if reason, ok := strings.CutPrefix(name, `weft_closes_total{reason="`); ok && n > 0 {
				sum[strings.TrimSuffix(reason, `"}`)] += n
			}
		}
	}
	return sum
}

func get(t testing.TB, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, answer.Status, err)
	}
	return string(body)
}

// waitFor waits until something holds; the test fails if it never does.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		pass(t, 300*time.Millisecond)
	}
}

// pass lets time pass: what a fault lasts, or the pause before asking again.
func pass(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// tell writes what the cluster has to say about a failure.
func tell(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "all,endpointslices", "--output", "wide"},
		{"get", "events", "--sort-by", ".lastTimestamp"},
		{"describe", "pods"},
		{"logs", "--selector", weftPods, "--tail", "60", "--prefix", "--all-containers"},
		{"logs", "--selector", redisPods, "--tail", "40", "--prefix", "--all-containers"},
	} {
		out, err := try(ctx, nil, "kubectl", append([]string{"--namespace", namespace}, args...)...)
		if err != nil {
			out = err.Error()
		}
		t.Logf("kubectl %s:\n%s", strings.Join(args, " "), out)
	}
}
