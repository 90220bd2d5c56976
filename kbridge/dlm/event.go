package dlm

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Event is one of the events below.
type Event interface{ dlmEvent() }

// Added says that a lockspace object appeared; Online follows.
type Added struct{ Lockspace string }

// Online says that a mount or program asks to join; it waits, without a limit
// and in the kernel, for Start or FailJoin.
type Online struct{ Lockspace string }

// Offline says that the last user here is gone, or that a join failed in the
// kernel; it waits for FinishLeave.
type Offline struct {
	Lockspace string
	// ReleaseRecover: the others are to treat this node as failed (Linux 6.18).
	ReleaseRecover bool
}

// Removed says that the lockspace object is gone.
type Removed struct{ Lockspace string }

// StopDone answers Stop: the kernel grants no lock any more.
type StopDone struct {
	Lockspace string
	Token     uint64
	Took      time.Duration
	Err       error
}

// StartDone answers Start: members and control=1 are written.
type StartDone struct {
	Lockspace string
	Token     uint64
	Took      time.Duration
	Err       error
}

// Recovered says that the kernel's own part of the recovery is done, and a
// joiner's uevent answered. Err is set when that answer could not be written.
type Recovered struct {
	Lockspace string
	Token     uint64
	Status    uint32        // recover_status
	Took      time.Duration // since control=1
	Err       error
}

// JoinAnswered answers AnswerJoin.
type JoinAnswered struct {
	Lockspace string
	Token     uint64
	Err       error
}

// Noticed says that the kernel works with the members of a start: it has forgotten
// those that are gone.
type Noticed struct {
	Lockspace string
	Token     uint64
}

// LeaveDone answers FinishLeave.
type LeaveDone struct {
	Lockspace string
	Token     uint64
	Err       error
}

// JoinFailed answers FailJoin. With token 0 the driver refused by itself: the
// name is not usable, and no Online was reported.
type JoinFailed struct {
	Lockspace string
	Token     uint64
	Err       error
}

// PeerSet answers SetPeer.
type PeerSet struct {
	Incarnation membership.Incarnation
	Err         error
}

// PeerRemoved answers RemovePeer.
type PeerRemoved struct {
	Incarnation membership.Incarnation
	Took        time.Duration
	Err         error
}

// PeerRenewed answers RenewPeer.
type PeerRenewed struct {
	Incarnation membership.Incarnation
	Lockspace   string
	Epoch       uint64
	Troubles    []Trouble // what the peer did not answer until then
	Err         error
}

// Mounting, Mounted, Withdrawn and Unmounted follow a GFS2 file system here by
// the name of its lock table.
type (
	Mounting struct{ Table string }
	Mounted  struct {
		Table string
		JID   int // its journal
	}
	Withdrawn struct{ Table string }
	Unmounted struct{ Table string }
)

// Journal says that GFS2 here ended the replay of a journal.
type Journal struct {
	Table string
	JID   int
	OK    bool
}

// FirstMount says that the first mounter is done with all journals.
type FirstMount struct{ Table string }

// Overrun says that uevents were lost and the lockspaces listed again. A
// lockspace that began to leave meanwhile cannot be told from a running one:
// Doubtful are those.
type Overrun struct{ Doubtful []string }

// Failed says that the driver cannot hear the kernel any more.
type Failed struct{ Err error }

func (Added) dlmEvent()        {}
func (Online) dlmEvent()       {}
func (Offline) dlmEvent()      {}
func (Removed) dlmEvent()      {}
func (StopDone) dlmEvent()     {}
func (StartDone) dlmEvent()    {}
func (Recovered) dlmEvent()    {}
func (Noticed) dlmEvent()      {}
func (JoinAnswered) dlmEvent() {}
func (LeaveDone) dlmEvent()    {}
func (JoinFailed) dlmEvent()   {}
func (PeerSet) dlmEvent()      {}
func (PeerRemoved) dlmEvent()  {}
func (PeerRenewed) dlmEvent()  {}
func (Mounting) dlmEvent()     {}
func (Mounted) dlmEvent()      {}
func (Withdrawn) dlmEvent()    {}
func (Unmounted) dlmEvent()    {}
func (Journal) dlmEvent()      {}
func (FirstMount) dlmEvent()   {}
func (Overrun) dlmEvent()      {}
func (Failed) dlmEvent()       {}
