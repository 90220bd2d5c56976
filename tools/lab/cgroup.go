package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroup is a directory of the host's v2 hierarchy. Freezing and killing need no
// controller, so a hierarchy beside v1 controllers serves as well.
type cgroup struct{ dir string }

// findCgroup2 returns where the v2 hierarchy is mounted, given /proc/self/mounts.
func findCgroup2(mounts io.Reader) (string, error) {
	sc := bufio.NewScanner(mounts)
	for sc.Scan() {
		if f := strings.Fields(sc.Text()); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

func cgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	mnt, err := findCgroup2(f)
	if err != nil {
		return "", err
	}
	return filepath.Join(mnt, "quorate-lab"), nil
}

func newCgroup(dir string) (cgroup, error) {
	return cgroup{dir}, os.MkdirAll(dir, 0o755)
}

func (c cgroup) set(name, value string) error {
	return os.WriteFile(filepath.Join(c.dir, name), []byte(value), 0)
}

// parseEvents reads cgroup.events.
func parseEvents(b []byte) map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			m[k] = v == "1"
		}
	}
	return m
}

// waitEvent waits until an entry of cgroup.events has a value. A cgroup that is
// gone is neither frozen nor populated.
func (c cgroup) waitEvent(ctx context.Context, key string, want bool) error {
	for pause := 500 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(c.dir, "cgroup.events"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if parseEvents(b)[key] == want {
			return nil
		}
		if pause > 2*time.Millisecond && key == "frozen" {
			pause = 2 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s is not %v: %w", c.dir, key, want, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func (c cgroup) populated() bool {
	b, _ := os.ReadFile(filepath.Join(c.dir, "cgroup.events"))
	return parseEvents(b)["populated"]
}

// freeze returns when every process stands still: none can write any more.
func (c cgroup) freeze(ctx context.Context) error {
	if err := c.set("cgroup.freeze", "1"); err != nil {
		return err
	}
	return c.waitEvent(ctx, "frozen", true)
}

func (c cgroup) thaw(ctx context.Context) error {
	if err := c.set("cgroup.freeze", "0"); err != nil {
		return err
	}
	return c.waitEvent(ctx, "frozen", false)
}

// lowest is the nice value of who takes what nobody else wants.
const lowest = 19

// yield makes every thread nice, and the sessions that the kernel's autogroups
// share the processors among, where it has them.
func (c cgroup) yield() error {
	b, err := os.ReadFile(filepath.Join(c.dir, "cgroup.threads"))
	if err != nil {
		return err
	}
	for _, word := range strings.Fields(string(b)) {
		tid, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, tid, lowest); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("thread %d: %w", tid, err)
		}
		group := fmt.Sprintf("/proc/%d/autogroup", tid)
		if err := os.WriteFile(group, []byte(strconv.Itoa(lowest)), 0); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// kill ends every process, frozen or not, and returns when all are gone.
func (c cgroup) kill(ctx context.Context) error {
	if err := c.set("cgroup.kill", "1"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return c.waitEvent(ctx, "populated", false)
}

// remove removes an empty cgroup and the empty ones below it.
func (c cgroup) remove() error {
	subs, _ := filepath.Glob(filepath.Join(c.dir, "*", "cgroup.procs"))
	for _, s := range subs {
		if err := (cgroup{filepath.Dir(s)}).remove(); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(c.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// Writes counts what the processes of a node have written, from /proc/PID/io.
type Writes struct {
	Procs int    // processes counted
	Calls uint64 // write system calls (syscw)
	Chars uint64 // bytes given to them (wchar)
	Bytes uint64 // bytes sent to the storage layer (write_bytes); none on a tmpfs
}

// More says that something was written between an earlier count and this one. A process
// that was ending when it was frozen, with nothing written, may be gone at the second count.
func (w Writes) More(before Writes) bool {
	if w.Procs < before.Procs {
		w.Procs = before.Procs
	}
	return w != before
}

func (c cgroup) writes() (Writes, error) {
	var w Writes
	b, err := os.ReadFile(filepath.Join(c.dir, "cgroup.procs"))
	if err != nil {
		return w, err
	}
	for pid := range strings.FieldsSeq(string(b)) {
		io, err := os.ReadFile(filepath.Join("/proc", pid, "io"))
		if err != nil {
			continue // it ended
		}
		w.Procs++
		w.add(string(io))
	}
	return w, nil
}

// add adds the counters of one /proc/PID/io.
func (w *Writes) add(io string) {
	for line := range strings.Lines(io) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			continue
		}
		switch k {
		case "syscw":
			w.Calls += n
		case "wchar":
			w.Chars += n
		case "write_bytes":
			w.Bytes += n
		}
	}
}
