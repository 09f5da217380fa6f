//go:build !race

package cluster

const defaultSeeds = 10_000
