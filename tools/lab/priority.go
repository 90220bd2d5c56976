package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// preferred is the niceness of the lab and its nodes. They stand for machines of
// their own: what else runs on the host must not look like a pause of one of them.
const preferred = -20

// prefer puts a process, what it starts from now on, and its session before
// others. Linux schedules sessions against each other first, where
// CONFIG_SCHED_AUTOGROUP is on (sched(7)). It is a wish: where it is not granted,
// a loaded host may cost a node its membership. What it returns makes the
// session, which may outlive the process, what it was.
func prefer(pid int) (undo func()) {
	session := fmt.Sprintf("/proc/%d/autogroup", pid)
	was := niceness(session)
	_ = os.WriteFile(session, []byte(strconv.Itoa(preferred)), 0)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, t := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(t)); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, preferred)
		}
	}
	return func() { _ = os.WriteFile(session, []byte(was), 0) }
}

// niceness is the last word of /proc/PID/autogroup: "/autogroup-217 nice 0".
func niceness(session string) string {
	b, err := os.ReadFile(session)
	if f := strings.Fields(string(b)); err == nil && len(f) == 3 {
		return f[2]
	}
	return "0"
}
