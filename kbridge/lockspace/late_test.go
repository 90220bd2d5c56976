package lockspace

import (
	"strings"
	"testing"
)

// say orders an entry of a node, as if it had been under way for long.
func (y *story) say(i int, m Message) {
	y.t.Helper()
	y.index++
	if err := y.set.Message(y.index, y.nodes[i-1].self.Incarnation, m.Encode()); err != nil {
		y.t.Fatal(err)
	}
}

// A leave that is ordered twice, the second time after the node has joined
// again, must not take out a node that has the lockspace mounted.
func TestALateLeaveDoesNotReachTheNextJoin(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	epoch := y.set.Space("gfs").live(y.nodes[1].self.Incarnation).Epoch
	y.unmount("gfs", 2)
	y.run()
	y.members("gfs", 1, 3)
	y.mount("gfs", 2)
	y.settled("gfs", 1, 2, 3)
	y.say(2, Message{Leave: &Leave{Lockspace: "gfs", Epoch: epoch}})
	if len(y.set.Space("gfs").Leaves) > 0 {
		t.Fatal("the late leave counts")
	}
	y.run()
	y.settled("gfs", 1, 2, 3)
}

// A join that is ordered after the node has left again is taken back by the
// node, whose kernel knows nothing of it.
func TestALateJoinIsTakenBack(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	y.unmount("gfs", 2)
	y.run()
	y.say(2, Message{Join: &Join{Lockspace: "gfs"}})
	y.run()
	y.members("gfs", 1, 3)
	y.settled("gfs", 1, 3)
}

// A joiner whose change was replaced before its kernel began is in the stop
// barrier of the next one; it has nothing to stop, and says so.
func TestAJoinerThatWasSupersededAcknowledges(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.nodes[2].daemon = false
	y.nodes[2].local.Step(y.now, Online{"gfs"})
	y.say(3, Message{Join: &Join{Lockspace: "gfs"}})
	y.run() // opens with 3, which does nothing yet
	y.members("gfs", 1, 2, 3)
	lost := y.lose(2)
	y.nodes[2].daemon = true
	mark := len(y.log)
	y.proved(lost)
	y.settled("gfs", 1, 3)
	if s := y.told(mark); strings.Contains(s, "3 stop gfs") {
		t.Fatalf("its kernel was never started: %s", s)
	}
}

// A lockspace that everybody left and that comes back does not use its change
// numbers again: a slow leaver, or a late word, may still speak of the old ones.
func TestChangeNumbersAreNotUsedAgain(t *testing.T) {
	y := newStory(t, 2)
	y.mount("gfs", 1)
	before := y.set.Space("gfs").Seq
	y.unmount("gfs", 1)
	y.run()
	if y.set.Space("gfs") != nil {
		t.Fatal("not forgotten")
	}
	y.mount("gfs", 2)
	if sp := y.set.Space("gfs"); sp.Seq <= before || sp.OpenSeq <= before {
		t.Fatalf("%d after %d", sp.Seq, before)
	}
}

// A view may lose its quorum after a change opened: who has not started waits.
func TestNoStartInAViewThatLostItsQuorum(t *testing.T) { // I4
	y := newStory(t, 3)
	y.mount("gfs", 1)
	y.nodes[1].daemon = false
	y.nodes[1].local.Step(y.now, Online{"gfs"})
	y.say(2, Message{Join: &Join{Lockspace: "gfs"}})
	y.run()
	v := y.set.Current
	v.Number, v.Quorate = v.Number+1, false
	y.view(v)
	y.nodes[1].daemon = true
	mark := len(y.log)
	y.run()
	if s := y.told(mark); strings.Contains(s, "2 start gfs") {
		t.Fatal(s)
	}
	v.Number, v.Quorate = v.Number+1, true
	y.view(v)
	y.run()
	y.settled("gfs", 1, 2)
}
