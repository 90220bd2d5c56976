package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// answerLimit is how long a daemon may stay silent. It answers questions in milliseconds.
const answerLimit = 10 * time.Second

// waiter is a connection whose other end may stand still. Who only looks gives up when
// nothing comes within the limit. What changes something, or runs programs, may take as
// long as it has to, and events come when they come: then the daemon is asked another
// question, and given up when it does not answer that within the limit.
type waiter struct {
	conn  net.Conn
	path  string
	limit time.Duration
	looks bool
}

func (w *waiter) Read(p []byte) (int, error) {
	for {
		if err := w.conn.SetReadDeadline(time.Now().Add(w.limit)); err != nil {
			return 0, err
		}
		n, err := w.conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if err := w.still(); err != nil {
			return w.last(p, err)
		}
	}
}

// last takes what came meanwhile: the answer of a leave comes with the daemon's end.
func (w *waiter) last(p []byte, still error) (int, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(w.limit / 100)); err != nil {
		return 0, err
	}
	n, err := w.conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = still
	}
	return n, err
}

func (w *waiter) Write(p []byte) (done int, err error) {
	for {
		if err := w.conn.SetWriteDeadline(time.Now().Add(w.limit)); err != nil {
			return done, err
		}
		n, err := w.conn.Write(p[done:])
		done += n
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return done, err
		}
		if err := w.still(); err != nil {
			return done, err
		}
	}
}

// still is an ErrDown that says how the daemon stands; nil: it goes on.
func (w *waiter) still() error {
	if !w.looks && w.answers() {
		return nil
	}
	text := "see `systemctl status quorated`"
	if p, err := identify(w.conn); err == nil && p.PID > 0 {
		text = standing(p.PID)
	}
	if !w.looks {
		text += "; whether it has done what it was asked for, or will, say `quorate status` and `quorate events` then"
	}
	return fmt.Errorf("%w within %v: %s", ErrDown, w.limit, text)
}

// answers asks for the status, which takes all of the daemon to answer.
func (w *waiter) answers() bool {
	conn, err := dial(w.path)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // nothing of it is of use
	data, err := json.Marshal(Request{Command: "status"})
	if err != nil || conn.SetDeadline(time.Now().Add(w.limit)) != nil {
		return false
	}
	if _, err = conn.Write(append(data, '\n')); err != nil {
		return false
	}
	n, _ := conn.Read(make([]byte, 1))
	return n > 0
}

// standing says how a process stands that does not answer, and what to do.
func standing(pid int32) string {
	state := state(pid)
	text := fmt.Sprintf("it stands still (pid %d, state %s): ", pid, state)
	switch state {
	case "":
		return fmt.Sprintf("its process (pid %d) has ended: see `systemctl status quorated`", pid)
	case "T":
		return text + fmt.Sprintf("somebody stopped it: `kill -CONT %d` lets it go on, and the others evict this node while it stands", pid)
	case "t":
		return text + "a debugger holds it: end that, the others evict this node meanwhile"
	case "D":
		return text + fmt.Sprintf("it waits for the kernel, for a disk perhaps: see `dmesg`, and as root /proc/%d/task/*/stack", pid)
	case "Z", "X":
		return fmt.Sprintf("it is ending (pid %d, state %s): see `systemctl status quorated`", pid, state)
	}
	return fmt.Sprintf("it hangs, is starting still, or does not get the processor (pid %d, state %s): see `top`, its cgroup's cgroup.freeze, and `journalctl -u quorated`", pid, state)
}

// state is the letter of /proc/PID/stat (proc_pid_stat(5)), of the first thread; empty: there is none.
func state(pid int32) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	stat := string(data)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name may have anything in it
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}
