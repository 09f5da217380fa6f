// Package chart tests the Helm chart in helm/weft without a cluster: the way
// `helm lint`, `helm template` and `helm install --dry-run=client` go, since
// Helm's own packages are used.
//
// matrix_test.go renders the chart over a matrix of values, rules_test.go holds
// every rendering to the chart's rules, and decode, a module of its own, decodes
// every object strictly into the API types of the newest Kubernetes and of the
// oldest that the chart supports. refuse_test.go lists what is refused, and with
// which sentence. reconnects.go is a model of a restart, whose figures the
// chart's README cites; readme_test.go checks that, and that the README is what
// helm-docs makes of the values.
package chart
