package chart

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

// TestGrace: what a pod has to end is what it may need, for every load balancer.
func TestGrace(t *testing.T) {
	for v, want := range map[string]struct{ preStop, grace int64 }{
		"{}":                                                        {10, 95},
		"{loadBalancer: {profile: alb}}":                            {30, 115},
		"{loadBalancer: {profile: nlb}}":                            {120, 205},
		"{loadBalancer: {profile: gke}}":                            {60, 145},
		"{loadBalancer: {profile: envoy}}":                          {15, 100},
		"{loadBalancer: {profile: nginx}}":                          {15, 100},
		"{loadBalancer: {profile: nlb}, preStopSeconds: 20}":        {20, 105},
		"{preStopSeconds: '', terminationGracePeriodSeconds: ''}":   {10, 95},
		"{preStopSeconds: 0}":                                       {0, 85},
		"{drain: {timeoutSeconds: 100}, shutdownTimeoutSeconds: 5}": {10, 125},
		"{terminationGracePeriodSeconds: 300}":                      {10, 300},
		"{drain: {timeoutSeconds: 550}}":                            {10, 600},
		"{mode: file, drain: {timeoutSeconds: 5}, terminationGracePeriodSeconds: 55}": {10, 55},
	} {
		pod := podsOf(t, mustInstall(t, merge(parse(t, plain), parse(t, v))))["server"].Spec
		var preStop int64
		if lifecycle := pod.Containers[0].Lifecycle; lifecycle != nil {
			preStop = lifecycle.PreStop.Sleep.Seconds // none at all for 0, which Kubernetes 1.30 refuses
		}
		if preStop != want.preStop || *pod.TerminationGracePeriodSeconds != want.grace {
			t.Errorf("%s: preStop %d, grace %d; want %+v", v, preStop, *pod.TerminationGracePeriodSeconds, want)
		}
	}
}

// TestProfileAnnotations: the user's annotations win over the profile's.
func TestProfileAnnotations(t *testing.T) {
	const nlb = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"
	r := mustInstall(t, merge(parse(t, plain), parse(t, "{loadBalancer: {profile: nlb}, service: {type: LoadBalancer, annotations: {own: x}}}")))
	if got := one[core.Service](t, r, "Service", fullname).Annotations; got[nlb] != "ip" || got["own"] != "x" {
		t.Errorf("annotations: %v", got)
	}
	r = mustInstall(t, merge(parse(t, plain), parse(t, "{loadBalancer: {profile: nlb}, service: {annotations: {"+nlb+": instance}}}")))
	if got := one[core.Service](t, r, "Service", fullname).Annotations; got[nlb] != "instance" {
		t.Errorf("annotations: %v", got)
	}
	const group = "alb.ingress.kubernetes.io/target-group-attributes"
	for drain, want := range map[int]string{45: "90", 100: "145"} {
		r = mustInstall(t, merge(parse(t, plain), parse(t, "{loadBalancer: {profile: alb}, ingress: {enabled: true, hosts: [{host: a.example.com}]}}"), values{"drain": values{"timeoutSeconds": drain}}))
		if got := one[networking.Ingress](t, r, "Ingress").Annotations[group]; got != "deregistration_delay.timeout_seconds="+want {
			t.Errorf("with a drain of %d s: %s", drain, got)
		}
	}
	const read = "nginx.ingress.kubernetes.io/proxy-read-timeout"
	r = mustInstall(t, merge(parse(t, plain), parse(t, "{loadBalancer: {profile: nginx}, ingress: {enabled: true, hosts: [{host: a.example.com}]}}")))
	if got := one[networking.Ingress](t, r, "Ingress").Annotations; got[read] != "3600" {
		t.Errorf("annotations: %v", got)
	}
}

// TestStartupOutlastsWeft: what a user sets moves the probe.
func TestStartupOutlastsWeft(t *testing.T) {
	for _, timeout := range []string{"1s", "90s", "1m30s", "1.5m", "10m", "2500ms", "1h"} {
		r := mustInstall(t, merge(parse(t, plain), values{"settings": values{"start-timeout": timeout}}))
		checkRules(t, r)
		progress := *one[apps.Deployment](t, r, "Deployment").Spec.ProgressDeadlineSeconds
		if probe := podsOf(t, r)["server"].Spec.Containers[0].StartupProbe; int32(outlasts(probe).Seconds()) >= progress {
			t.Errorf("%s: a rollout is given up after %d s, a start after %s", timeout, progress, outlasts(probe))
		}
	}
}

