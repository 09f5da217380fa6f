package chart

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	security "k8s.io/pod-security-admission/api"
	securitypolicy "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// checkRules holds a rendering to what is true of every one.
func checkRules(t *testing.T, r rendering) {
	t.Helper()
	pods := podsOf(t, r)
	checkServer(t, r, pods["server"])
	checkSecurity(t, pods)
	checkSelectors(t, r, pods)
	checkPolicies(t, r)
	checkDisruption(t, r)
	checkSecrets(t, r)
	checkMeta(t, r)
}

// podsOf are the pods that a rendering makes, by their component.
func podsOf(t *testing.T, r rendering) map[string]core.PodTemplateSpec {
	t.Helper()
	pods := map[string]core.PodTemplateSpec{}
	add := func(p core.PodTemplateSpec) { pods[p.Labels["app.kubernetes.io/component"]] = p }
	for _, d := range all[apps.Deployment](t, r, "Deployment") {
		add(d.Spec.Template)
		if !selects(d.Spec.Selector, d.Spec.Template.Labels) {
			t.Errorf("the Deployment does not select its pods")
		}
	}
	for _, s := range all[apps.StatefulSet](t, r, "StatefulSet") {
		add(s.Spec.Template)
		if !selects(s.Spec.Selector, s.Spec.Template.Labels) {
			t.Errorf("the StatefulSet %s does not select its pods", s.Name)
		}
		if s.Spec.Replicas == nil || *s.Spec.Replicas != 1 {
			t.Errorf("the StatefulSet %s has not one replica", s.Name)
		}
		checkMounts(t, s.Spec.Template.Spec, s.Spec.VolumeClaimTemplates)
	}
	for _, p := range all[core.Pod](t, r, "Pod") {
		add(core.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec})
		checkMounts(t, p.Spec, nil)
	}
	if r.has("Deployment") {
		checkMounts(t, pods["server"].Spec, nil)
	}
	return pods
}

