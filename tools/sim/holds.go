package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// promise is what an operator was told: this boot is not evicted for its silence.
type promise struct {
	boot  membership.BootID
	until time.Duration
	// after is how much had been ordered: a node that is behind applies older evictions, of
	// an earlier session, after the promise was made.
	after uint64
}

// driftless is the part of a hold that the fastest clock has not counted before.
func driftless(d time.Duration) time.Duration { return d - d/1000 }

// hold has an operator on a node announce that another stands still for a while.
// What is promised by the answer is checked from then on.
func (h *host) hold(v *host, d time.Duration) {
	h.tracef("operator: hold node %d for %v", v.id, d)
	w, boot, asked := h.w, v.boot, h.w.now
	h.ask(node.Operator{Command: "hold", Node: v.id, For: d, Who: "operator"}, func(r node.Reply) {
		if r.Err == "" && v.boot == boot && h.d.means(v) {
			w.check.promises[v.id] = promise{boot, asked + driftless(d), h.d.group.Status().Applied}
		}
	})
}

// means says whether a node's name is that of the boot that runs. One that has
// booted anew, which nobody has heard of yet, is held as the boot that was, and no
// longer when that is known to be over.
func (d *daemon) means(v *host) bool {
	s := d.n.Status(d.h.mono(), nil)
	return slices.ContainsFunc(s.Nodes, func(n control.NodeStatus) bool { return n.ID == v.id && n.Boot == v.boot })
}

// release has an operator take a hold back; the promise ends when he asks.
func (h *host) release(v *host) {
	h.tracef("operator: release node %d", v.id)
	h.w.check.waive(v)
	h.ask(node.Operator{Command: "release", Node: v.id, Who: "operator"}, func(node.Reply) {})
}

// ask gives a daemon an operator's wish whose answer matters.
func (h *host) ask(in node.Operator, answered func(node.Reply)) {
	if h.d == nil {
		return
	}
	h.d.asked++
	in.Token = h.d.asked
	h.d.answers[in.Token] = answered
	h.d.give(in)
}

func (d *daemon) answered(r node.Reply) {
	d.h.tracef("operator is answered: %s%s", r.Text, r.Err)
	if f := d.answers[r.Token]; f != nil {
		delete(d.answers, r.Token)
		f(r)
	}
}

// waive ends what was promised of a node: somebody wants it gone, or it goes by itself.
func (c *checker) waive(h *host) { delete(c.promises, h.id) }

// evicted judges an eviction by what operators were promised.
func (c *checker) evicted(h *host, e membership.Event) {
	c.maintained(h, e)
	v := c.w.host(e.Subject)
	p, ok := c.promises[v.id]
	if !ok || p.boot != v.boot || c.w.now >= p.until || e.Index <= p.after || h.w.opt.Static {
		return
	}
	if forSilence(e) && strings.Contains(e.Text, string(v.boot)) {
		c.w.violate("hold", "node %d applies that %d is evicted, %v before the end of its hold: %s", h.id, v.id, p.until-c.w.now, e.Text)
	}
	if strings.Contains(e.Text, string(v.boot)) {
		c.waive(v) // its daemon was started anew, or it went: the hold ends with the incarnation
	}
}

// forSilence says that an eviction is one that a hold or a maintenance puts off.
func forSilence(e membership.Event) bool {
	return slices.ContainsFunc([]membership.Reason{membership.ReasonSilent, membership.ReasonUnlinked, membership.ReasonStalled, membership.ReasonStuck},
		func(r membership.Reason) bool { return strings.Contains(e.Text, " "+string(r)+";") })
}