// TestReplicas: who says how many nodes there are.
func TestReplicas(t *testing.T) {
	r := mustInstall(t, parse(t, plain))
	if n := one[apps.Deployment](t, r, "Deployment").Spec.Replicas; *n != 3 {
		t.Errorf("%d replicas", *n)
	}
	r = mustInstall(t, merge(parse(t, plain), parse(t, "{autoscaling: {enabled: true, targetConnections: 5000, minReplicas: 2}}")))
	h := one[autoscaling.HorizontalPodAutoscaler](t, r, "HorizontalPodAutoscaler").Spec
	if *h.MinReplicas != 2 || len(h.Metrics) != 2 || h.Metrics[1].Pods.Metric.Name != "weft_connections" || h.Metrics[1].Pods.Target.AverageValue.String() != "5k" {
		t.Errorf("the autoscaler: %+v", h)
	}
	r = mustInstall(t, merge(parse(t, plain), parse(t, "{mode: file, replicaCount: 3}")))
	set := one[apps.StatefulSet](t, r, "StatefulSet").Spec
	if *set.Replicas != 1 || len(set.VolumeClaimTemplates) != 1 || r.has("Deployment") {
		t.Error("mode file has other than one node with a volume")
	}
	if pod := set.Template.Spec.Containers[0]; env(pod, "WEFT_STORE") != "file" || env(pod, "WEFT_DATA_DIR") != "/data" {
		t.Errorf("mode file keeps its files elsewhere: %v", pod.Env)
	}
}

// TestSecretsAreFiles: each is mounted where a variable says, readable by the
// user that weft runs as, and as a whole folder, since single files of a Secret
// are never renewed.
func TestSecretsAreFiles(t *testing.T) {
	r := mustInstall(t, parse(t, `
auth: {existingSecret: a, jwtSecretKey: jwt}
redis: {existingSecret: r, urlKey: url, caKey: ca.crt}
gossip: {existingSecret: g, key: keys}
api: {existingSecret: p, key: api}
`))
	pod := podsOf(t, r)["server"].Spec
	want := map[string]string{
		"WEFT_AUTH_JWT_SECRET_FILE": "a/jwt", "WEFT_REDIS_URL_FILE": "r/url", "WEFT_REDIS_CA_FILE": "r/ca.crt", "WEFT_GOSSIP_KEY_FILE": "g/keys", "": "p/api",
	}
	mounts := map[string]string{} // paths, and what is there
	for _, v := range pod.Volumes {
		if v.Secret == nil {
			continue
		}
		if *v.Secret.DefaultMode != 0o440 {
			t.Errorf("%s has mode %o", v.Name, *v.Secret.DefaultMode)
		}
		for _, m := range pod.Containers[0].VolumeMounts {
			for _, item := range v.Secret.Items {
				if m.Name == v.Name {
					mounts[m.MountPath+"/"+item.Path] = v.Secret.SecretName + "/" + item.Key
					if m.SubPath != "" {
						t.Errorf("%s has a subPath", m.Name)
					}
				}
			}
		}
	}
	for name, secret := range want {
		path := env(pod.Containers[0], name)
		if name == "" {
			path = "/etc/weft/api/api"
		}
		if mounts[path] != secret {
			t.Errorf("%s is %q, where %q is mounted, want %q", name, path, mounts[path], secret)
		}
	}
	for _, e := range pod.Containers[0].Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			t.Errorf("%s is a secret in a variable", e.Name)
		}
	}
}

// TestSettings: numbers, lists and switches arrive as weft reads them.
func TestSettings(t *testing.T) {
	r := mustInstall(t, merge(parse(t, plain), parse(t, "{settings: {max-message-bytes: 33554432, gather: 4ms, pprof: true, allowed-origins: [https://a.example.com]}}")))
	text := one[core.ConfigMap](t, r, "ConfigMap", fullname).Data["weft.yaml"]
	for _, want := range []string{`max-message-bytes: "33554432"`, `gather: "4ms"`, `pprof: "true"`, "allowed-origins:\n  - \"https://a.example.com\""} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	sum := func(r rendering) string { return podsOf(t, r)["server"].Annotations["checksum/settings"] }
	if sum(r) == sum(mustInstall(t, parse(t, plain))) {
		t.Error("other settings do not restart the pods")
	}
}

