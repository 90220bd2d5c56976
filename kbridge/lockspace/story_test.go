package lockspace

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

// story is a few nodes that share one Set, since every member's is the same,
// each with a Local and a kernel that answers when told to.
type story struct {
	t     *testing.T
	set   *Set
	index uint64
	now   membership.Mono
	nodes []*member
	mute  []membership.NodeID // their kernels answer no other: a start with one of them does not end
	log   []string
}

type member struct {
	self    Self
	local   *Local
	queue   []Effect // not answered yet
	frozen  bool     // the kernel answers nothing
	slow    bool     // its kernel starts and does not recover
	refuses bool     // its kernel refuses to start
	ill     bool     // its kernel makes no comms entry and ends no lockspace
	daemon  bool     // false: proposes and executes nothing
}

func newStory(t *testing.T, n int) *story {
	y := &story{t: t, set: New()}
	v := membership.View{Number: 1, Quorate: true}
	for i := 1; i <= n; i++ {
		inc := membership.Incarnation{Node: membership.NodeID(i), Boot: membership.BootID(fmt.Sprintf("boot%d", i))}
		v.Members = append(v.Members, inc)
		y.nodes = append(y.nodes, &member{self: Self{Incarnation: inc, Member: true, Quorum: true}, local: NewLocal(), daemon: true})
	}
	y.view(v)
	return y
}

func (y *story) view(v membership.View) {
	y.index++
	y.set.View(y.index, v)
}

func (y *story) logf(format string, args ...any) { y.log = append(y.log, fmt.Sprintf(format, args...)) }

// run lets everybody do what is to be done until nothing is left.
func (y *story) run() {
	y.t.Helper()
	for range 100 {
		busy := false
		for _, m := range y.nodes {
			if !m.daemon {
				continue
			}
			effs, wishes := m.local.Reconcile(y.now, y.set, m.self)
			for _, e := range effs {
				y.logf("%d %s", m.self.Incarnation.Node, line(e))
			}
			m.queue = append(m.queue, effs...)
			busy = busy || len(effs) > 0
			for _, w := range wishes {
				before, _ := y.set.Snapshot()
				y.index++
				if err := y.set.Message(y.index, m.self.Incarnation, w.Message.Encode()); err != nil {
					y.t.Fatal(err)
				}
				after, _ := y.set.Snapshot()
				busy = busy || !bytes.Equal(before, after)
			}
			busy = y.answer(m) || busy
		}
		y.now++
		if !busy {
			return
		}
	}
	y.t.Fatalf("no end:\n%s", strings.Join(y.log, "\n"))
}

func (m *member) ended(ls string, token uint64) EndDone {
	if m.ill {
		return EndDone{Lockspace: ls, Token: token, Err: "input/output error", Again: true}
	}
	return EndDone{Lockspace: ls, Token: token}
}

func (y *story) answer(m *member) bool {
	if m.frozen || len(m.queue) == 0 {
		return false
	}
	q := m.queue
	m.queue = nil
	for _, e := range q {
		switch e := e.(type) {
		case Stop:
			m.local.Step(y.now, StopDone{e.Lockspace, e.Token, ""})
		case Start:
			if m.refuses {
				m.local.Step(y.now, StartDone{e.Lockspace, e.Token, "input/output error"})
				continue
			}
			m.local.Step(y.now, StartDone{e.Lockspace, e.Token, ""})
			if !m.slow && !slices.ContainsFunc(e.Members, y.muted) {
				m.local.Step(y.now, Noticed{e.Lockspace, e.Token})
				m.local.Step(y.now, RecoverDone{e.Lockspace, e.Token})
			}
		case AnswerJoin:
			m.local.Step(y.now, JoinDone{e.Lockspace, e.Token, ""})
		case FinishLeave:
			m.local.Step(y.now, m.ended(e.Lockspace, e.Token))
		case FailJoin:
			m.local.Step(y.now, m.ended(e.Lockspace, e.Token))
		case SetPeer:
			if m.ill {
				m.local.Step(y.now, PeerFailed(e))
			}
		case RemovePeer:
			m.local.Step(y.now, PeerRemoved(e))
		case RenewPeer:
			m.local.Step(y.now, PeerRenewed{e.Incarnation, e.Epoch})
		}
	}
	return true
}

func (y *story) muted(m Member) bool { return slices.Contains(y.mute, m.Incarnation.Node) }

