package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// kernel is what the daemon drives: the DLM, or nothing.
type kernel interface {
	Stop(lockspace string, token uint64) error
	Start(dlm.StartJob) error
	AnswerJoin(lockspace string, token uint64) error
	FinishLeave(lockspace string, token uint64) error
	FailJoin(lockspace string, why syscall.Errno, token uint64) error
	SetPeer(membership.Incarnation) error
	RemovePeer(membership.Incarnation) error
	RenewPeer(i membership.Incarnation, lockspace string, epoch uint64) error
	Troubles() []dlm.Trouble
	Conns() []dlm.Conn
	Quiesce() error
	Resume() error
	Halt(reason string) error
	Release(errno syscall.Errno) error
	Close() error
}

// sysDLM is where a kernel shows its lockspaces.
const sysDLM = "/sys/kernel/dlm"

var errNoKernel = errors.New(`this node was told to have no DLM: write kernel = "dlm" under [cluster], then: quorate leave && systemctl start quorated`)

// noKernel is the kernel of a node with kernel = "none": it has no lockspace, so
// there is nothing to stop, start or answer, and its peers have no entries in it.
type noKernel struct {
	says func(lockspace.Input) // from a goroutine that may block
}

// openNone refuses a machine whose kernel has lockspaces: nobody would stop them
// when this node loses its place.
func openNone(sys string, says func(lockspace.Input)) (kernel, error) {
	entries, err := os.ReadDir(sys)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("kernel = \"none\": look for lockspaces: %w", err)
	}
	if len(entries) > 0 {
		names := make([]string, len(entries))
		for i, e := range entries {
			names[i] = e.Name()
		}
		return nil, fmt.Errorf("kernel = \"none\": %w: %s", dlm.ErrUncontrolled, strings.Join(names, ", "))
	}
	return noKernel{says}, nil
}

func (noKernel) Conns() []dlm.Conn                                      { return nil }
func (noKernel) Troubles() []dlm.Trouble                                { return nil }
func (noKernel) Stop(string, uint64) error                              { return errNoKernel }
func (noKernel) Start(dlm.StartJob) error                               { return errNoKernel }
func (noKernel) AnswerJoin(string, uint64) error                        { return errNoKernel }
func (noKernel) FinishLeave(string, uint64) error                       { return errNoKernel }
func (noKernel) FailJoin(string, syscall.Errno, uint64) error           { return errNoKernel }
func (noKernel) SetPeer(membership.Incarnation) error                   { return nil }
func (noKernel) RenewPeer(membership.Incarnation, string, uint64) error { return errNoKernel }
func (noKernel) Quiesce() error                                         { return nil }
func (noKernel) Resume() error                                          { return nil }
func (noKernel) Release(syscall.Errno) error                            { return nil }
func (noKernel) Halt(string) error                                      { return nil }
func (noKernel) Close() error                                           { return nil }

// RemovePeer is answered as the driver does, after the call.
func (k noKernel) RemovePeer(i membership.Incarnation) error {
	k.says(lockspace.PeerRemoved{Incarnation: i})
	return nil
}
