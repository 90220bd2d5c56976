package lockspace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

// A node that is drained joins nothing new, and what it has goes on.
func TestADrainedNodeJoinsNothingNew(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2, 3)
	y.settled("gfs", 1, 2, 3)
	y.nodes[2].self.Draining = "it is drained"
	mark := len(y.log)
	y.mount("lvm", 1, 2, 3)
	y.run()
	if s := y.told(mark); !strings.Contains(s, "3 refused lvm") {
		t.Fatal(s)
	}
	y.members("lvm", 1, 2)
	y.settled("gfs", 1, 2, 3)
	y.nodes[2].self.Draining = ""
	y.mount("lvm", 3)
	y.run()
	y.members("lvm", 1, 2, 3)
}

// A join that was on its way when the drain began is taken back.
func TestAJoinThatMeetsADrainIsTakenBack(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.nodes[2].self.Draining = "it is drained"
	y.nodes[2].local.Step(y.now, Online{"gfs"})
	y.run()
	y.say(3, Message{Join: &Join{Lockspace: "gfs"}})
	y.run()
	y.members("gfs", 1, 2)
	y.settled("gfs", 1, 2)
}

// One that was agreed before goes on: the others have counted on it.
func TestAnAgreedJoinGoesOnInADrain(t *testing.T) {
	y := newStory(t, 3)
	y.mount("gfs", 1, 2)
	y.nodes[2].daemon = false
	y.nodes[2].local.Step(y.now, Online{"gfs"})
	y.say(3, Message{Join: &Join{Lockspace: "gfs"}})
	y.nodes[2].self.Draining = "it is drained"
	y.nodes[2].daemon = true
	y.run()
	y.members("gfs", 1, 2, 3)
	y.settled("gfs", 1, 2, 3)
}

// lateJoin has joins ordered of nodes whose kernels know nothing of them, beside members
// whose kernels wait for them as real ones do.
func (y *story) lateJoin(ls string, joiners ...int) {
	y.t.Helper()
	for _, i := range joiners {
		y.nodes[i-1].daemon = false
		y.mute = append(y.mute, membership.NodeID(i))
	}
	for _, i := range joiners {
		y.say(i, Message{Join: &Join{Lockspace: ls}})
	}
	y.run()
	for _, i := range joiners {
		if y.set.Space(ls).live(y.nodes[i-1].self.Incarnation) == nil {
			y.t.Fatalf("nothing opened with %d: %+v", i, y.set.Space(ls))
		}
		y.nodes[i-1].daemon = true
	}
}

// lastly has all do what is to be done, and looks who has the lockspace then.
func (y *story) lastly(ls string, want ...membership.NodeID) {
	y.t.Helper()
	y.run()
	y.members(ls, want...)
	if sp := y.set.Space(ls); len(want) == 0 && sp != nil {
		y.t.Fatalf("nobody has it: %+v", sp)
	}
	for _, id := range want {
		y.settled(ls, int(id))
	}
}

// A join is on its way when the drain of its node is agreed, and is ordered when the kernel
// there was refused already: nobody waits for a kernel that has nothing of it.
func TestADrainThatMeetsAMount(t *testing.T) {
	for name, others := range map[string][]membership.NodeID{"alone": nil, "with another": {1}, "with two": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			y := newStory(t, 3)
			for _, id := range others {
				y.mount("lvm", int(id))
			}
			y.run()
			y.nodes[2].self.Draining = "it is drained"
			mark := len(y.log)
			y.mount("lvm", 3)
			if s := y.told(mark); s != "3 refused lvm" {
				t.Fatal(s)
			}
			y.lateJoin("lvm", 3)
			y.lastly("lvm", others...)
			for _, id := range others { // each kernel may have said something to the other
				y.order(mark, fmt.Sprintf("%d start lvm %v", id, append(others[:len(others):len(others)], 3)), fmt.Sprintf("%d comms =3", id))
				y.order(mark, fmt.Sprintf("3 comms =%d", id), fmt.Sprintf("%d comms =3", id))
			}
			y.nodes[2].self.Draining, y.mute = "", nil
			y.mount("lvm", 3)
			y.members("lvm", append(others, 3)...)
			y.settled("lvm", 3)
		})
	}
}

// Two at once, and a member that leaves or dies meanwhile.
func TestJoinsThatAreOrderedLateHoldUpNobody(t *testing.T) {
	for _, during := range []string{"nothing", "a leave", "a death"} {
		t.Run(during, func(t *testing.T) {
			y := newStory(t, 4)
			y.mount("lvm", 1)
			y.mount("lvm", 2)
			y.lateJoin("lvm", 3, 4)
			switch during {
			case "nothing":
				y.lastly("lvm", 1, 2)
			case "a leave":
				y.unmount("lvm", 2)
				y.lastly("lvm", 1)
			case "a death":
				lost := y.lose(2)
				y.run()
				y.proved(lost)
				y.lastly("lvm", 1)
			}
		})
	}
}