func line(e Effect) string {
	switch e := e.(type) {
	case Stop:
		return "stop " + e.Lockspace
	case Start:
		s := fmt.Sprintf("start %s %v", e.Lockspace, IDs(e.Members))
		for _, g := range e.Gone {
			s += fmt.Sprintf(" gone %d failed=%v", g.Incarnation.Node, g.Failed)
			if g.Recover {
				s += " recover"
			}
		}
		return s
	case AnswerJoin:
		return "joined " + e.Lockspace
	case FinishLeave:
		return "left " + e.Lockspace
	case FailJoin:
		return "refused " + e.Lockspace
	case SetPeer:
		return fmt.Sprintf("comms +%d", e.Incarnation.Node)
	case RemovePeer:
		return fmt.Sprintf("comms -%d", e.Incarnation.Node)
	case RenewPeer:
		return fmt.Sprintf("comms =%d", e.Incarnation.Node)
	}
	return fmt.Sprintf("%T", e)
}

func (y *story) mount(ls string, ids ...int) {
	for _, i := range ids {
		y.nodes[i-1].local.Step(y.now, Online{ls})
	}
	y.run()
}

func (y *story) unmount(ls string, i int) {
	y.nodes[i-1].local.Step(y.now, Offline{Lockspace: ls})
}

// withdraw: the kernel leaves by itself, after an error of the file system.
func (y *story) withdraw(ls string, i int) {
	y.nodes[i-1].local.Step(y.now, Offline{Lockspace: ls, Recover: true})
}

// lose evicts a node; its daemon does nothing any more.
func (y *story) lose(i int) membership.Incarnation {
	m := y.nodes[i-1]
	m.daemon = false
	inc := m.self.Incarnation
	v := membership.View{Number: y.set.Current.Number + 1, Quorate: true, Left: []membership.Departure{{Incarnation: inc, Reason: membership.ReasonSilent}}}
	for _, o := range y.set.Current.Members {
		if o != inc {
			v.Members = append(v.Members, o)
		}
	}
	y.view(v)
	return inc
}

// returns admits a node with a new boot: another member, the same node.
func (y *story) returns(i int) membership.Incarnation {
	m := y.nodes[i-1]
	m.self.Incarnation.Boot, m.local, m.daemon, m.queue = m.self.Incarnation.Boot+"-again", NewLocal(), true, nil
	v := y.set.Current
	v.Number, v.Left, v.Members = v.Number+1, nil, append(slices.Clone(v.Members), m.self.Incarnation)
	y.view(v)
	return m.self.Incarnation
}

// refuse has node 1 take a joiner out whose kernel did not finish.
func (y *story) refuse(ls string, joiner int) {
	y.t.Helper()
	y.index++
	m := Message{Refuse: &Refuse{Lockspace: ls, Change: y.set.Space(ls).Seq, Joiner: y.nodes[joiner-1].self.Incarnation, Why: "SYN unanswered"}}
	if err := y.set.Message(y.index, y.nodes[0].self.Incarnation, m.Encode()); err != nil {
		y.t.Fatal(err)
	}
}

func (y *story) proved(i membership.Incarnation) {
	y.index++
	y.set.Proved(y.index, i)
	y.run()
}

func (y *story) members(ls string, want ...membership.NodeID) {
	y.t.Helper()
	sp := y.set.Space(ls)
	if sp == nil && len(want) == 0 {
		return
	}
	if sp == nil || !slices.Equal(IDs(sp.Live), want) {
		y.t.Fatalf("%s is not %v: %+v\n%s", ls, want, sp, strings.Join(y.log, "\n"))
	}
}

func (y *story) phase(i int, ls string, want Phase) {
	y.t.Helper()
	if p, _, ok := y.nodes[i-1].local.Phase(ls); !ok || p != want {
		y.t.Fatalf("node %d is %v (%v), want %v\n%s", i, p, ok, want, strings.Join(y.log, "\n"))
	}
}

// order: after a mark one thing is done before another.
func (y *story) order(mark int, first, second string) {
	y.t.Helper()
	i, j := slices.Index(y.log[mark:], first), slices.Index(y.log[mark:], second)
	if i < 0 || j < i {
		y.t.Fatalf("%q (%d) before %q (%d):\n%s", first, i, second, j, strings.Join(y.log[mark:], "\n"))
	}
}

// told returns what the nodes were told since a mark.
func (y *story) told(from int) string { return strings.Join(y.log[from:], "; ") }

func (y *story) settled(ls string, ids ...int) {
	y.t.Helper()
	if sp := y.set.Space(ls); sp == nil || sp.Change != nil || len(sp.Gone) > 0 {
		y.t.Fatalf("%s is not settled: %+v", ls, sp)
	}
	for _, i := range ids {
		y.phase(i, ls, Running)
	}
}
