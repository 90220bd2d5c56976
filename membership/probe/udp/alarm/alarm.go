// Package alarm wakes a goroutine at a time of the boot clock.
//
// The runtime's timers wait for whole milliseconds, rounded down, and then for the rest: a
// thread is woken twice for each, and up to a millisecond late; and one that is set to
// an earlier time than the runtime waits for wakes another thread. That is most of what
// a daemon costs that wakes a hundred times a second. An Alarm is a timerfd.
package alarm

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

// Alarm is for one goroutine, or for several that take turns.
type Alarm struct {
	C     chan struct{} // has room for one
	file  *os.File
	conn  syscall.RawConn
	ended sync.WaitGroup
	at    membership.Mono

	// What setting it takes, so that it makes no garbage.
	when   unix.ItimerSpec
	failed unix.Errno
	arm    func(fd uintptr)
}

// unset is no time.
const unset membership.Mono = -1

// New returns an alarm that is not set.
func New() (*Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	a := &Alarm{C: make(chan struct{}, 1), file: os.NewFile(uintptr(fd), "timerfd"), at: unset}
	if a.conn, err = a.file.SyscallConn(); err != nil {
		_ = a.file.Close()
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	a.arm = func(fd uintptr) {
		_, _, a.failed = unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, unix.TFD_TIMER_ABSTIME, uintptr(unsafe.Pointer(&a.when)), 0, 0, 0)
	}
	a.ended.Go(func() {
		for a.conn.Read(rang) == nil {
			select {
			case a.C <- struct{}{}:
			default: // it has not been heard yet
			}
		}
	})
	return a, nil
}

// rang says whether a timerfd has run down since it was set or asked last.
func rang(fd uintptr) bool {
	var times uint64
	_, _, e := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&times)), unsafe.Sizeof(times))
	return e == 0
}

// Set has it ring at that time and no other, or at once when that has passed.
func (a *Alarm) Set(at membership.Mono) error {
	if at = max(at, 0); at == a.at {
		return nil
	}
	a.when.Value = unix.NsecToTimespec(max(int64(at), 1)) // 0 would be never
	err := a.conn.Control(a.arm)
	if err == nil && a.failed != 0 {
		err = a.failed
	}
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	a.at = at
	return nil
}

// At is when it rings, or has rung; below 0: never.
func (a *Alarm) At() membership.Mono { return a.at }

// Heard says that C was read: the same time may be set again.
func (a *Alarm) Heard() { a.at = unset }

// Close ends it: nothing comes from C any more.
func (a *Alarm) Close() {
	_ = a.file.Close()
	a.ended.Wait()
}