// A program asks again while the join of one before it is being taken back. What was said
// of that may be ordered when the program has the lockspace in use: it is of another join.
func TestAJoinThatIsTakenBackIsNobodyElses(t *testing.T) {
	for _, opens := range []bool{false, true} {
		y := newStory(t, 3)
		y.mount("gfs", 1, 2)
		m := y.nodes[2]
		y.nodes[0].frozen = !opens
		if opens {
			y.lateJoin("gfs", 3)
		} else {
			y.say(3, Message{Join: &Join{Lockspace: "gfs"}})
		}
		_, wishes := m.local.Reconcile(y.now, y.set, m.self) // under way, for long
		if len(wishes) != 1 {
			t.Fatalf("%+v", wishes)
		}
		m.local.Step(y.now, Online{"gfs"})
		y.nodes[0].frozen, y.mute = false, nil
		mark := len(y.log)
		y.run()
		y.members("gfs", 1, 2, 3)
		y.settled("gfs", 1, 2, 3)
		if s := y.told(mark); strings.Contains(s, "refused") {
			t.Fatal(s)
		}
		mark = len(y.log)
		y.say(3, wishes[0].Message)
		y.run()
		y.members("gfs", 1, 2, 3)
		if s := y.told(mark); s != "" {
			t.Fatal(s)
		}
	}
}

// A node that is no member any more takes nothing back, and a mount there is told of the
// refusal that was about to be taken back.
func TestWhoIsNoMemberTakesNothingBack(t *testing.T) {
	for _, member := range []bool{false, true} {
		y := newStory(t, 3)
		y.mount("gfs", 1, 2)
		m := y.nodes[2]
		y.lateJoin("gfs", 3)
		y.refuse("gfs", 3)
		m.daemon = false
		step := func() (wishes []Wish) {
			effs, wishes := m.local.Reconcile(y.now, y.set, m.self)
			m.queue = append(m.queue, effs...)
			y.answer(m)
			return wishes
		}
		for range 10 {
			if y.set.Space("gfs").live(m.self.Incarnation) == nil {
				break
			}
			for _, w := range step() {
				y.say(3, w.Message)
			}
			y.run()
		}
		for range 10 {
			step() // what it says is under way, for long
		}
		if y.set.Space("gfs").refusal(m.self.Incarnation) == nil || m.local.taken["gfs"] == 0 {
			t.Fatalf("nothing is taken back: %+v", y.set.Space("gfs"))
		}
		m.local.Step(y.now, Online{"gfs"})
		m.self.Member = member
		if wishes := step(); len(wishes) != btoi(member) {
			t.Errorf("member: %v: it says %+v", member, wishes)
		}
		if _, _, waits := m.local.Phase("gfs"); waits != member {
			t.Errorf("member: %v: its mount waits: %v", member, waits)
		}
	}
}

// What takes a join back before a change opens with it is ordered after the opening.
func TestAJoinThatIsTakenBackAsItOpens(t *testing.T) {
	for name, others := range map[string][]membership.NodeID{"alone": nil, "with two": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			y := newStory(t, 3)
			for _, id := range others {
				y.mount("gfs", int(id))
			}
			y.lateJoin("gfs", 3)
			y.say(3, Message{Leave: &Leave{Lockspace: "gfs", Epoch: y.set.Space("gfs").live(y.nodes[2].self.Incarnation).Epoch}})
			y.lastly("gfs", others...)
		})
	}
}

// A join that was ordered after the drain is refused, though the node hears of both at once.
func TestAJoinThatIsOrderedAfterTheDrain(t *testing.T) {
	for _, before := range []bool{true, false} {
		y := newStory(t, 3)
		y.mount("gfs", 1, 2)
		m := y.nodes[2]
		m.daemon = false
		m.local.Step(y.now, Online{"gfs"})
		m.self.Draining, m.self.DrainedAt = "it is drained", y.index
		if before {
			m.self.DrainedAt += 100
		}
		y.say(3, Message{Join: &Join{Lockspace: "gfs"}})
		m.daemon = true
		mark := len(y.log)
		y.run()
		if s := y.told(mark); strings.Contains(s, "3 refused gfs") == before {
			t.Fatalf("ordered before: %v: %s", before, s)
		}
		y.settled("gfs", 1, 2)
	}
}

// A mount whose refusal could not be written is refused again, and goes on when the drain
// is taken back meanwhile.
func TestARefusalThatFailsIsTriedAgain(t *testing.T) {
	for _, drained := range []bool{true, false} {
		y := newStory(t, 2)
		m := y.nodes[1]
		m.self.Draining, m.ill = "it is drained", true
		mark := len(y.log)
		y.mount("lvm", 2)
		if s := y.told(mark); strings.Count(s, "2 refused lvm") != 1 {
			t.Fatalf("at once: %s", s)
		}
		m.ill = false
		if !drained {
			m.self.Draining = ""
		}
		y.now = y.now.Add(retryAfter)
		y.run()
		if _, _, ok := m.local.Phase("lvm"); ok == drained || strings.Count(y.told(mark), "2 refused lvm") != 1+btoi(drained) {
			t.Fatalf("drained: %v: %s", drained, y.told(mark))
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
