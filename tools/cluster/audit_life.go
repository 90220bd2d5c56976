package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// side is one node's side of one lockspace, as its log tells it.
type side struct {
	running bool
	change  uint64 // of the last start
	asked   bool   // to join; not answered
	leaving bool   // not answered
}

// life goes through one node's log in its own order.
func (a *audit) life(l life) {
	sides, seq, torn := map[string]*side{}, uint64(0), false
	for _, e := range l.events {
		if seq != 0 && e.Seq > seq+1 {
			sides, torn = map[string]*side{}, true // events are missing: nothing is known
		}
		seq = e.Seq
		if e.Lockspace == "" {
			continue
		}
		s := sides[e.Lockspace]
		if s == nil {
			s = &side{}
			// A lockspace that is met in the middle may have any answer pending.
			s.asked, s.leaving = torn, torn
			sides[e.Lockspace] = s
		}
		a.kernel(l.node, s, e)
		a.answers(l.node, s, e)
	}
}

// kernel: I2 stop before start, and no start that was not opened with the node in it.
func (a *audit) kernel(node int, s *side, e Event) {
	c := change{e.Lockspace, e.Change}
	switch e.Kind {
	case membership.KindOpened:
		if s.running && slices.Contains(a.stops[c], node) {
			a.broken("I2 stop-before-start", "%v opened while node %d ran change %d and had not stopped", c, node, s.change)
			s.running = false // told once
		}
	case membership.KindStarted:
		if s.running {
			a.broken("I2 stop-before-start", "node %d started %v and had not stopped for it since change %d", node, c, s.change)
		}
		if now, ok := a.opened[c]; !ok || !slices.Contains(now, node) {
			a.broken("I5 same-members", "node %d started %v, which opened with %v (opened: %v)", node, c, now, ok)
		}
		s.running, s.change = true, e.Change
	case membership.KindStopped, membership.KindLeft:
		s.running = false
	}
}

// answers: I6, each join and leave of the kernel is answered exactly once. What
// is agreed has an index, and is no answer to this node's kernel.
func (a *audit) answers(node int, s *side, e Event) {
	if e.Index != 0 {
		return
	}
	twice := func(what string) {
		a.broken("I6 one-answer", "node %d: %s of %s, which nobody had asked for or which was answered before", node, what, e.Lockspace)
	}
	switch e.Kind {
	case membership.KindJoin:
		if s.asked {
			a.broken("I6 one-answer", "node %d: a second join of %s before the first was answered", node, e.Lockspace)
		}
		s.asked = true
	case membership.KindLeave:
		s.leaving, s.asked = true, false
	case membership.KindJoined:
		if !s.asked {
			twice("an answered join")
		}
		s.asked = false
	case membership.KindJoinFailed:
		s.asked = false
	case membership.KindLeft:
		if !s.leaving {
			twice("an answered leave")
		}
		s.leaving = false
	}
}

// run is a time in which a node's kernel had a lockspace running.
type run struct {
	node     int
	c        change
	from, to time.Time // to is zero while it goes on
	unknown  bool      // events are missing: it may have ended
}

// runs are all of them. A death ends what ran.
func (a *audit) runs() []run {
	var out []run
	for _, l := range a.lives {
		open, seq := map[string]int{}, uint64(0)
		for _, e := range l.events {
			if seq != 0 && e.Seq > seq+1 {
				for _, k := range open {
					out[k].unknown = true
				}
			}
			seq = e.Seq
			k, going := open[e.Lockspace]
			switch e.Kind {
			case membership.KindStarted:
				if going {
					out[k].to = e.At
				}
				open[e.Lockspace] = len(out)
				out = append(out, run{node: l.node, c: change{e.Lockspace, e.Change}, from: e.At})
			case membership.KindStopped, membership.KindLeft:
				if going {
					out[k].to = e.At
					delete(open, e.Lockspace)
				}
			}
		}
	}
	for k := range out {
		for _, d := range a.Deaths[out[k].node] {
			if d.Frozen.After(out[k].from) && (out[k].to.IsZero() || d.Frozen.Before(out[k].to)) {
				out[k].to = d.Frozen
			}
		}
	}
	return out
}

// alone is I1 by the clock: when a node starts a change, no node outside of it
// still runs an earlier one.
func (a *audit) alone() {
	runs := a.runs()
	for _, b := range runs {
		for _, r := range runs {
			if r.node == b.node || r.c.lockspace != b.c.lockspace || r.c.number >= b.c.number || r.from.After(b.from) {
				continue
			}
			over := !r.to.IsZero() && r.to.Before(b.from.Add(tellSlack))
			if !over && !r.unknown && !slices.Contains(a.opened[b.c], r.node) {
				a.broken("I1 one-primary", "node %d started %v while node %d, which is not in it, ran change %d (from %s to %s)",
					b.node, b.c, r.node, r.c.number, clock(r.from), clock(r.to))
			}
		}
	}
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "now"
	}
	return t.Format("15:04:05.000")
}

