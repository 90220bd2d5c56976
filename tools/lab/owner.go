package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
// left behind can be told from what belongs to a running one. The names are seen
// by all who share the cgroups and /dev/shm, in other pid namespaces too (a chroot
// with a /proc of its own), where a pid means nothing.
type owner struct {
	space uint64 // its pid namespace: the inode of /proc/PID/ns/pid
	pid   int
	start uint64 // of the process, in ticks since boot: a pid may be used again
	seq   int    // of the lab in that process
}

func (o owner) String() string {
	return fmt.Sprintf("%s-%x-%d-%d-%d", namePrefix, o.space, o.pid, o.start, o.seq)
}

func parseOwner(s string) (o owner, ok bool) {
	f := strings.Split(s, "-")
	if len(f) != 5 || f[0] != namePrefix {
		return o, false
	}
	var err [4]error
	o.space, err[0] = strconv.ParseUint(f[1], 16, 64)
	o.pid, err[1] = strconv.Atoi(f[2])
	o.start, err[2] = strconv.ParseUint(f[3], 10, 64)
	o.seq, err[3] = strconv.Atoi(f[4])
	return o, errors.Join(err[:]...) == nil
}

func self(seq int) owner {
	start, _ := startTime(os.Getpid())
	return owner{pidSpace(os.Getpid()), os.Getpid(), start, seq}
}

// alive says that the owner runs, or may run: of another namespace's processes
// only the first namespace sees whether there are any.
func (o owner) alive() bool {
	own := pidSpace(os.Getpid())
	if o.space == own {
		start, err := startTime(o.pid)
		return err == nil && start == o.start
	}
	return own != firstPidSpace || inhabited(o.space)
}

// firstPidSpace is PROC_PID_INIT_INO (include/linux/proc_ns.h): its processes see those of all others.
const firstPidSpace = 0xeffffffc

// pidSpace is the pid namespace of a process, 0 when it has none any more.
func pidSpace(pid int) (ino uint64) {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err == nil {
		_, _ = fmt.Sscanf(link, "pid:[%d]", &ino)
	}
	return ino
}

// inhabited says that a process in the namespace runs.
func inhabited(space uint64) bool {
	es, _ := os.ReadDir("/proc")
	return slices.ContainsFunc(es, func(e os.DirEntry) bool {
		pid, err := strconv.Atoi(e.Name())
		return err == nil && pidSpace(pid) == space
	})
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