// TestNetworkPolicy: exactly who may talk to whom.
func TestNetworkPolicy(t *testing.T) {
	const some = "networkPolicy: {enabled: true, clientFrom: [{ipBlock: {cidr: 10.1.0.0/16}}], adminFrom: [{ipBlock: {cidr: 10.2.0.0/16}}], redisTo: [{ipBlock: {cidr: 10.3.0.0/16}}], extraEgress: [{ports: [{port: 26379}]}]}"
	r := mustInstall(t, merge(parse(t, plain), parse(t, some), parse(t, "{auth: {existingSecret: '', jwksUrl: 'https://auth.example.com:8443/keys'}}")))
	p := one[networking.NetworkPolicy](t, r, "NetworkPolicy").Spec
	var in, out []string
	for _, rule := range p.Ingress {
		in = append(in, describe(rule.Ports, rule.From))
	}
	for _, rule := range p.Egress {
		out = append(out, describe(rule.Ports, rule.To))
	}
	nodes := "TCP7946 UDP7946 TCP7947 UDP7947: server"
	wantIn := []string{"TCP8080: 10.1.0.0/16 test", nodes, "TCP9090: 10.2.0.0/16"}
	wantOut := []string{"UDP53 TCP53:", nodes, "TCP6379: 10.3.0.0/16", "TCP8443:", "TCP26379:"}
	if !slices.Equal(in, wantIn) || !slices.Equal(out, wantOut) {
		t.Errorf("in\n%q, want\n%q; out\n%q, want\n%q", in, wantIn, out, wantOut)
	}

	r = mustInstall(t, merge(parse(t, plain), parse(t, "{networkPolicy: {enabled: true}}")))
	p = one[networking.NetworkPolicy](t, r, "NetworkPolicy").Spec
	if got := describe(p.Ingress[0].Ports, p.Ingress[0].From); got != "TCP8080:" || len(p.Ingress) != 2 {
		t.Errorf("without selectors everyone reaches the clients' port, and nobody the admin port: %q of %d", got, len(p.Ingress))
	}
	r = mustInstall(t, parse(t, "{auth: {existingSecret: a}, redis: {embedded: {enabled: true}}, networkPolicy: {enabled: true}}"))
	p = one[networking.NetworkPolicy](t, r, "NetworkPolicy", fullname+"-redis").Spec
	if got := describe(p.Ingress[0].Ports, p.Ingress[0].From); got != "TCP6379: server" || len(p.Ingress) != 1 || len(p.Egress) != 0 {
		t.Errorf("the embedded Redis: %q", got)
	}
}

func describe(ports []networking.NetworkPolicyPort, peers []networking.NetworkPolicyPeer) string {
	var words []string
	for _, p := range ports {
		protocol := core.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		words = append(words, string(protocol)+p.Port.String())
	}
	text := strings.Join(words, " ") + ":"
	for _, p := range peers {
		if p.IPBlock != nil {
			text += " " + p.IPBlock.CIDR
		} else {
			text += " " + p.PodSelector.MatchLabels["app.kubernetes.io/component"]
		}
	}
	return text
}

// TestEmbeddedRedis: a volume if it is to be kept, none else, and the same
// objects each time the chart is rendered.
func TestEmbeddedRedis(t *testing.T) {
	for _, kept := range []bool{true, false} {
		r := mustInstall(t, values{"auth": values{"existingSecret": "a"}, "redis": values{"embedded": values{"enabled": true, "persistence": values{"enabled": kept}}}})
		set := one[apps.StatefulSet](t, r, "StatefulSet").Spec
		if (len(set.VolumeClaimTemplates) == 1) != kept {
			t.Errorf("kept: %v, %d claims", kept, len(set.VolumeClaimTemplates))
		}
		if !slices.Contains(set.Template.Spec.Containers[0].Args, "--appendonly") {
			t.Error("it keeps no log")
		}
		secret := one[core.Secret](t, r, "Secret", fullname+"-redis")
		if got, want := secret.StringData["redis-url"], "redis://canvas-weft-redis.rooms.svc:6379/0"; got != want {
			t.Errorf("the URL is %s, want %s", got, want)
		}
		if again := mustInstall(t, values{"auth": values{"existingSecret": "a"}, "redis": values{"embedded": values{"enabled": true, "persistence": values{"enabled": kept}}}}); string(again.stream()) != string(r.stream()) {
			t.Error("rendered twice, it differs: it would change at every sync of a GitOps controller")
		}
		if strings.Count(r.notes, "not for production") != 1 {
			t.Errorf("the notes do not say that it is not for production:\n%s", r.notes)
		}
	}
}

