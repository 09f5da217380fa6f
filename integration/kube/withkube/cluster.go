package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weftsync/weft/integration/kube/images"
)

// Everything is below one folder, so that the next run finds what a killed one has left.
const (
	stateDir   = "/var/lib/weft-kube"
	logDir     = stateDir + "/logs"
	socket     = stateDir + "/containerd.sock"
	kubeconfig = stateDir + "/admin.conf"

	// nodeIP is an address that only this machine has.
	nodeIP   = "10.244.255.1"
	podRange = "10.244.0.0/16"
	ipRange  = "10.244.0.0/17" // of which pods get their addresses
	services = "10.96.0.0/16"
	dnsIP    = "10.96.0.10"
	nodeName = "weft-kube"

	pauseImage = "localhost/weft-kube-pause:1"
	dnsImage   = "localhost/weft-kube-coredns:1"
)

// ports are those of the components, which must be free.
var ports = []int{2379, 2380, 6443, 10248, 10249, 10250, 10256, 10257, 10259}

//go:embed system.yaml
var systemManifest string

// cluster is a Kubernetes of one node.
type cluster struct {
	programs programs
	machine  *machine
	running  []*process // in the order in which they were started
}

// start starts one component after the other, and returns when pods can be run and find each other's names.
func (c *cluster) start(ctx context.Context) error {
	for _, dir := range []string{"etcd", "keys", "apiserver", "kubelet", "cni", "logs"} {
		if err := os.MkdirAll(filepath.Join(stateDir, dir), 0o700); err != nil {
			return err
		}
	}
	volume := filepath.Join(stateDir, "volume")
	if err := errors.Join(os.Mkdir(volume, 0o700), os.Chmod(volume, 0o777)); err != nil { // for any user of a pod
		return err
	}
	if err := writeKeys(filepath.Join(stateDir, "keys")); err != nil {
		return err
	}
	if err := c.writeConfigs(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.startRuntime, c.importImages, c.startControl, c.startNode, c.startSystem} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) writeConfigs() error {
	token := rand.Text()
	for name, text := range map[string]string{
		"tokens.csv":       token + ",admin,admin,system:masters\n",
		"admin.conf":       fmt.Sprintf(adminConf, nodeIP, stateDir, token),
		"containerd.toml":  fmt.Sprintf(containerdConf, stateDir, socket, pauseImage, c.machine.plugins),
		"cni/10-weft.conf": fmt.Sprintf(networkConf, stateDir, ipRange),
		"kubelet.yaml":     fmt.Sprintf(kubeletConf, socket, stateDir, nodeIP, dnsIP, cgroupRoot),
		"system.yaml":      strings.NewReplacer("IMAGE", dnsImage, "ADDRESS", dnsIP, "FOLDER", stateDir+"/volume").Replace(systemManifest),
		"resolv.conf":      "", // pods resolve names of the cluster, and no others
	} {
		if err := os.WriteFile(filepath.Join(stateDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) launch(name, program string, args ...string) (*process, error) {
	p, err := startProcess(name, program, args...)
	if err == nil {
		c.running = append(c.running, p)
	}
	return p, err
}

func (c *cluster) startRuntime(ctx context.Context) error {
	runtime, err := c.launch("containerd", "containerd", "--config", stateDir+"/containerd.toml")
	if err != nil {
		return err
	}
	return runtime.await(ctx, 30*time.Second, func(ctx context.Context) error { return ctr(ctx, nil, "version") })
}

// importImages gives the runtime the images that the cluster itself needs.
func (c *cluster) importImages(ctx context.Context) error {
	for _, part := range []struct{ image, file, target string }{
		{pauseImage, c.programs.pause + "/pause", "/pause"},
		{dnsImage, c.programs.tools + "/coredns", "/coredns"},
	} {
		image := images.New(part.image, images.Config{Entrypoint: []string{part.target}})
		if err := image.Add(part.file, part.target, 0, 0); err != nil {
			return err
		}
		var archive bytes.Buffer
		if err := image.Write(&archive); err != nil {
			return err
		}
		if err := ctr(ctx, &archive, "images", "import", "-"); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) startControl(ctx context.Context) error {
	etcd, err := c.launch("etcd", "etcd", "--data-dir", stateDir+"/etcd", "--unsafe-no-fsync",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380")
	if err != nil {
		return err
	}
	if err := etcd.await(ctx, 30*time.Second, func(ctx context.Context) error { return getOK(ctx, "http://127.0.0.1:2379/health") }); err != nil {
		return err
	}
	keys := stateDir + "/keys/"
	api, err := c.launch("kube-apiserver", c.programs.kubernetes+"/kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address="+nodeIP, "--advertise-address="+nodeIP, "--secure-port=6443", "--cert-dir="+stateDir+"/apiserver",
		"--service-cluster-ip-range="+services,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+keys+"accounts.pub", "--service-account-signing-key-file="+keys+"accounts.key",
		"--token-auth-file="+stateDir+"/tokens.csv", "--anonymous-auth=false", "--authorization-mode=RBAC",
		"--kubelet-client-certificate="+keys+"kubelet-client.crt", "--kubelet-client-key="+keys+"kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP")
	if err != nil {
		return err
	}
	if err := api.await(ctx, 2*time.Minute, func(ctx context.Context) error { return c.kubectl(ctx, "get", "--raw", "/readyz") }); err != nil {
		return err
	}
	if _, err := c.launch("kube-controller-manager", c.programs.kubernetes+"/kube-controller-manager",
		"--kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false",
		"--service-account-private-key-file="+keys+"accounts.key", "--root-ca-file="+stateDir+"/apiserver/apiserver.crt"); err != nil {
		return err
	}
	_, err = c.launch("kube-scheduler", c.programs.kubernetes+"/kube-scheduler",
		"--kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false")
	return err
}

func (c *cluster) startNode(ctx context.Context) error {
	if _, err := c.launch("kube-proxy", c.programs.kubernetes+"/kube-proxy",
		"--kubeconfig="+kubeconfig, "--hostname-override="+nodeName, "--proxy-mode=iptables", "--cluster-cidr="+podRange,
		"--healthz-bind-address="+nodeIP+":10256", "--metrics-bind-address=127.0.0.1:10249",
		// The kernel's settings stay as they are.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		"--iptables-localhost-nodeports=false"); err != nil {
		return err
	}
	kubelet, err := c.launch("kubelet", c.programs.kubernetes+"/kubelet",
		"--kubeconfig="+kubeconfig, "--config="+stateDir+"/kubelet.yaml", "--root-dir="+stateDir+"/kubelet",
		"--hostname-override="+nodeName, "--node-ip="+nodeIP)
	if err != nil {
		return err
	}
	return kubelet.await(ctx, 2*time.Minute, func(ctx context.Context) error {
		return c.kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=5s", "node/"+nodeName)
	})
}

func (c *cluster) startSystem(ctx context.Context) error {
	// What pods of a namespace run as comes a moment after the namespace.
	err := c.running[len(c.running)-1].await(ctx, time.Minute, func(ctx context.Context) error {
		return c.kubectl(ctx, "get", "serviceaccount", "default", "--namespace=kube-system")
	})
	if err != nil {
		return err
	}
	if err := c.kubectl(ctx, "apply", "-f", stateDir+"/system.yaml"); err != nil {
		return err
	}
	return c.kubectl(ctx, "rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=120s")
}

// stop ends the pods, so that the runtime and the plugins take their containers and networks back, and
// then the components.
func (c *cluster) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	byName := map[string]*process{}
	for _, p := range c.running {
		byName[p.name] = p
	}
	var err error
	if byName["kubelet"] != nil {
		for _, name := range []string{"kube-scheduler", "kube-controller-manager"} { // which would make new ones
			byName[name].stop(10 * time.Second)
		}
		err = c.kubectl(ctx, "delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--wait=false")
		if err == nil {
			err = byName["kubelet"].await(ctx, time.Minute, noContainers)
		}
	}
	for _, p := range slices.Backward(c.running) {
		p.stop(10 * time.Second)
	}
	return err
}

func noContainers(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ctr", "--address", socket, "--namespace", "k8s.io", "tasks", "list", "--quiet").Output()
	if err == nil && len(bytes.TrimSpace(out)) > 0 {
		err = errors.New("containers still run")
	}
	return err
}

func (c *cluster) kubectl(ctx context.Context, args ...string) error {
	return output(exec.CommandContext(ctx, c.programs.kubernetes+"/kubectl", append([]string{"--kubeconfig=" + kubeconfig}, args...)...))
}

func ctr(ctx context.Context, in *bytes.Buffer, args ...string) error {
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", socket, "--namespace", "k8s.io"}, args...)...)
	if in != nil {
		cmd.Stdin = in
	}
	return output(cmd)
}

// output runs a command whose output matters only if it fails.
func output(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}

func getOK(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}
