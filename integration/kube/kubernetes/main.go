// Command kubernetes is a whole Kubernetes in one program: it is the component by whose name it is
// called (kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy or kubectl).
//
// The test in .. needs a real cluster on machines that reach Go's module proxy and no registry of
// images. One program of six components takes half the time and a third of the space of six programs.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	command := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": manager.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand() },
		"kube-proxy":              proxy.NewProxyCommand,
		"kubectl":                 cmd.NewDefaultKubectlCommand,
	}[name]
	if command == nil {
		fmt.Fprintf(os.Stderr, "%s is no component of Kubernetes: call this by the name of one\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(command()))
}
