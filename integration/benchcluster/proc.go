package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuOf is the user and system time of a process so far; 0 where it cannot be told.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return ticks(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])), 11, 12)
}

// busy is the user, nice and system time of the whole machine so far. Time in interrupts is left out,
// as it is from the times of processes.
func busy() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	return ticks(strings.Fields(line), 1, 2, 3)
}

const ticksPerSecond = 100 // the unit of CPU times in /proc

func ticks(fields []string, at ...int) time.Duration {
	var sum int64
	for _, i := range at {
		if i >= len(fields) {
			return 0
		}
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticksPerSecond
}

// own is the CPU time of this process and of all that it has started so far.
func (b *bench) own() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} { // those that have ended
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	sum += cpuOf(b.single.PID())
	for _, p := range b.cluster.Programs() {
		sum += cpuOf(p.PID())
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
