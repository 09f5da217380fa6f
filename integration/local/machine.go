package local

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPUTime is the user and system time of a process so far; 0 where it cannot be told.
func CPUTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return ticks(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])), 11, 12)
}

// BusyTime is the user, nice and system time of the whole machine so far. Time in interrupts is left out,
// as it is from the times of processes.
func BusyTime() time.Duration {
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

// CPUModel is what the machine calls its processors, or "unknown".
func CPUModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "unknown"
}
