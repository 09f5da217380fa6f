//go:build race

package cluster

// The race detector makes a world ten times as slow, and looks for something else.
const defaultSeeds = 300
