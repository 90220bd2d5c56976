package daemon

import (
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// refusing is a driver that takes no call.
type refusing struct{ noKernel }

func (refusing) SetPeer(membership.Incarnation) error    { return errNoKernel }
func (refusing) RemovePeer(membership.Incarnation) error { return errNoKernel }

// What the driver refuses is answered, and the loop, which asks, does not wait for
// the place in its queue.
func TestARefusedCallIsAnswered(t *testing.T) {
	peer, why := membership.Incarnation{Node: 2, Boot: "b"}, errNoKernel.Error()
	for _, c := range []struct {
		do   lockspace.Effect
		want lockspace.Input
	}{
		{lockspace.Stop{Lockspace: "gfs", Token: 1}, lockspace.StopDone{Lockspace: "gfs", Token: 1, Err: why}},
		{lockspace.Start{Lockspace: "gfs", Token: 2}, lockspace.StartDone{Lockspace: "gfs", Token: 2, Err: why}},
		{lockspace.AnswerJoin{Lockspace: "gfs", Token: 3}, lockspace.JoinDone{Lockspace: "gfs", Token: 3, Err: why}},
		{lockspace.FinishLeave{Lockspace: "gfs", Token: 4}, lockspace.EndDone{Lockspace: "gfs", Token: 4, Err: why, Again: true}},
		{lockspace.FailJoin{Lockspace: "gfs", Token: 5}, lockspace.EndDone{Lockspace: "gfs", Token: 5, Err: why, Again: true}},
		{lockspace.SetPeer{Incarnation: peer}, lockspace.PeerFailed{Incarnation: peer}},
		{lockspace.RemovePeer{Incarnation: peer}, lockspace.PeerRemoved{Incarnation: peer}},
		{lockspace.RenewPeer{Incarnation: peer, Lockspace: "gfs", Epoch: 6}, lockspace.PeerRenewed{Incarnation: peer, Epoch: 6}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &Daemon{kernel: refusing{}, log: slog.New(slog.DiscardHandler), inputs: make(chan node.Input), done: make(chan struct{})}
			d.drive(c.do)
			synctest.Wait()
			var got node.Input
			select {
			case got = <-d.inputs:
			default:
			}
			if want := (node.Kernel{In: c.want}); got != want {
				t.Errorf("%T: answered %+v, want %+v", c.do, got, want)
			}
			d.work.Wait()
		})
	}
}

// A comms entry that was removed after a refused join, and not made again, is missing.
func TestACommsEntryThatWasNotMadeAnewIsMissing(t *testing.T) {
	peer := membership.Incarnation{Node: 2, Boot: "b"}
	d := &Daemon{inputs: make(chan node.Input, 8), done: make(chan struct{})}
	d.kernelEvent(dlm.PeerRenewed{Incarnation: peer, Lockspace: "gfs", Epoch: 7, Err: errors.New("input/output error")})
	close(d.inputs)
	var got []lockspace.Input
	for in := range d.inputs {
		if k, ok := in.(node.Kernel); ok {
			got = append(got, k.In)
		}
	}
	if len(got) != 2 || got[0] != (lockspace.PeerFailed{Incarnation: peer}) || got[1] != (lockspace.PeerRenewed{Incarnation: peer, Epoch: 7}) {
		t.Errorf("%+v", got)
	}
}

// A mount whose lockspace has another one's id gets another error than one that waited
// in vain.
func TestJoinErrno(t *testing.T) {
	set, me := lockspace.New(), membership.Incarnation{Node: 1, Boot: "a"}
	set.View(1, membership.View{Number: 1, Quorate: true, Members: []membership.Incarnation{me}})
	for _, name := range []string{"a", "b"} {
		m := lockspace.Message{Join: &lockspace.Join{Lockspace: name}}
		if err := set.Message(2, me, m.Encode()); err != nil {
			t.Fatal(err)
		}
		set.Space("a").ID = lockspace.ID("b")
	}
	refused := set.Space("b").Refused
	if len(refused) != 1 || joinErrno(refused[0].Why) != syscall.EEXIST {
		t.Errorf("%+v", refused)
	}
	if e := joinErrno("its kernel did not finish joining within 10s"); e != syscall.ETIMEDOUT {
		t.Error(e)
	}
}