func checkMounts(t *testing.T, spec core.PodSpec, claims []core.PersistentVolumeClaim) {
	t.Helper()
	var names []string
	for _, v := range spec.Volumes {
		names = append(names, v.Name)
	}
	for _, c := range claims {
		names = append(names, c.Name)
	}
	for _, c := range spec.Containers {
		for _, m := range c.VolumeMounts {
			if !slices.Contains(names, m.Name) {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
		if len(c.Command) > 0 {
			t.Errorf("%s has a command, and its image may have nothing but what it starts by itself", c.Name)
		}
	}
}

// checkServer is about how a node starts, is probed, and ends.
func checkServer(t *testing.T, r rendering, pod core.PodTemplateSpec) {
	t.Helper()
	weft := pod.Spec.Containers[0]
	preStop := int64(0)
	if weft.Lifecycle != nil {
		preStop = weft.Lifecycle.PreStop.Sleep.Seconds
	}
	sum := preStop + seconds(t, env(weft, "WEFT_DRAIN_TIMEOUT")) + seconds(t, env(weft, "WEFT_SHUTDOWN_TIMEOUT")) + 10
	if grace := *pod.Spec.TerminationGracePeriodSeconds; grace < sum || grace > 600 {
		t.Errorf("a pod has %d seconds to end, and may need %d", grace, sum)
	}

	startTimeout := time.Minute
	if text, ok := settings(t, r)["start-timeout"]; ok {
		startTimeout = time.Duration(seconds(t, text)) * time.Second
	}
	startup, readiness, liveness := weft.StartupProbe, weft.ReadinessProbe, weft.LivenessProbe
	for probe, path := range map[*core.Probe]string{startup: "/readyz", readiness: "/readyz", liveness: "/livez"} {
		if probe.HTTPGet.Path != path || probe.HTTPGet.Port.String() != "admin" {
			t.Errorf("a probe asks %s at %s, want %s", probe.HTTPGet.Path, probe.HTTPGet.Port.String(), path)
		}
	}
	if outlasts(startup) <= startTimeout {
		t.Errorf("the startup probe gives up after %s, weft after %s", outlasts(startup), startTimeout)
	}
	if outlasts(readiness) < 15*time.Second {
		t.Errorf("the Service is empty %s after Redis has gone", outlasts(readiness))
	}
	for _, name := range []string{"WEFT_NODE_NAME", "WEFT_JOIN", "WEFT_GOSSIP_ADVERTISE", "WEFT_PEER_ADVERTISE", "WEFT_REDIS_URL_FILE"} {
		if (env(weft, name) != "") != r.has("Deployment") {
			t.Errorf("%s is %q: a cluster needs it, and a single node refuses it", name, env(weft, name))
		}
	}
}

func outlasts(p *core.Probe) time.Duration {
	return time.Duration(p.FailureThreshold*p.PeriodSeconds) * time.Second
}

func seconds(t *testing.T, duration string) int64 {
	t.Helper()
	d, err := time.ParseDuration(duration)
	if err != nil {
		t.Fatal(err)
	}
	return int64(d / time.Second)
}

// settings is the file of settings.
func settings(t *testing.T, r rendering) map[string]string {
	t.Helper()
	config := one[core.ConfigMap](t, r, "ConfigMap", serverName(t, r))
	raw := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(config.Data["weft.yaml"]), &raw); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for key, value := range raw {
		if text, ok := value.(string); ok {
			texts[key] = text
		}
	}
	return texts
}

// serverName is the full name, which the workload has.
func serverName(t *testing.T, r rendering) string {
	t.Helper()
	for _, o := range r.objects {
		if (o.Kind == "Deployment" || o.Kind == "StatefulSet") && o.Metadata.Labels["app.kubernetes.io/component"] == "server" {
			return o.Metadata.Name
		}
	}
	t.Fatal("no workload")
	return ""
}

// checkSecurity holds every pod to the restricted standard, and to what else
// keeps one from changing its image.
func checkSecurity(t *testing.T, pods map[string]core.PodTemplateSpec) {
	t.Helper()
	evaluator, err := securitypolicy.NewEvaluator(securitypolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	for component, pod := range pods {
		for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s is not restricted: %s: %s", component, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if mounts := pod.Spec.AutomountServiceAccountToken; mounts == nil || *mounts {
			t.Errorf("%s has a token for Kubernetes", component)
		}
		own := pod.Spec.Containers[0]
		if readOnly := own.SecurityContext.ReadOnlyRootFilesystem; readOnly == nil || !*readOnly {
			t.Errorf("%s can write to its root", component)
		}
		if *pod.Spec.SecurityContext.RunAsUser != 65532 {
			t.Errorf("%s runs as %d", component, *pod.Spec.SecurityContext.RunAsUser)
		}
	}
}

// checkSelectors makes sure that Services, budgets and autoscalers are about the
// pods that they mean, and that ports have their numbers from one place.
func checkSelectors(t *testing.T, r rendering, pods map[string]core.PodTemplateSpec) {
	t.Helper()
	services := map[string]core.Service{}
	for _, s := range all[core.Service](t, r, "Service") {
		services[s.Name] = s
		var selected []string
		for component, pod := range pods {
			if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				selected = append(selected, component)
			}
		}
		if len(selected) != 1 || selected[0] == "test" {
			t.Errorf("the Service %s selects %v", s.Name, selected)
			continue
		}
		for _, port := range s.Spec.Ports {
			if port.AppProtocol == nil {
				t.Errorf("port %s of the Service %s does not say its appProtocol", port.Name, s.Name)
			}
			if !hasPort(pods[selected[0]].Spec.Containers[0], port) {
				t.Errorf("port %s of the Service %s is no port of %s", port.Name, s.Name, selected[0])
			}
		}
	}
	name := serverName(t, r)
	for _, suffix := range []string{"", "-admin"} {
		if _, ok := services[name+suffix]; !ok {
			t.Errorf("there is no Service %s", name+suffix)
		}
	}
	gossip, ok := services[name+"-gossip"]
	if ok != r.has("Deployment") || ok && (gossip.Spec.ClusterIP != "None" || !gossip.Spec.PublishNotReadyAddresses) {
		t.Error("a cluster wants a headless Service for gossip, with nodes that are not ready, too")
	}
	for _, h := range all[autoscaling.HorizontalPodAutoscaler](t, r, "HorizontalPodAutoscaler") {
		if d := one[apps.Deployment](t, r, "Deployment", h.Spec.ScaleTargetRef.Name); d.Spec.Replicas != nil {
			t.Error("the Deployment has replicas, and so has its autoscaler")
		}
		if down := h.Spec.Behavior.ScaleDown; *down.StabilizationWindowSeconds < 900 {
			t.Error("scales down at once")
		}
	}
	for _, i := range all[networking.Ingress](t, r, "Ingress") {
		for _, rule := range i.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				backend := path.Backend.Service
				if s, ok := services[backend.Name]; !ok || s.Spec.Ports[0].Name != backend.Port.Name {
					t.Errorf("the Ingress has the backend %s, port %s", backend.Name, backend.Port.Name)
				}
			}
		}
	}
}

func hasPort(c core.Container, port core.ServicePort) bool {
	protocol := func(p core.Protocol) core.Protocol {
		if p == "" {
			return core.ProtocolTCP
		}
		return p
	}
	return slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool {
		return p.Name == port.TargetPort.String() && protocol(p.Protocol) == protocol(port.Protocol)
	})
}

