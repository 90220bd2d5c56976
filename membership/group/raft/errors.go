package raft

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
)

// What can be wrong with a store. After the first three the log is of no use: see GivenUp.
var (
	// ErrCorrupt: the log is damaged. What follows the damage cannot be trusted.
	ErrCorrupt = errors.New("log is damaged")
	// ErrTruncated: a file of the log is shorter than it was made, or missing.
	ErrTruncated = errors.New("log is cut short")
	// ErrMoved: the log is not where it was made: it was copied, or restored from a backup.
	ErrMoved = errors.New("log is a copy of another place's")
	// ErrBusy: another process has the store open.
	ErrBusy = errors.New("store is in use: another quorated runs on this directory")
	// ErrNoSpace: the file system is full.
	ErrNoSpace = errors.New("no space left for the log: free space on the state file system")
	// ErrReadOnly: the file system cannot be written.
	ErrReadOnly = errors.New("log's file system is read-only: repair and remount it")
	// ErrFailed: an earlier write failed; what is on the disk is unknown until the store is opened again.
	ErrFailed = errors.New("an earlier write of the log failed: unmount, `quorate leave`, and start quorated")
)

// GivenUp says whether an error, of a store or a machine's fault, is of a log that must
// not be gone on with: the caller puts it aside, and the node joins anew under a fresh
// raft id.
func GivenUp(err error) bool {
	return slices.ContainsFunc([]error{ErrCorrupt, ErrTruncated, ErrMoved, ErrRolledBack, ErrReplaced},
		func(of error) bool { return errors.Is(err, of) })
}

// OpError is a failed operation on a store.
type OpError struct {
	Op   string
	Path string
	Err  error
}

func (e *OpError) Error() string { return fmt.Sprintf("raft store: %s %s: %v", e.Op, e.Path, e.Err) }

func (e *OpError) Unwrap() error { return e.Err }

// opError maps the errno to the sentinel that an operator can act on.
func opError(op, path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("%w (%w)", ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		err = fmt.Errorf("%w (%w)", ErrReadOnly, err)
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = ErrBusy
	}
	return &OpError{Op: op, Path: path, Err: err}
}
