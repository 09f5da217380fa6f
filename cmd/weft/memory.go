package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage may pile up, in percent of what is in use,
// unless GOGC says otherwise. Most of what a server of idle sockets holds is
// in use for good, so Go's default of 100 would double it; the collector has
// little to do in return, since a broadcast makes garbage once however many
// receive it.
const gcPercent = 50

func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
