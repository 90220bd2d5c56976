package daemon

import (
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/cmd/quorated/node"
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
		{lockspace.FinishLeave{Lockspace: "gfs", Token: 4}, lockspace.EndDone{Lockspace: "gfs", Token: 4, Err: why}},
		{lockspace.FailJoin{Lockspace: "gfs", Token: 5}, lockspace.EndDone{Lockspace: "gfs", Token: 5, Err: why}},
		{lockspace.SetPeer{Incarnation: peer}, nil},
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
			var want node.Input
			if c.want != nil {
				want = node.Kernel{In: c.want}
			}
			if got != want {
				t.Errorf("%T: answered %+v, want %+v", c.do, got, want)
			}
			d.work.Wait()
		})
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
