package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// turns are the times in which one of two nodes that lost each other may fence the
// other: its own, and between them those of the other, each as long. Both count from the
// moment at which they missed each other, which is not the same for both, so a part of
// each turn is nobody's.
type turns struct {
	first membership.Mono // when this node's first one begins
	each  time.Duration   // how long a turn is
	ours  time.Duration   // of it, in which an attempt may begin
	run   time.Duration   // what an attempt may take at most, by its devices
}

// turn is one of them: from when on an attempt may begin, until when, and until when it
// may run. The zero turn is for who has nobody to take turns with.
type turn struct{ from, last, until membership.Mono }

// takeoverSlack is for what two machines need between two steps.
const takeoverSlack = 500 * time.Millisecond

// leastRun is what an attempt needs that is to be of any use.
const leastRun = time.Second

// newTurns makes turns that are as long as one attempt may take, after the other one
// has missed this node as late as it can. A configured length is an operator's word that
// fencing takes no longer: an attempt then may run on for as long as its devices may
// take, and another one does not begin.
func newTurns(first membership.Mono, configured, missed, run time.Duration) turns {
	t := turns{first: first, each: missed + run + takeoverSlack, ours: run + takeoverSlack/2, run: run + takeoverSlack/2}
	if configured != 0 {
		t.each, t.ours = configured, max(configured-missed-takeoverSlack/2, min(configured/2, t.run))
	}
	return t
}

// at is the first turn of this node in which an attempt may be of use still.
func (t turns) at(now membership.Mono) turn {
	from := t.first
	if over := now.Sub(from) - (t.ours - min(leastRun, t.ours/2)); over > 0 {
		pair := 2 * t.each
		from = from.Add((over + pair - 1) / pair * pair)
	}
	return turn{from: from, last: from.Add(t.ours), until: from.Add(max(t.ours, t.run))}
}

// turns are those of a takeover: one of two nodes shoots at once and the other after as
// long as that may take. The order comes from what both have agreed.
func (n *Node) turns(t *takeover) turns {
	missed := n.cfg.Timing.DeadAfter + 2*n.cfg.Timing.Interval
	x := newTurns(t.counted, n.cfg.Quorum.Delay, missed, n.attempt())
	x.first = t.counted.Add(n.patience(t, x.each))
	return x
}

// turn is this node's, now or next.
func (n *Node) turn(t *takeover) turn {
	if n.opponent(t) == 0 {
		return turn{}
	}
	return n.turns(t).at(n.now)
}

// patience is how long a takeover waits for its first turn. Of more than two, and before
// one that is heard is fenced because it stands still, the matrix settles first (S9).
func (n *Node) patience(t *takeover, each time.Duration) time.Duration {
	switch other := n.opponent(t); {
	case other == 0, t.stalled:
		return n.cfg.Timing.LinkSettle
	case n.yields(other):
		return each
	}
	return 0
}

// opponent is the one that may be shooting at this node as well, or may be soon; 0: nobody may.
func (n *Node) opponent(t *takeover) membership.NodeID {
	if len(t.have) > 1 || len(n.st.View.Members) > 2 {
		return 0
	}
	for _, m := range n.st.View.Members {
		if m.Node != n.cfg.Self {
			return m.Node
		}
	}
	return 0
}

// yields: the other one is first, because it has more lockspaces, or the lower id.
func (n *Node) yields(to membership.NodeID) bool {
	mine, its := n.set.Held(n.cfg.Self), n.set.Held(to)
	if mine != its {
		return mine < its
	}
	return n.cfg.Self > to
}

// attempt is as long as one against either of two may take, by what both have in their
// configuration.
func (n *Node) attempt() (longest time.Duration) {
	for _, m := range n.st.View.Members {
		var sum time.Duration
		for _, dev := range n.cfg.Devices {
			if slices.Contains(dev.Nodes, m.Node) {
				sum += dev.MaxDelay() + dev.Timeout
			}
		}
		longest = max(longest, sum)
	}
	return longest
}

// turnText says that the other one may fence this node now, and that a shot waits for the
// end of that; empty: it is not so.
func (n *Node) turnText(t *takeover, s *shot) string {
	from := n.turn(t).from
	if n.opponent(t) == 0 || from <= n.now || s.next > from {
		return ""
	}
	return n.cfg.Name(n.opponent(t)) + "'s turn to fence, and after that this node's again"
}

// shotWait says what keeps the proof of a takeover that is not there yet; w is what is
// the same for all.
func (n *Node) shotWait(t *takeover, s *shot, w control.Wait) control.Wait {
	name := n.cfg.Name(s.victim.Node)
	w.Owner, w.Command = s.victim.Node, "quorate fence ack "+name+onlyWhenOff
	w.Reason = fmt.Sprintf("by %s %s goes on when %s is proved gone%s", t.rule, n.names(t.have), name, n.stallText(t))
	switch {
	case s.job.Attempt != 0:
		w.Reason += fmt.Sprintf("; this node is fencing it (attempt %d)", s.tries)
		at := n.offBy(s.victim.Node, s.began)
		if s.job.Until != 0 {
			at = min(at, s.job.Until)
		}
		w.Deadline = max(at.Sub(n.now), 0)
	case n.lease(s.victim.Node) == 0:
		w.Reason += "; no fence device is configured for it"
	case s.actor != 0 && s.over == 0:
		w.Reason += fmt.Sprintf("; %s may be fencing it still, and is to be proved gone first", n.cfg.Name(s.actor))
	case s.actor != 0:
		w.Reason += fmt.Sprintf("; %s may be fencing it still", n.cfg.Name(s.actor))
		w.Deadline = max(s.over.Sub(n.now), 0)
	default:
		if s.err != "" {
			w.Reason += fmt.Sprintf("; attempt %d to fence it failed: %s", s.tries, s.err)
		}
		if s.result == nil {
			w.Deadline = max(max(s.next, n.turn(t).from).Sub(n.now), 0)
		}
		if text := n.turnText(t, s); text != "" {
			left := membership.Short(max(w.Deadline.Round(time.Second), time.Second))
			w.Reason += fmt.Sprintf("; for %s it is %s: it is tried again then, also a device that was mended meanwhile", left, text)
			w.Command = "wait for this node's turn, in " + left + "; or, which ends it at once: " + w.Command
		}
	}
	return w
}
