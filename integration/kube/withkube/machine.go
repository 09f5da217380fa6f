package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	lockFile   = "/run/weft-kube.lock"
	cgroupRoot = "weft-kube"
	namespaces = "/run/netns" // of networks: the runtime names its own cni-…
	pluginDir  = "/var/lib/cni"
)

// settings of the kernel that the components change.
var settings = []string{
	"net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// machine is this machine, of which a cluster has taken what it needs.
type machine struct {
	lock    *os.File
	plugins string // the folder of the network plugins

	// What was there before, in a file beside the rest of the state.
	Settings   map[string]string
	Namespaces []string
}

// takeMachine checks that the machine has all that a cluster needs and nothing that would be in its way,
// takes back what an earlier run has left, and notes what the cluster will change.
func takeMachine() (*machine, error) {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	m := &machine{Settings: map[string]string{}}
	for _, program := range []string{"etcd", "containerd", "ctr", "runc", "iptables", "ip", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: run deps.sh", err)
		}
	}
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(dir + "/ptp"); err == nil {
			m.plugins = dir
		}
	}
	if m.plugins == "" {
		return nil, errors.New("the network plugins are not installed: run deps.sh")
	}
	var err error
	if m.lock, err = os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(m.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another run has a cluster here (%s): %w", lockFile, err)
	}
	if err := m.takeBackOld(); err != nil {
		return nil, fmt.Errorf("taking back what an earlier run has left: %w", err)
	}
	if err := checkFree(); err != nil {
		return nil, err
	}
	if err := m.note(); err != nil {
		return nil, err
	}
	if err := m.change(); err != nil {
		return nil, errors.Join(err, m.giveBack())
	}
	return m, nil
}

func stateFile() string { return filepath.Join(stateDir, "machine.json") }

func (m *machine) takeBackOld() error {
	text, err := os.ReadFile(stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	old := &machine{}
	if err == nil {
		err = json.Unmarshal(text, old)
	}
	if err != nil {
		return err
	}
	return old.giveBack()
}

// checkFree refuses a machine that has a Kubernetes, or something else where ours would be.
func checkFree() error {
	for _, port := range ports {
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err != nil {
			return fmt.Errorf("a component of the cluster needs a port that is taken: %w", err)
		}
		l.Close()
	}
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		return fmt.Errorf("iptables-save: %w", err)
	}
	if strings.Contains(string(rules), "KUBE-") {
		return errors.New("this machine has the rules of another Kubernetes (see iptables-save)")
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		own, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		for _, r := range []string{podRange, services} {
			if netip.MustParsePrefix(r).Overlaps(own.Masked()) {
				return fmt.Errorf("this machine has the address %s in the range %s, which the cluster needs", a, r)
			}
		}
	}
	return nil
}

func (m *machine) note() error {
	for _, s := range settings {
		value, err := os.ReadFile("/proc/sys/" + s)
		if err != nil {
			continue // a kernel without it
		}
		m.Settings[s] = string(value)
	}
	entries, err := os.ReadDir(namespaces)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		m.Namespaces = append(m.Namespaces, e.Name())
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(stateFile(), text, 0o600)
}

func (m *machine) change() error {
	if err := output(exec.Command("ip", "address", "add", nodeIP+"/32", "dev", "lo")); err != nil {
		return err
	}
	for _, r := range rules("--insert") {
		if err := output(exec.Command(r[0], r[1:]...)); err != nil {
			return err
		}
	}
	for _, dir := range cgroups() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, file := range []string{"cpuset.mems", "cpuset.cpus"} { // which a new one lacks in version 1
			if value, err := os.ReadFile(filepath.Join(dir, "..", file)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cgroups are our folder in each hierarchy.
func cgroups() []string {
	var all []string
	for _, m := range mounts() {
		if strings.HasPrefix(m.kind, "cgroup") {
			all = append(all, filepath.Join(m.at, cgroupRoot))
		}
	}
	return all
}

type mount struct{ at, kind string }

func mounts() []mount {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var all []mount
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 2 {
			all = append(all, mount{words[1], words[2]})
		}
	}
	return all
}

// giveBack takes back all that a cluster has made here, whatever state it is in. It can be called again.
func (m *machine) giveBack() error {
	m.killAll()
	var errs []error
	for _, e := range namespaceEntries() {
		if strings.HasPrefix(e, "cni-") && !slices.Contains(m.Namespaces, e) {
			file := filepath.Join(namespaces, e)
			_ = syscall.Unmount(file, syscall.MNT_DETACH) // it may not be mounted any more
			errs = append(errs, os.Remove(file))
		}
	}
	for _, p := range slices.Backward(mounts()) {
		if strings.HasPrefix(p.at, stateDir+"/") {
			errs = append(errs, syscall.Unmount(p.at, syscall.MNT_DETACH))
		}
	}
	errs = append(errs, removeKubeRules())
	for _, r := range rules("--delete") {
		for exec.Command(r[0], r[1:]...).Run() == nil { // until there is none
		}
	}
	if addrs, err := exec.Command("ip", "address", "show", "dev", "lo").Output(); err == nil && strings.Contains(string(addrs), nodeIP+"/") {
		errs = append(errs, output(exec.Command("ip", "address", "delete", nodeIP+"/32", "dev", "lo")))
	}
	for name, value := range m.Settings {
		if now, err := os.ReadFile("/proc/sys/" + name); err == nil && string(now) != value {
			errs = append(errs, os.WriteFile("/proc/sys/"+name, []byte(value), 0o644))
		}
	}
	for _, dir := range cgroups() {
		errs = append(errs, removeCgroup(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the next run tries again
	}
	for _, p := range mounts() {
		if strings.HasPrefix(p.at, stateDir+"/") {
			return fmt.Errorf("%s is still mounted", p.at)
		}
	}
	for _, dir := range []string{pluginDir + "/results", pluginDir} {
		_ = os.Remove(dir) // unless something else has files there
	}
	return os.RemoveAll(stateDir)
}

// killAll kills what is left of containers: those who watch them, and then themselves.
func (m *machine) killAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		pids := append(shims(), members()...)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// shims are the processes that keep containers for our containerd, and it itself.
func shims() []int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	var all []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(string(text), "\x00")
		if strings.HasPrefix(filepath.Base(args[0]), "containerd") && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, stateDir+"/") }) {
			all = append(all, number(filepath.Base(filepath.Dir(file))))
		}
	}
	return all
}

// members are the processes in our cgroups.
func members() []int {
	var all []int
	for _, dir := range cgroups() {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Name() == "cgroup.procs" {
				text, _ := os.ReadFile(path) // a group that just went has no members
				for line := range strings.Lines(string(text)) {
					all = append(all, number(strings.TrimSpace(line)))
				}
			}
			return nil
		})
	}
	return all
}

func number(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}

func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // it is not there
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

func namespaceEntries() []string {
	entries, err := os.ReadDir(namespaces)
	if err != nil {
		return nil // there are none
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
