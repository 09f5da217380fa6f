package main

import (
	"slices"
	"testing"
)

func TestRemovalsAreOfKubernetesOnly(t *testing.T) {
	const saved = `# Generated
*filter
:INPUT ACCEPT [1:2]
:KUBE-FORWARD - [0:0]
:DOCKER - [0:0]
-A INPUT -m comment --comment "to a service" -j KUBE-FORWARD
-A INPUT -j DOCKER
-A KUBE-FORWARD -j ACCEPT
COMMIT
*nat
:KUBE-SVC-1 - [0:0]
:KUBE-SEP-1 - [0:0]
-A KUBE-SVC-1 -j KUBE-SEP-1
COMMIT
`
	want := []string{`*filter
:KUBE-FORWARD - [0:0]
-D INPUT -m comment --comment "to a service" -j KUBE-FORWARD
COMMIT
*nat
:KUBE-SVC-1 - [0:0]
:KUBE-SEP-1 - [0:0]
COMMIT
`, `*filter
-X KUBE-FORWARD
COMMIT
*nat
-X KUBE-SVC-1
-X KUBE-SEP-1
COMMIT
`}
	if got := removals(saved); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := removals("*filter\n:INPUT ACCEPT [1:2]\nCOMMIT\n"); got != nil {
		t.Errorf("nothing is to be removed, but got %q", got)
	}
}
