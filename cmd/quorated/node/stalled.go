package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// A daemon that stands still while its kernel answers is evicted by the others. Where two
// count, nobody can be elected or evicted without it: the other one goes on by the same
// takeover as without a silent node, and fences it first. As soon as it goes on, or this
// node cannot tell because it stood still itself, that is given up.

// standsAlone: of all whom this node hears no daemon goes on but its own, so that nothing
// can be agreed.
func (n *Node) standsAlone() bool {
	return len(n.judge.Stalled) > 0 && len(membership.Without(n.live.Linked(), n.judge.Stalled...)) == 1
}

// followStall notes that the other one, which stood still, is silent or goes on behind a
// cut: from then on it may be shooting as well, and has its turn. One that was silent and
// is heard to stand still keeps it.
func (n *Node) followStall(t *takeover) {
	if t.stalled && !n.standsAlone() {
		t.stalled, t.counted = false, n.now
	}
}

// stallText says who stands still and for how long, where that is why it goes on alone.
func (n *Node) stallText(t *takeover) (text string) {
	if !t.stalled {
		return ""
	}
	for _, s := range n.samples {
		if slices.Contains(n.judge.Stalled, s.Peer) {
			text = fmt.Sprintf("; the daemon of %s has stood still for %v, and its kernel answers", n.cfg.Name(s.Peer), s.DaemonAge.Round(time.Second))
		}
	}
	return text
}

// standstill is from when on it is said that a daemon stands still: a busy one may for less.
const standstill = time.Second

// stillFor is how long the daemon of a node has stood still by the newest answer of its
// kernel, and 0 when that does not answer.
func (n *Node) stillFor(id membership.NodeID) (d time.Duration) {
	if !slices.Contains(n.live.Hears(), id) {
		return 0
	}
	var heard membership.Mono
	for _, s := range n.samples {
		if s.Peer == id && s.Heard > heard {
			heard, d = s.Heard, s.DaemonAge
		}
	}
	return d
}

// stillText says that what is waited for does not come since the node's daemon stands
// still, and how long that may last.
func (n *Node) stillText(w *control.Wait, id membership.NodeID) {
	d := n.stillFor(id)
	if d < standstill {
		return
	}
	w.Reason += fmt.Sprintf(": the daemon of %s has stood still for %s, and its kernel answers", n.cfg.Name(id), membership.Short(d.Round(100*time.Millisecond)))
	if m, ok := n.st.View.Find(id); ok && !n.st.Excused(m) && !n.rivalled() {
		w.Reason += fmt.Sprintf("; it is evicted after %s of that (recovery_stall)", membership.Short(n.cfg.Timing.RecoveryStall))
		w.Deadline = min(w.Deadline, max(n.cfg.Timing.RecoveryStall-d, 0))
	}
}
