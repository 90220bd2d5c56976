package launch

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// agentFiles is the customary limit of open files. The Go runtime raises its own, and
// some programs close every descriptor that they could have.
const agentFiles = 1024

const (
	sysSignals = 64
	sigBytes   = sysSignals / 8 // the size of the kernel's signal set
)

// What a child reports instead of an errno.
const (
	childLate   = -1
	childOrphan = -2
)

// sigaction is at least as large as the kernel's, all zero: the default.
type sigaction [8]uint64

// child is all that a new process needs until it executes its program: it must not make
// anything then. Pointers go to what does not move, the heap.
type child struct {
	flags, flags2 uintptr // of clone, in either order of its arguments
	path, dir     *byte
	argv, envv    []*byte
	nice, before  int64
	files         []int32 // become 0, 1, ...; moved out of the way in the child
	report        int32   // where an errno goes; closed by exec
	parent        unix.PollFd
	param         struct{ priority int32 }
	limit         unix.Rlimit
	now, zero     unix.Timespec
	all, none     uint64 // signal sets
	was           uint64
	dfl           sigaction
	says          int32
}

// fork starts a program and does not wait for exec. What the pipe that it returns says
// first is an error of the child, see failure; it ends when the program is executed or
// the child is dead. The child dies with the calling thread.
func fork(s *Spec, files []int) (pid int, report *os.File, err error) {
	c := &child{nice: int64(s.Nice), before: s.Before, limit: unix.Rlimit{Cur: agentFiles, Max: agentFiles}, all: math.MaxUint64}
	if c.path, err = unix.BytePtrFromString(s.Path); err != nil {
		return 0, nil, err
	}
	if c.dir, err = unix.BytePtrFromString(s.Dir); err != nil {
		return 0, nil, err
	}
	if c.argv, err = syscall.SlicePtrFromStrings(s.Args); err != nil {
		return 0, nil, err
	}
	if c.envv, err = syscall.SlicePtrFromStrings(s.Env); err != nil {
		return 0, nil, err
	}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &c.limit) == nil {
		c.limit.Cur = min(agentFiles, c.limit.Max)
	}
	for _, f := range files {
		c.files = append(c.files, int32(f))
	}
	c.flags = uintptr(unix.SIGCHLD)
	if s.PIDNamespace {
		c.flags |= unix.CLONE_NEWPID
	}
	if runtime.GOARCH == "s390x" { // there the stack comes first
		c.flags, c.flags2 = 0, c.flags
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, nil, err
	}
	c.report = int32(ends[1])
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		self = -1 // before Linux 5.3: poll looks at no negative one
	}
	c.parent = unix.PollFd{Fd: int32(self), Events: unix.POLLIN}

	runtime.LockOSThread() // signals are blocked in this thread
	pid, errno := c.clone()
	runtime.UnlockOSThread()

	runtime.KeepAlive(s)
	_ = unix.Close(ends[1])
	if self >= 0 {
		_ = unix.Close(self)
	}
	if errno != 0 {
		_ = unix.Close(ends[0])
		return 0, nil, errno
	}
	_ = unix.Setpgid(pid, pid) // whoever comes first; after exec it is done
	return pid, os.NewFile(uintptr(ends[0]), "report"), nil
}

// clone makes the child. In it no other thread exists, so nothing in here allocates,
// takes a lock, grows the stack or is preempted, and the race detector and the checks of
// pointers are not in it: it is only this function's own frame and system calls
// (see syscall.forkAndExecInChild1, of which it is the like without CLONE_VM and CLONE_VFORK).
//
//go:noinline
//go:norace
//go:nocheckptr
func (c *child) clone() (pid int, errno syscall.Errno) {
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.all)), uintptr(unsafe.Pointer(&c.was)), sigBytes, 0, 0)
	r, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, c.flags, c.flags2, 0, 0, 0, 0)
	if errno != 0 || r != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.was)), 0, sigBytes, 0, 0)
		return int(r), errno
	}

	// No real-time priority; who is not allowed to be so nice is as it comes.
	syscall.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_NORMAL, uintptr(unsafe.Pointer(&c.param)))
	syscall.RawSyscall(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(c.nice))
	syscall.RawSyscall(unix.SYS_SETPGID, 0, 0, 0)
	_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	if errno != 0 {
		c.fail(int32(errno))
	}
	// Who died before that was asked for sends none.
	if r, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&c.parent)), 1, uintptr(unsafe.Pointer(&c.zero)), 0, sigBytes, 0); r == 1 {
		c.fail(childOrphan)
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0); errno != 0 {
		c.fail(int32(errno))
	}

	// All descriptors go out of the way of their places first.
	above := uintptr(len(c.files) + 1)
	if r, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(c.report), unix.F_DUPFD_CLOEXEC, above); errno != 0 {
		c.fail(int32(errno))
	}
	c.report = int32(r)
	for i := range c.files {
		if r, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(c.files[i]), unix.F_DUPFD_CLOEXEC, above); errno != 0 {
			c.fail(int32(errno))
		}
		c.files[i] = int32(r)
	}
	for i := range c.files {
		if _, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(c.files[i]), uintptr(i), 0); errno != 0 {
			c.fail(int32(errno))
		}
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(c.report), above-1, unix.O_CLOEXEC); errno != 0 {
		c.fail(int32(errno))
	}
	c.report = int32(above - 1)
	if _, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, above, math.MaxUint32, 0); errno != 0 { // before Linux 5.9
		for fd := above; fd < agentFiles; fd++ {
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
	}

	syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&c.limit)), 0, 0, 0)
	for sig := uintptr(1); sig <= sysSignals; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&c.dfl)), 0, sigBytes, 0, 0) // not of KILL and STOP
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.none)), 0, sigBytes, 0, 0)
	if c.before != 0 {
		_, _, errno = syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&c.now)), 0)
		if errno != 0 || int64(c.now.Sec)*1e9+int64(c.now.Nsec) >= c.before {
			c.fail(childLate)
		}
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)), uintptr(unsafe.Pointer(&c.argv[0])), uintptr(unsafe.Pointer(&c.envv[0])))
	c.fail(int32(errno))
	return 0, 0
}

// fail ends the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (c *child) fail(why int32) {
	c.says = why
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(c.report), uintptr(unsafe.Pointer(&c.says)), unsafe.Sizeof(c.says))
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

// errLate: the time that a program was to be started before has come.
var errLate = errors.New("too late")

// failure reads what a child reports, once it has executed its program or is dead.
func failure(report *os.File) error {
	defer func() { _ = report.Close() }() // read only
	var b [4]byte
	if _, err := io.ReadFull(report, b[:]); err != nil {
		return nil // its end
	}
	switch says := int32(binary.NativeEndian.Uint32(b[:])); {
	case says == childLate:
		return errLate
	case says < 0:
		return syscall.ECHILD
	default:
		return syscall.Errno(says)
	}
}

// boottime is CLOCK_BOOTTIME; without a clock it is too late for everything.
func boottime() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return math.MaxInt64
	}
	return ts.Nano()
}
