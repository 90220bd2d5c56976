package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// drive executes an effect on the kernel. A call that the driver refuses is answered
// like one that the kernel did, and not from here: the loop would wait for its own queue.
func (d *Daemon) drive(e lockspace.Effect) {
	err := d.call(e)
	if err == nil {
		return
	}
	d.log.Error("the kernel's DLM could not be driven", "effect", fmt.Sprintf("%T", e), "err", err)
	d.async(func() { d.kernelSays(refusal(e, err)) })
}

func (d *Daemon) call(e lockspace.Effect) error {
	switch e := e.(type) {
	case lockspace.Stop:
		return d.kernel.Stop(e.Lockspace, e.Token)
	case lockspace.Start:
		return d.kernel.Start(startJob(e))
	case lockspace.AnswerJoin:
		return d.kernel.AnswerJoin(e.Lockspace, e.Token)
	case lockspace.FinishLeave:
		return d.kernel.FinishLeave(e.Lockspace, e.Token)
	case lockspace.FailJoin:
		return d.kernel.FailJoin(e.Lockspace, joinErrno(e.Why), e.Token)
	case lockspace.SetPeer:
		return d.kernel.SetPeer(e.Incarnation)
	case lockspace.RemovePeer:
		return d.kernel.RemovePeer(e.Incarnation)
	case lockspace.RenewPeer:
		return d.kernel.RenewPeer(e.Incarnation, e.Lockspace, e.Epoch)
	}
	return nil
}

// refusal is the answer to an effect that was refused.
func refusal(e lockspace.Effect, err error) lockspace.Input {
	switch e := e.(type) {
	case lockspace.Stop:
		return lockspace.StopDone{Lockspace: e.Lockspace, Token: e.Token, Err: text(err)}
	case lockspace.Start:
		return lockspace.StartDone{Lockspace: e.Lockspace, Token: e.Token, Err: text(err)}
	case lockspace.AnswerJoin:
		return lockspace.JoinDone{Lockspace: e.Lockspace, Token: e.Token, Err: text(err)}
	case lockspace.FinishLeave:
		return endDone(e.Lockspace, e.Token, err)
	case lockspace.FailJoin:
		return endDone(e.Lockspace, e.Token, err)
	case lockspace.SetPeer:
		return lockspace.PeerFailed(e)
	case lockspace.RemovePeer:
		return lockspace.PeerRemoved(e)
	case lockspace.RenewPeer:
		return lockspace.PeerRenewed{Incarnation: e.Incarnation, Epoch: e.Epoch}
	}
	return nil
}

func startJob(e lockspace.Start) dlm.StartJob {
	j := dlm.StartJob{Lockspace: e.Lockspace, Token: e.Token, ID: e.ID, Join: e.Join, Hold: true}
	for _, m := range e.Members {
		j.Members = append(j.Members, dlm.Member{Incarnation: m.Incarnation, Epoch: m.Epoch})
	}
	for _, g := range e.Gone {
		j.Gone = append(j.Gone, dlm.Gone{Incarnation: g.Incarnation, Failed: g.Failed, ReleaseRecover: g.Recover})
	}
	return j
}

// troubleText says what a peer does not answer to the kernel's DLM.
func (d *Daemon) troubleText(t dlm.Trouble) string {
	return fmt.Sprintf("DLM port to %s: %s", d.cfgNow().Name(t.Node), t.Text)
}

// pathLook is how often the DLM's connections are looked at. It costs a millisecond of
// a processor; with many thousand connections more, and then it is done less often.
const (
	pathLook  = 2 * time.Second
	pathShare = 200         // a look takes one in so many parts of the time
	pathRare  = time.Minute // it is no reason to look less often: this node stood still perhaps
)

// watchPaths tells the machine which peers leave the kernel's data unanswered.
func (d *Daemon) watchPaths(ctx context.Context) error {
	var last []membership.NodeID
	again(ctx, func() time.Duration {
		begin := time.Now()
		now := unanswered(d.kernel.Troubles())
		if len(now) > 0 || len(last) > 0 {
			d.post(node.Unanswered{Peers: now})
		}
		last = now
		return min(max(pathLook, pathShare*time.Since(begin)), pathRare)
	})
	return nil
}

// again calls f after pathLook, and then each time after what f says, until ctx ends.
func again(ctx context.Context, f func() time.Duration) {
	timer := time.NewTimer(pathLook)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(f())
		}
	}
}

// unanswered are the peers of troubles that are no matter of milliseconds.
func unanswered(all []dlm.Trouble) (out []membership.NodeID) {
	for _, t := range all {
		if t.Again > 0 && !slices.Contains(out, t.Node) {
			out = append(out, t.Node)
		}
	}
	slices.Sort(out)
	return out
}

// blame adds what the network does not answer to what waits for the kernels'
// recovery for a while already: a healthy one is connected in less. Where nothing
// waits it is a warning: locks that need that path are not granted.
func (d *Daemon) blame(s *control.Status) {
	late := lateRecoveries(s)
	for _, t := range d.kernel.Troubles() {
		for _, w := range late {
			w.Reason += "; " + d.troubleText(t)
		}
		member := slices.ContainsFunc(s.Nodes, func(n control.NodeStatus) bool { return n.ID == t.Node && n.State == "member" })
		if len(late) == 0 && member && t.Again > 0 {
			warn(s, []string{d.troubleText(t)})
		}
	}
}

