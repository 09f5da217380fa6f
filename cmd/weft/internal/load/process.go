package load

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of CPU time in /proc/PID/stat: USER_HZ, 100 on every Linux that Go has
// been ported to.
const ticksPerSecond = 100

// usage is what a process, or a family of them, has used.
type usage struct {
	cpu time.Duration // user and system, since it began
	rss int64         // bytes
}

// measure reads the usage of pid, with its descendants if asked, from /proc.
func measure(pid int, children bool) (usage, error) {
	family := []int{pid}
	if children {
		family = descendants(pid)
	}
	var sum usage
	for _, p := range family {
		u, err := measureOne(p)
		if err != nil {
			if p != pid {
				continue // a child that has ended meanwhile
			}
			return usage{}, fmt.Errorf("load: process %d: %w", pid, err)
		}
		sum.cpu += u.cpu
		sum.rss += u.rss
	}
	return sum, nil
}

func measureOne(pid int) (usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, err
	}
	_, cpu, err := parseStat(stat)
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, err
	}
	rss, err := parseRSS(status)
	return usage{cpu: cpu, rss: rss}, err
}

// parseStat reads the parent and the CPU time from a /proc/PID/stat. The second field, the command
// in parentheses, may hold anything, so the fields are counted from the last parenthesis.
func parseStat(stat []byte) (parent int, cpu time.Duration, err error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("stat has %d fields", len(fields))
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return 0, 0, fmt.Errorf("stat: parent: %w", err)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("stat: user time: %w", err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("stat: system time: %w", err)
	}
	return parent, time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// parseRSS reads the resident memory in bytes from a /proc/PID/status.
func parseRSS(status []byte) (int64, error) {
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("status: VmRSS: %w", err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("status has no VmRSS: the process has ended")
}

// descendants lists pid and every process below it that is there now.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if parent, _, err := parseStat(stat); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	family := []int{pid}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i]]...)
	}
	return family
}
