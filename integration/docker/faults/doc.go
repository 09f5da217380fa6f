// Package faults breaks a cluster of Weft while clients edit, and checks what the clients saw.
//
// A run is three nodes, Redis, and a [Load]: clients that behave as the published one, reconnect as it
// does, and record everything. Meanwhile something breaks: nodes are killed or stopped, Redis goes away,
// a network is cut. Afterwards [Check] holds the recordings against the rooms as every node has them.
//
// This package is what it takes; the faults themselves, which need Redis in a container, are the tests
// TestFault… of the package above.
//
// Where to look:
//
//   - client.go, load.go: the clients; record.go: what they record
//   - check.go, replay.go, measure.go: what is made of it
//   - proxy.go, resp.go, gossip.go: what lies between the nodes and Redis, and between the nodes
//   - node.go: the processes; ownership.go: who owns what, from Redis
//
// No privileges are needed: what cuts a network is a proxy.
package faults
