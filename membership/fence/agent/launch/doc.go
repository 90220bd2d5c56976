// Package launch starts programs from a process of its own.
//
// # Why
//
// Go starts a program by CLONE_VFORK, and the thread that does keeps one of the
// runtime's processors until the child has executed it (syscall.forkExec,
// runtime.syscall_runtime_BeforeFork). Each collection of garbage stops the world and
// waits for that processor. So where an exec takes long, on a disk that hangs, say, all
// of the process stands still, and a daemon whose silence gets its machine fenced must
// not. syscall.ForkLock is held as long, so that no other program can be started either.
//
// # What it promises
//
// The daemon forks for one program alone, the launcher, which is its own: any program
// that imports this package becomes one in an init function if it is called Name. It
// starts programs with an ordinary fork, which returns when the child has been made; so
// nothing waits for an exec, and another program can be started meanwhile.
//
// What it starts has ordinary scheduling and the nice value asked for, a process group
// and where asked for a pid namespace of its own, the descriptors given from 0 on and no
// others, all signals at their defaults, at most 1024 open files, and a check of the
// clock (CLOCK_BOOTTIME) as the last thing before exec.
//
// When the daemon ends, the kernel kills the launcher, and when that ends what it has
// started (PR_SET_PDEATHSIG); it ends, too, when its socket is closed. When the launcher
// dies every program that runs counts as failed, after the kernel has killed it
// (ErrGone), and another launcher is started. One that does not do what it is told is killed.
//
// What a program reads and prints goes through the descriptors given to it: the
// launcher never sees its secrets.
//
// # The order of things
//
// A Launcher sends requests over a SOCK_SEQPACKET socket, with the descriptors, and
// never waits for it: one that is full is of a launcher that stands still. Each request
// has a number, which its answers repeat: started when the program is executed, with a
// descriptor of the process; killed when the signals asked for are sent; ended when it
// has ended and been reaped, after what is left of its group was killed. Kill signals the
// process by its descriptor at once, and has the launcher do it again, for the group.
package launch
