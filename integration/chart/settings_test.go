package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

// TestWeftTakesItsSettings gives what a pod would have to the weft of this
// repository: it must know every variable and every setting, and find that they
// fit together.
func TestWeftTakesItsSettings(t *testing.T) {
	weft := buildWeft(t)
	check := func(name string, v values) {
		t.Run(name, func(t *testing.T) {
			r := mustInstall(t, v)
			root := t.TempDir()
			pod := podsOf(t, r)["server"].Spec
			mount(t, r, pod, root)
			run := exec.Command(weft, append([]string{"config", "check"}, pod.Containers[0].Args[1:]...)...)
			run.Env = environ(pod.Containers[0], root)
			var said bytes.Buffer
			run.Stdout, run.Stderr = &said, &said
			if err := run.Run(); err != nil || said.String() != "OK\n" {
				t.Errorf("%v: %s\nvariables: %v", err, said.String(), run.Env)
			}
		})
	}
	for name, v := range ciValues(t) {
		check(name, v)
	}
	for keeper, k := range keepers {
		for authorizer, a := range authorizers {
			check(keeper+"/"+authorizer, merge(parse(t, k), parse(t, a)))
		}
	}
}

// TestCanaryIsACommand gives the arguments of the test's pod to the weft of this
// repository, which must not find them wrong.
func TestCanaryIsACommand(t *testing.T) {
	weft := buildWeft(t)
	for name, a := range authorizers {
		r := mustInstall(t, merge(parse(t, keepers["redis"]), parse(t, a)))
		if wants := name == "secret" || name == "dev"; r.has("Pod") != wants {
			t.Errorf("%s: a test's pod: %v, want %v", name, r.has("Pod"), wants)
		} else if !wants {
			continue
		}
		pod := one[core.Pod](t, r, "Pod").Spec
		root := t.TempDir()
		mount(t, r, pod, root)
		var args []string
		for _, arg := range pod.Containers[0].Args {
			// Nobody is there, and nobody is asked.
			arg = strings.ReplaceAll(arg, fullname+".rooms.svc:80", "127.0.0.1:1")
			arg = strings.ReplaceAll(arg, fullname+"-gossip.rooms.svc:8080", "127.0.0.1:1")
			args = append(args, strings.ReplaceAll(arg, "/etc/weft", root))
		}
		run := exec.Command(weft, args...)
		run.Env = environ(pod.Containers[0], root)
		out, _ := run.CombinedOutput()
		if code := run.ProcessState.ExitCode(); code != 1 {
			t.Errorf("%s: weft %v: exit status %d, want 1 (nobody is there): %s", name, args, code, out)
		}
	}
}

func buildWeft(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "weft")
	build := exec.Command("go", "build", "-o", program, "./cmd/weft")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// samples are the contents of Secrets, by the beginning of their key's name.
var samples = map[string]string{
	"jwt-secret": "0123456789abcdef0123456789abcdef\nfedcba9876543210fedcba9876543210\n",
	"gossip-key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
	"redis-url":  "rediss://weft:password@redis.example.com:6379/0",
	"url":        "rediss://weft:password@redis.example.com:6379/0",
	"ca.crt":     certificate,
	"api-keys":   "some",
}

// mount makes below root what the kubelet makes of a pod's volumes.
func mount(t *testing.T, r rendering, pod core.PodSpec, root string) {
	t.Helper()
	write := func(volume, name, text string) {
		for _, m := range pod.Containers[0].VolumeMounts {
			if m.Name != volume {
				continue
			}
			dir := filepath.Join(root, strings.TrimPrefix(m.MountPath, "/etc/weft"))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, v := range pod.Volumes {
		if v.ConfigMap != nil {
			for name, text := range one[core.ConfigMap](t, r, "ConfigMap", v.ConfigMap.Name).Data {
				write(v.Name, name, text)
			}
		}
		if v.Secret == nil {
			continue
		}
		for _, item := range v.Secret.Items {
			text, ok := samples[item.Key]
			if !ok {
				t.Fatalf("the key %s of the Secret %s is new", item.Key, v.Secret.SecretName)
			}
			write(v.Name, item.Path, text)
		}
	}
}

// environ are a container's variables as the kubelet fills them in.
func environ(c core.Container, root string) []string {
	var pairs []string
	for _, e := range c.Env {
		value := strings.ReplaceAll(e.Value, "/etc/weft", root)
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			value = map[string]string{"metadata.name": "canvas-weft-6d5f8c7b9-x2x4z", "status.podIP": "10.244.0.7"}[e.ValueFrom.FieldRef.FieldPath]
		}
		pairs = append(pairs, e.Name+"="+value)
	}
	return pairs
}

// certificate is one that nobody uses.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBjzCCATWgAwIBAgIUWy2M2bjgKhbda/6cLOU6irEoIB4wCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRcmVkaXMuZXhhbXBsZS5jb20wIBcNMjYxMTI1MjIxNjI4WhgP
MjEyNjExMDEyMjE2MjhaMBwxGjAYBgNVBAMMEXJlZGlzLmV4YW1wbGUuY29tMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwQF3TiSheFECHSI41Udl2TtEsbpNwHmk
45J/mCoPioy0+wf/Vnh+D/o4F5DDr/uAfcMPayz1gCZkT0ifduG66KNTMFEwHQYD
VR0OBBYEFDWDNIVXJ8m2QFcgJtvKwtO8uL2SMB8GA1UdIwQYMBaAFDWDNIVXJ8m2
QFcgJtvKwtO8uL2SMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIg
UXUfFzkvIm+fr8Qul/K2s6n1r3y+qOvSTYLtjZR0i3ECIQDHGy8Onn9FB0JQYwpy
WAD8ZanuY9A+7P5zByhcSvzmSw==
-----END CERTIFICATE-----
`
