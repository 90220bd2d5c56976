package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership/group/raft"
)

// line is the order that a node is given entries of. There is one, until an operator's
// proof was false: then each side that goes on without the other has its own from there
// on, which its generation names, and only whoever is of one side is held to agree.
// Who runs what is still judged by all (I1 to I3, I5).
func (c *checker) line(h *host) string {
	if !c.falseProof || h.d == nil {
		return ""
	}
	g, ok := h.d.group.(interface{ Generation() raft.Generation })
	if !ok || g.Generation().ID == 0 {
		return ""
	}
	return fmt.Sprintf("%x", g.Generation().ID)
}

// rejoin has an operator give up the log of a node for its rivals'.
func (h *host) rejoin() string {
	if h.d == nil || h.d.n == nil {
		return "it has no daemon"
	}
	h.ask(node.Operator{Command: "rejoin", Who: "story"}, func(r node.Reply) {
		if r.Err != "" {
			h.w.violate("story", "node %d does not give up its log: %s", h.id, r.Err)
		}
	})
	return ""
}

// stands says what a node with rivals does not do as it should; empty: nothing.
func (h *host) stands() string {
	if h.d == nil || h.d.n == nil {
		return "it has no daemon"
	}
	s := h.d.n.Status(h.mono(), nil)
	if s.Quorate {
		return "it is quorate"
	}
	rivals := 0
	for _, o := range h.w.hosts {
		if line := h.w.check.line(o); line == "" || line == h.w.check.line(h) {
			continue
		}
		if rivals++; slices.Contains(h.d.n.Members(), o.id) {
			return fmt.Sprintf("node %d is admitted", o.id)
		}
	}
	if rivals == 0 && len(h.d.group.Status().Rivals) == 0 {
		return "there are none"
	}
	for _, sp := range h.kern.spaces {
		if sp.running {
			return sp.name + " runs"
		}
	}
	if len(s.Waits) == 0 || !strings.Contains(s.Waits[0].Command, "quorate init --rejoin") && !strings.Contains(s.Waits[0].Command, "quorate fence ack") {
		return fmt.Sprintf("nothing says what to do: %+v", s.Waits)
	}
	return ""
}
