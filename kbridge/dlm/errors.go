package dlm

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers tell apart.
var (
	// ErrUncontrolled: the kernel has lockspaces of another daemon, or of an earlier run.
	ErrUncontrolled = errors.New("the kernel has DLM lockspaces that this daemon did not start; unmount what uses them, or reboot")
	// ErrHeld: lockspaces exist, so the driver cannot be closed.
	ErrHeld = errors.New("lockspaces are in use; unmount the file systems and stop the programs that hold them")
	// ErrState: the call does not fit what the lockspace is doing.
	ErrState = errors.New("not in this state of the lockspace")
	// ErrName: the name cannot be a directory in configfs.
	ErrName = errors.New("lockspace name not usable: 1 to 64 bytes without a slash")
	// ErrID: another lockspace has the same id.
	ErrID = errors.New("two lockspaces with the same id; rename one of them")
	// ErrMembers: the members of a start are not usable.
	ErrMembers = errors.New("members not usable")
	// ErrPeer: a peer's comms entry does not fit.
	ErrPeer = errors.New("comms entry of a peer does not fit")
	// ErrClosed: the driver was closed or halted.
	ErrClosed = errors.New("the DLM driver is closed")
	// ErrBusy: too many operations wait for the kernel.
	ErrBusy = errors.New("too many operations wait for the kernel; see what is blocked in status")
	// ErrOverrun: the uevent socket overflowed.
	ErrOverrun = errors.New("uevents were lost")
	// ErrModule: the dlm module is not there.
	ErrModule = errors.New("the kernel has no DLM; install the package with the extra kernel modules and see modprobe dlm")
	// ErrNeighbour: no neighbour entry may be deleted so that attempts to connect end.
	ErrNeighbour = errors.New("no neighbour entry to forget")
	// ErrParse: foreign bytes that do not parse.
	ErrParse = errors.New("unexpected content")
)

// OpError is the error of one operation.
type OpError struct {
	Op   string // what was done: start, stop, online, set-peer, …
	Path string // the lockspace, node or file it was done to
	Err  error
}

func (e *OpError) Error() string { return fmt.Sprintf("dlm: %s %s: %v", e.Op, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

func opError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &OpError{Op: op, Path: path, Err: err}
}

func listed(err error, names []string) error {
	return fmt.Errorf("%w: %s", err, strings.Join(names, ", "))
}
