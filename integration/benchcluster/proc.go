package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/weftsync/weft/integration/local"
)

// own is the CPU time of this process and of all that it has started so far.
func (b *bench) own() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} { // those that have ended
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	sum += local.CPUTime(b.single.PID())
	for _, p := range b.cluster.Programs() {
		sum += local.CPUTime(p.PID())
	}
	return sum
}

// rssOf is a process's resident memory in bytes; 0 where it cannot be told.
func rssOf(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	return kib * 1024
}