func selects(s *meta.LabelSelector, of map[string]string) bool {
	selector, err := meta.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(of))
}

// checkPolicies makes sure that a NetworkPolicy opens ports that there are.
func checkPolicies(t *testing.T, r rendering) {
	t.Helper()
	for _, p := range all[networking.NetworkPolicy](t, r, "NetworkPolicy") {
		if len(p.Spec.PolicyTypes) != 2 {
			t.Errorf("the NetworkPolicy %s is about %v", p.Name, p.Spec.PolicyTypes)
		}
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				if n := port.Port.IntValue(); !slices.Contains([]int{8080, 9090, 7946, 7947, 6379}, n) {
					t.Errorf("the NetworkPolicy %s opens %d", p.Name, n)
				}
			}
		}
	}
}

func checkDisruption(t *testing.T, r rendering) {
	t.Helper()
	budgets := all[policy.PodDisruptionBudget](t, r, "PodDisruptionBudget")
	several := r.has("HorizontalPodAutoscaler")
	for _, d := range all[apps.Deployment](t, r, "Deployment") {
		several = several || *d.Spec.Replicas > 1
		update := d.Spec.Strategy.RollingUpdate
		if update.MaxSurge.String() != "100%" || update.MaxUnavailable.String() != "0" || d.Spec.MinReadySeconds != 10 {
			t.Errorf("a rollout has surge %s, unavailable %s, ready for %d s", update.MaxSurge, update.MaxUnavailable, d.Spec.MinReadySeconds)
		}
	}
	if (len(budgets) == 1) != several {
		t.Errorf("%d budgets, several nodes: %v", len(budgets), several)
	}
	for _, b := range budgets {
		if b.Spec.MaxUnavailable == nil || b.Spec.MinAvailable != nil {
			t.Error("a budget has one of its two fields, and it is maxUnavailable")
		}
		if *b.Spec.UnhealthyPodEvictionPolicy != policy.AlwaysAllow {
			t.Error("a broken pod keeps its machine from being drained")
		}
	}
}

// checkSecrets makes sure that the chart makes no Secret but the embedded
// Redis's, and that nothing secret is anywhere else.
func checkSecrets(t *testing.T, r rendering) {
	t.Helper()
	embedded := false
	for _, s := range all[apps.StatefulSet](t, r, "StatefulSet") {
		embedded = embedded || strings.HasSuffix(s.Name, "-redis")
	}
	secrets := all[core.Secret](t, r, "Secret")
	if embedded != (len(secrets) == 1) || len(secrets) > 1 {
		t.Errorf("%d Secrets, embedded Redis: %v", len(secrets), embedded)
	}
	for _, c := range all[core.ConfigMap](t, r, "ConfigMap") {
		for _, text := range c.Data {
			for _, secret := range []string{"redis://", "rediss://", "jwt-secret", "gossip-key", "password"} {
				if strings.Contains(text, secret) {
					t.Errorf("the ConfigMap %s has %s", c.Name, secret)
				}
			}
		}
	}
	for _, c := range all[core.ConfigMap](t, r, "ConfigMap") {
		for name, text := range c.Data {
			if strings.HasSuffix(name, ".json") && !json.Valid([]byte(text)) {
				t.Errorf("%s is not JSON", name)
			}
		}
	}
}

// checkMeta makes sure that everything is labelled, fits, and is where the
// release is.
func checkMeta(t *testing.T, r rendering) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range r.objects {
		if seen[o.String()] {
			t.Errorf("%s is there twice", o)
		}
		seen[o.String()] = true
		if len(o.Metadata.Name) > 63 {
			t.Errorf("%s has a long name", o)
		}
		if strings.HasSuffix(o.Metadata.Name, "-extra") || strings.HasSuffix(o.Metadata.Name, "-text") {
			continue // extraObjects are as the user writes them
		}
		if o.Metadata.Namespace != namespace {
			t.Errorf("%s is in the namespace %q", o, o.Metadata.Namespace)
		}
		for _, label := range []string{"name", "instance", "component", "managed-by", "version"} {
			if o.Metadata.Labels["app.kubernetes.io/"+label] == "" {
				t.Errorf("%s has no label %s: %v", o, label, slices.Sorted(maps.Keys(o.Metadata.Labels)))
			}
		}
	}
	if strings.Contains(r.notes, "<no value>") || strings.Contains(r.notes, "%!") {
		t.Errorf("the notes have a hole:\n%s", r.notes)
	}
	for _, heading := range []string{"HOW TO CONNECT", "WHAT IS NOT SAFE YET", "WHAT TO LOOK AT"} {
		if !strings.Contains(r.notes, heading) {
			t.Errorf("the notes do not say %s", strconv.Quote(heading))
		}
	}
}
