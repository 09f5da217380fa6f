package chart

import (
	"fmt"
	"slices"
	"strings"
)

// A model of a restart: how often does a client reconnect, and how evenly are
// the clients spread in the end? It knows what Kubernetes does to the pods, and
// when; a client whose socket is closed comes back at any pod that the Service
// has at that moment, each with the same probability. Shares are expected
// values, so the model draws nothing.

// event is what happens to a pod, at a time in seconds.
type event struct {
	at   float64
	what what
	pod  int
}

type what int

const (
	ready  what = iota // the Service has it from now on
	leaves             // the Service has it no more
	closes             // it closes its sockets
)

// outcome is what a restart comes to.
type outcome struct {
	reconnects float64 // of a client, on average
	most       float64 // clients of the fullest pod, in shares of an even spread
	least      float64 // of the emptiest
}

// play lets events happen to a cluster of n pods, numbered from 0, with clients
// spread evenly. Pods with other numbers are new.
func play(n int, events []event) outcome {
	clients, inService := map[int]float64{}, map[int]bool{}
	for pod := range n {
		clients[pod], inService[pod] = 1, true
	}
	slices.SortStableFunc(events, func(a, b event) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return int(a.what - b.what)
	})
	var moved float64
	for _, e := range events {
		switch e.what {
		case ready:
			inService[e.pod] = true
		case leaves:
			delete(inService, e.pod)
		case closes:
			moved += clients[e.pod]
			for pod := range inService {
				clients[pod] += clients[e.pod] / float64(len(inService))
			}
			delete(clients, e.pod)
		}
	}
	var shares []float64
	for pod := range inService {
		shares = append(shares, clients[pod])
	}
	return outcome{moved / float64(n), slices.Max(shares), slices.Min(shares)}
}

// What the chart sets, and what a start and a drain take, in seconds.
const (
	minReady = 10
	preStop  = 10
	start    = 5
	drain    = 5
)

// surge is the chart's Deployment: all new pods at once. The last of them is
// ready some seconds after the first. Each one that has been ready for minReady
// lets an old one end.
func surge(n int, stagger float64) []event {
	var events []event
	for i := range n {
		at := start + stagger*float64(i)/float64(max(n-1, 1))
		events = append(events,
			event{at, ready, n + i},
			event{at + minReady, leaves, i},
			event{at + minReady + preStop, closes, i})
	}
	return events
}

// surgeByOne is a Deployment with maxSurge 1: the next new pod starts when an
// old one is told to end.
func surgeByOne(n int) []event {
	var events []event
	at := 0.0
	for i := range n {
		at += start
		events = append(events, event{at, ready, n + i})
		at += minReady
		events = append(events, event{at, leaves, i}, event{at + preStop, closes, i})
	}
	return events
}

// inPlace is a StatefulSet: one pod after the other, from the last to the first,
// ends before it comes back.
func inPlace(n int) []event {
	var events []event
	at := 0.0
	for i := n - 1; i >= 0; i-- {
		events = append(events, event{at, leaves, i}, event{at + preStop, closes, i})
		at += preStop + drain + start
		events = append(events, event{at, ready, i})
		at += minReady
	}
	return events
}

// table is what the model says, as the chart's README has it.
func table() string {
	var b strings.Builder
	b.WriteString("| | nodes | reconnects a client | fullest node | emptiest node |\n|---|--:|--:|--:|--:|\n")
	row := func(name string, n int, events []event) {
		o := play(n, events)
		fmt.Fprintf(&b, "| %s | %d | %.2f | %.2f | %.2f |\n", name, n, o.reconnects, o.most, o.least)
	}
	for _, n := range []int{3, 5, 10} {
		row("Deployment, surge 100 %", n, surge(n, 5))
	}
	row("the same, its last pod 30 s late", 3, surge(3, 30))
	for _, n := range []int{3, 5, 10} {
		row("Deployment, surge 1", n, surgeByOne(n))
	}
	for _, n := range []int{3, 5, 10} {
		row("StatefulSet", n, inPlace(n))
	}
	return b.String()
}