// dead: I3 by what the lab did. A life that is said to be gone had ended
// before, and had written nothing since.
func (a *audit) dead() {
	done := map[string]bool{}
	for _, e := range a.order {
		victim, how, ok := strings.Cut(e.Text, " is gone: ")
		if e.Kind != membership.KindFenced || !ok || strings.HasPrefix(how, "manual") || done[victim] {
			continue
		}
		done[victim] = true
		at := a.firstTold(e)
		boot := victim[strings.IndexByte(victim, '/')+1 : max(strings.LastIndexByte(victim, '#'), strings.IndexByte(victim, '/')+1)]
		why := "it never died"
		for _, d := range a.Deaths[int(e.Subject)] {
			if !strings.HasPrefix(d.BootID, boot) {
				continue
			}
			if why = ""; d.Frozen.After(at) {
				why = fmt.Sprintf("it died at %s", clock(d.Frozen))
			} else if d.Uncounted != nil {
				why = fmt.Sprintf("what it wrote could not be counted: %v", d.Uncounted)
			} else if !d.Gone.IsZero() && d.AtKill.More(d.AtFreeze) {
				why = fmt.Sprintf("it wrote afterwards: %+v, then %+v", d.AtFreeze, d.AtKill)
			}
		}
		if why != "" {
			a.broken("I3 fence-before-recover", "at %s it was agreed that %s (%s), and %s", clock(at), victim, how, why)
		}
	}
}

// shots: a fence device never ends a life that holds lockspaces and was not
// evicted. A late shot would meet the next one; until that is admitted it may.
func (a *audit) shots() {
	evicted := map[string]bool{}
	for _, e := range a.order {
		if i, _, ok := strings.Cut(e.Text, "#"); ok && e.Kind == membership.KindEvicted {
			evicted[i] = true
		}
	}
	runs := a.runs()
	for _, p := range a.Power {
		if p.Action != fencedev.Off || p.Err != "" || p.Done.IsZero() {
			continue
		}
		for _, d := range a.Deaths[p.Plug] {
			if d.BootID == "" || d.Asked.Before(p.Asked) || d.Asked.After(p.Done) {
				continue
			}
			held := slices.ContainsFunc(runs, func(r run) bool { return r.node == p.Plug && r.to.Equal(d.Frozen) })
			if i := fmt.Sprintf("%d/%.8s", p.Plug, d.BootID); held && !evicted[i] {
				a.broken("stray shot", "a fence device ended %s at %s, which nobody had evicted", i, clock(d.Asked))
			}
		}
	}
}

// firstTold is when the first node told of an entry.
func (a *audit) firstTold(of Event) time.Time {
	at := of.At
	for _, e := range a.Events {
		if e.Index == of.Index && e.Kind == of.Kind && e.At.Before(at) {
			at = e.At
		}
	}
	return at
}

// standstill: a node that judges itself without quorum stops its lockspaces at
// once, so that it takes no new lock.
func (a *audit) standstill() {
	runs := a.runs()
	for _, l := range a.lives {
		for k, e := range l.events {
			if e.Kind != membership.KindQuorum || !strings.Contains(e.Text, "missing") {
				continue
			}
			end := e.At.Add(stopBound)
			back := slices.ContainsFunc(l.events[k+1:], func(o Event) bool { return o.Kind == membership.KindQuorum && o.At.Before(end) })
			if back || a.froze(l.node, e.At.Add(-stopBound), end) {
				continue
			}
			for _, r := range runs {
				if r.node == l.node && !r.unknown && r.from.Before(e.At) && (r.to.IsZero() || r.to.After(end)) && a.told(end) {
					a.broken("I4 quorum-before-start", "node %d lost its quorum at %s (%s) and ran %v for more than %v", l.node, clock(e.At), e.Text, r.c, stopBound)
				}
			}
		}
	}
}

// froze says whether a node stood still at some time between two.
func (a *audit) froze(node int, from, to time.Time) bool {
	return slices.ContainsFunc(a.Frozen, func(p Pause) bool { return p.Node == node && p.From.Before(to) && p.To.After(from) })
}

// told says whether the record goes on for long enough behind a time.
func (a *audit) told(t time.Time) bool {
	return len(a.Events) > 0 && a.Events[len(a.Events)-1].At.After(t.Add(tellSlack))
}
