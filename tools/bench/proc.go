package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// userHZ is the unit of times in /proc: 10 ms on every architecture of Linux
// that Go runs on (USER_HZ).
const userHZ = 100

var errProc = errors.New("not what proc(5) describes")

// usage is what a set of processes has used so far.
type usage struct {
	cpu time.Duration // user and system
	rss uint64        // bytes, now
}

func usageOf(pids []int) (u usage, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return u, err
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return u, err
		}
		cpu, err := parseStat(stat)
		if err != nil {
			return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		rss, err := parseRSS(status)
		if err != nil {
			return u, fmt.Errorf("/proc/%d/status: %w", pid, err)
		}
		u.cpu += cpu
		u.rss += rss
	}
	return u, nil
}

// parseStat returns the user and system time, fields 14 and 15. The name before
// them is in parentheses and may hold anything.
func parseStat(data []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, fmt.Errorf("%w: no name", errProc)
	}
	f := strings.Fields(string(data[end+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("%w: %d fields after the name", errProc, len(f))
	}
	var ticks uint64
	for _, s := range f[11:13] {
		v, err := strconv.ParseUint(s, 10, 38) // 87 years; more would overflow
		if err != nil {
			return 0, fmt.Errorf("%w: time %q", errProc, s)
		}
		ticks += v
	}
	return time.Duration(ticks) * (time.Second / userHZ), nil
}

// parseRSS returns VmRSS in bytes.
func parseRSS(data []byte) (uint64, error) {
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) == 3 && f[0] == "VmRSS:" && f[2] == "kB" {
			kb, err := strconv.ParseUint(f[1], 10, 48)
			if err != nil {
				return 0, fmt.Errorf("%w: VmRSS %q", errProc, f[1])
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("%w: no VmRSS", errProc)
}

// syncCall is the beginning of a call in strace's output; a call that another
// thread's line interrupts has an end of its own, "<... fsync resumed>".
var syncCall = regexp.MustCompile(`(?m)^(?:\[pid +)?[0-9]+\]? +(fsync|fdatasync)\(`)

// countSyncs counts the calls in the output of strace -f -o for fsync and fdatasync.
func countSyncs(out []byte) int { return len(syncCall.FindAllIndex(out, -1)) }

// traced says whether another process traces each thread of a process.
func traced(pid int) (bool, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, err
	}
	for _, t := range tasks {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, t.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended since
		}
		if err != nil || parseTracer(data) == 0 {
			return false, err
		}
	}
	return true, nil
}

// parseTracer returns TracerPid; 0 for none.
func parseTracer(data []byte) int {
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "TracerPid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				return 0
			}
			return pid
		}
	}
	return 0
}
