// Package kube installs Weft by its chart into a real Kubernetes, and does to it what happens to it in
// production, while 200 people draw with the published client: rollouts, upgrades, scaling, pods and Redis
// killed, Redis away. `make kube-test` runs it; it takes root, since the cluster is made on this machine.
//
//   - withkube/ makes the cluster and takes it back, and runs the tests within: see its comment
//   - kubernetes/ and tools/ are modules that pin what it is made of; images/ makes images without a daemon
//   - kube_test.go is the sequence of what happens, and what must hold
//   - cluster_test.go talks to the cluster; people_test.go drives the clients; report_test.go writes down
//     what was measured
//
// The tests need what withkube puts into the environment. Without it they are skipped.
package kube