// TestExtras: what the user adds arrives, and templates in it are filled in.
func TestExtras(t *testing.T) {
	r := mustInstall(t, ciValues(t)["full-values.yaml"])
	pod := podsOf(t, r)["server"]
	spec, weft := pod.Spec, pod.Spec.Containers[0]
	if weft.Image != "registry.example.com/team/weft@sha256:"+strings.Repeat("0123456789abcdef", 4) {
		t.Errorf("the image is %s", weft.Image)
	}
	if env(weft, "GOMEMLIMIT") != "1800MiB" || len(weft.EnvFrom) != 1 || !slices.Contains(weft.Args, "--pprof") {
		t.Errorf("extras of the container: %v %v %v", weft.Env, weft.EnvFrom, weft.Args)
	}
	if len(spec.Containers) != 2 || len(spec.InitContainers) != 1 || spec.PriorityClassName != "high" || spec.NodeSelector["kubernetes.io/os"] != "linux" ||
		len(spec.Tolerations) != 1 || spec.Affinity == nil || len(spec.ImagePullSecrets) != 1 {
		t.Errorf("extras of the pod: %+v", spec)
	}
	if pod.Labels["tier"] != "realtime" || pod.Labels["team"] != "canvas" || pod.Annotations["example.com/scrape"] != "no" {
		t.Errorf("labels and annotations: %v, %v", pod.Labels, pod.Annotations)
	}
	r2 := mustInstall(t, merge(parse(t, plain), parse(t, "{podAnnotations: {checksum/settings: mine}}")))
	if sum := podsOf(t, r2)["server"].Annotations["checksum/settings"]; len(sum) != 64 {
		t.Errorf("pods would not restart when settings change: the checksum is %q", sum)
	}
	for _, name := range []string{"canvas-extra", "canvas-text"} {
		if got := one[core.ConfigMap](t, r, "ConfigMap", name).Data["release"]; got != releaseName {
			t.Errorf("%s: the template in it became %q", name, got)
		}
	}
}

// TestSpread: the nodes are spread by themselves, and only them.
func TestSpread(t *testing.T) {
	pod := podsOf(t, mustInstall(t, parse(t, plain)))["server"]
	var keys []string
	for _, c := range pod.Spec.TopologySpreadConstraints {
		keys = append(keys, c.TopologyKey)
		if !selects(c.LabelSelector, pod.Labels) || !slices.Equal(c.MatchLabelKeys, []string{"pod-template-hash"}) {
			t.Errorf("the constraint %+v is not about the new nodes", c)
		}
	}
	if !slices.Equal(keys, []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}) {
		t.Errorf("spread by %v", keys)
	}
	own := mustInstall(t, merge(parse(t, plain), parse(t, "{topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: b}}}]}")))
	if c := podsOf(t, own)["server"].Spec.TopologySpreadConstraints; len(c) != 1 || !maps.Equal(c[0].LabelSelector.MatchLabels, map[string]string{"a": "b"}) || c[0].MatchLabelKeys != nil {
		t.Errorf("own constraints became %+v", c)
	}
}

// TestNames: whatever a release is called, what is made of its name fits.
func TestNames(t *testing.T) {
	for _, v := range []values{
		{"fullnameOverride": strings.Repeat("canvas-", 9) + "x"},
		{"nameOverride": strings.Repeat("n", 63)},
	} {
		r := mustInstall(t, merge(parse(t, "{auth: {existingSecret: a}, redis: {embedded: {enabled: true}}}"), v))
		checkRules(t, r)
		for _, o := range r.objects {
			if o.Kind == "StatefulSet" && len(o.Metadata.Name) > 52 { // a hash comes to it, and then it is a label
				t.Errorf("%s has a name of %d bytes", o, len(o.Metadata.Name))
			}
		}
	}
}

// TestAsADependency: the chart is a part of another one, with values of all
// charts, and can be left out.
func TestAsADependency(t *testing.T) {
	parent := t.TempDir()
	if err := os.CopyFS(filepath.Join(parent, "charts", "weft"), os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	const chart = "{apiVersion: v2, name: app, version: 1.0.0, dependencies: [{name: weft, version: '*', condition: weft.enabled}]}"
	if err := os.WriteFile(filepath.Join(parent, "Chart.yaml"), []byte(chart), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, enabled := range []bool{true, false} {
		r, err := installChart(parent, values{
			"global": values{"domain": "example.com"},
			"weft":   merge(parse(t, plain), values{"enabled": enabled}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.has("Deployment") != enabled {
			t.Errorf("enabled: %v, made: %v", enabled, r.objects)
		}
	}
}

// TestMetricsExist: alerts and dashboard ask for metrics that weft has.
func TestMetricsExist(t *testing.T) {
	var source strings.Builder
	for _, dir := range []string{"cluster", "cmd/weft", "room", "wsconn"} {
		files, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(text)
		}
	}
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(chartDir, "files", file))
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`weft_[a-z_]+`).FindAllString(string(text), -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, name := range names {
			// The cluster's have their prefix from one place.
			name = strings.TrimPrefix(name, "weft_cluster_")
			if !strings.Contains(source.String(), `"`+name+`"`) {
				t.Errorf("%s asks for %s, which weft does not have", file, name)
			}
		}
	}
}
