package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	defaultDir = "/dev/shm/quorate-lab"
	socketDir  = "/run/quorate-lab"
	namePrefix = "qlab"
)

// owner names a lab after the process that made it, so that what a killed owner
// left behind can be told from what belongs to a running one.
type owner struct {
	pid   int
	start uint64 // of the process, in ticks since boot: a pid may be used again
	seq   int    // of the lab in that process
}

func (o owner) String() string {
	return fmt.Sprintf("%s-%d-%d-%d", namePrefix, o.pid, o.start, o.seq)
}

func parseOwner(s string) (o owner, ok bool) {
	f := strings.Split(s, "-")
	if len(f) != 4 || f[0] != namePrefix {
		return o, false
	}
	var err [3]error
	o.pid, err[0] = strconv.Atoi(f[1])
	o.start, err[1] = strconv.ParseUint(f[2], 10, 64)
	o.seq, err[2] = strconv.Atoi(f[3])
	return o, errors.Join(err[:]...) == nil
}

func self(seq int) owner {
	start, _ := startTime(os.Getpid())
	return owner{os.Getpid(), start, seq}
}

func (o owner) alive() bool {
	start, err := startTime(o.pid)
	return err == nil && start == o.start
}

// startTime is field 22 of /proc/PID/stat.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// Sweep removes what labs left behind whose process is gone: nodes, cgroups,
// network namespaces, sockets, and folders below dir. New calls it.
func Sweep(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range dead(root) {
		c := cgroup{filepath.Join(root, name)}
		errs = append(errs, c.kill(ctx), c.remove())
	}
	for _, name := range dead(netnsDir) {
		errs = append(errs, netns{name}.remove())
	}
	for _, d := range []string{dir, defaultDir, socketDir} {
		for _, name := range dead(d) {
			errs = append(errs, os.RemoveAll(filepath.Join(d, name)))
		}
	}
	return errors.Join(errs...)
}

// dead lists the entries of dir that are named after a lab without owner.
func dead(dir string) (names []string) {
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		if o, ok := parseOwner(e.Name()); ok && !o.alive() {
			names = append(names, e.Name())
		}
	}
	return names
}