func lateRecoveries(s *control.Status) (late []*control.Wait) {
	for i := range s.Lockspaces {
		for k := range s.Lockspaces[i].Waits {
			if w := &s.Lockspaces[i].Waits[k]; w.For == "recovery" && w.Since >= blameAfter {
				late = append(late, w)
			}
		}
	}
	return late
}

const blameAfter = time.Second

// kernelSays hands something from the kernel to the loop.
func (d *Daemon) kernelSays(in lockspace.Input) { d.post(node.Kernel{In: in}) }

// kernelEvent turns what the driver reports into inputs of the machine.
func (d *Daemon) kernelEvent(e dlm.Event) {
	switch e := e.(type) {
	case dlm.Online:
		d.kernelSays(lockspace.Online{Lockspace: e.Lockspace})
	case dlm.Offline:
		d.kernelSays(lockspace.Offline{Lockspace: e.Lockspace, Recover: e.ReleaseRecover})
	case dlm.StopDone:
		d.kernelSays(lockspace.StopDone{Lockspace: e.Lockspace, Token: e.Token, Err: text(e.Err)})
	case dlm.StartDone:
		d.kernelSays(lockspace.StartDone{Lockspace: e.Lockspace, Token: e.Token, Err: text(e.Err)})
	case dlm.Noticed:
		d.kernelSays(lockspace.Noticed(e))
	case dlm.Recovered:
		d.kernelSays(lockspace.RecoverDone{Lockspace: e.Lockspace, Token: e.Token})
	case dlm.JoinAnswered:
		d.kernelSays(lockspace.JoinDone{Lockspace: e.Lockspace, Token: e.Token, Err: text(e.Err)})
	case dlm.LeaveDone:
		d.kernelSays(endDone(e.Lockspace, e.Token, e.Err))
	case dlm.JoinFailed:
		if e.Token == 0 {
			d.note(membership.KindJoinFailed, e.Lockspace, text(e.Err))
			return
		}
		d.kernelSays(endDone(e.Lockspace, e.Token, e.Err))
	case dlm.PeerSet:
		if e.Err != nil {
			d.note(membership.KindDegraded, "", fmt.Sprintf("comms entry of %v: %v", e.Incarnation, e.Err))
			d.kernelSays(lockspace.PeerFailed{Incarnation: e.Incarnation})
		}
	case dlm.PeerRemoved:
		if e.Err != nil {
			d.note(membership.KindDegraded, "", fmt.Sprintf("removing the comms entry of %v: %v", e.Incarnation, e.Err))
		}
		d.kernelSays(lockspace.PeerRemoved{Incarnation: e.Incarnation})
	case dlm.PeerRenewed:
		for _, t := range e.Troubles {
			d.note(membership.KindJoinFailed, e.Lockspace, d.troubleText(t))
		}
		if e.Err != nil {
			d.note(membership.KindDegraded, e.Lockspace, fmt.Sprintf("comms entry of %v: %v", e.Incarnation, e.Err))
			d.kernelSays(lockspace.PeerFailed{Incarnation: e.Incarnation}) // there is none now
		}
		d.kernelSays(lockspace.PeerRenewed{Incarnation: e.Incarnation, Epoch: e.Epoch})
	default:
		d.fileSystem(e)
	}
}

// endDone: after an error the kernel still waits for its answer, unless the driver
// knows of nobody who waits.
func endDone(ls string, token uint64, err error) lockspace.EndDone {
	return lockspace.EndDone{Lockspace: ls, Token: token, Err: text(err), Again: err != nil && !errors.Is(err, dlm.ErrState)}
}

// fileSystem follows what GFS2 says of itself, for the event log.
func (d *Daemon) fileSystem(e dlm.Event) {
	switch e := e.(type) {
	case dlm.Journal:
		how := "replayed"
		if !e.OK {
			how = "not replayed here: another node does it, or it failed"
		}
		d.note(membership.KindJournal, e.Table, fmt.Sprintf("journal %d %s", e.JID, how))
	case dlm.FirstMount:
		d.note(membership.KindJournal, e.Table, "all journals checked by the first mounter")
	case dlm.Mounted:
		d.note(membership.KindMount, e.Table, fmt.Sprintf("mounted with journal %d", e.JID))
	case dlm.Unmounted:
		d.note(membership.KindMount, e.Table, "unmounted")
	case dlm.Withdrawn:
		d.note(membership.KindDegraded, e.Table, "gfs2 withdrew: unmount the file system here and look at the kernel's log")
	case dlm.Overrun:
		d.note(membership.KindDegraded, "", fmt.Sprintf("uevents were lost; lockspaces that may be leaving: %v", e.Doubtful))
	case dlm.Failed:
		d.fail(fmt.Errorf("the kernel's uevents cannot be heard any more: %w", e.Err))
	}
}

func (d *Daemon) note(k membership.Kind, subject, words string) {
	d.post(node.Seen{Event: membership.Event{Kind: k, Lockspace: subject, Text: words}})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// quiesce closes the way for new lockspaces; the answer is Quiesced.
func (d *Daemon) quiesce() {
	d.async(func() {
		var in node.Quiesced
		if err := d.kernel.Quiesce(); err != nil {
			in.Held = []string{err.Error()}
		}
		d.post(in)
	})
}

// joinErrno is what a mount or program sees when its join is refused.
func joinErrno(why string) syscall.Errno {
	switch {
	case strings.HasSuffix(why, lockspace.AnotherName):
		return syscall.EEXIST
	case why == node.Drained:
		return syscall.ECANCELED
	}
	return syscall.ETIMEDOUT
}
