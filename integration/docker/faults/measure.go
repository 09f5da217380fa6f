package faults

import (
	"slices"
	"time"
)

// Waits is how long frames waited for their acks on sockets that stayed open, sorted.
type Waits []time.Duration

// Percentile returns the wait that p of 100 waits are not longer than; 0 if there are none.
func (w Waits) Percentile(p float64) time.Duration {
	if len(w) == 0 {
		return 0
	}
	return w[min(len(w)-1, int(p/100*float64(len(w))))]
}

// Max is the longest wait.
func (w Waits) Max() time.Duration { return w.Percentile(100) }

// WaitsOf returns every wait for an ack, but for those that end in one of the windows.
func WaitsOf(recordings []Recording, but []Window) Waits {
	var all Waits
	eachWait(recordings, func(_ int, node string, from, to time.Duration) {
		if !anyHolds(but, node, to) {
			all = append(all, to-from)
		}
	})
	slices.Sort(all)
	return all
}

// WaitsDuring returns every wait for an ack on a node other than the one at fault that was under way at
// some time of the fault's window.
func WaitsDuring(recordings []Recording, faults []Window) Waits {
	var all Waits
	eachWait(recordings, func(_ int, node string, from, to time.Duration) {
		for _, f := range faults {
			if f.Node != node && from <= f.To && to >= f.From {
				all = append(all, to-from)
				return
			}
		}
	})
	slices.Sort(all)
	return all
}

// LongestWaits returns, for every fault and every socket on another node, the longest wait for an ack
// that was under way at some time of the fault's window.
func LongestWaits(recordings []Recording, faults []Window) Waits {
	type key struct{ fault, socket int }
	longest := map[key]time.Duration{}
	eachWait(recordings, func(socket int, node string, from, to time.Duration) {
		for i, f := range faults {
			if f.Node != node && from <= f.To && to >= f.From {
				k := key{i, socket}
				longest[k] = max(longest[k], to-from)
			}
		}
	})
	var all Waits
	for _, d := range longest {
		all = append(all, d)
	}
	slices.Sort(all)
	return all
}

// eachWait calls back for every frame that got its ack on the socket on which it was sent. Sockets are
// numbered through all recordings.
func eachWait(recordings []Recording, wait func(socket int, node string, from, to time.Duration)) {
	socket := 0
	for _, r := range recordings {
		node, sent := "", map[string]time.Duration{}
		for _, e := range r.Events {
			switch e.Kind {
			case Opened:
				socket++
				node = e.Node
			case Sent:
				sent[e.Mark] = e.At
			case Acked, Synced:
				if from, ok := sent[e.Mark]; ok {
					wait(socket, node, from, e.At)
					delete(sent, e.Mark)
				}
			case Closed:
				clear(sent)
			}
		}
	}
}

// LastAck is when the last ack came for what was sent before a time; 0 if nothing was waiting then.
func LastAck(recordings []Recording, before time.Duration) time.Duration {
	var last time.Duration
	eachWait(recordings, func(_ int, _ string, from, to time.Duration) {
		if from <= before && to > before {
			last = max(last, to)
		}
	})
	return last
}

// Closes counts the sockets that servers closed, or that broke, outside the windows.
func Closes(recordings []Recording, but []Window) int {
	n := 0
	for _, r := range recordings {
		node := ""
		for _, e := range r.Events {
			switch {
			case e.Kind == Opened:
				node = e.Node
			case e.Kind == Closed && e.Code != 0 && !anyHolds(but, node, e.At):
				n++
			}
		}
	}
	return n
}
