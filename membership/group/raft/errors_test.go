package raft

import (
	"errors"
	"fmt"
	"testing"
)

func TestGivenUp(t *testing.T) {
	for _, err := range []error{ErrCorrupt, ErrTruncated, ErrMoved, ErrRolledBack, ErrReplaced} {
		if !GivenUp(&OpError{Op: "open", Path: "log", Err: fmt.Errorf("%w (5)", err)}) {
			t.Errorf("a log is gone on with after: %v", err)
		}
	}
	for _, err := range []error{nil, ErrBusy, ErrNoSpace, ErrReadOnly, ErrFailed, ErrBroken, errors.New("else")} {
		if GivenUp(err) {
			t.Errorf("a log is given up for: %v", err)
		}
	}
}
