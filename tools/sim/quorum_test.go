package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// told is a cluster that loses one node after the other, and each time does what
// `quorate quorum` had said of that loss.
type told struct {
	w     *world
	order []membership.NodeID
	did   []string // the outcomes, in order
}

// losses forms a cluster and loses nodes in that order until nothing goes on. It returns what
// was foretold and came, or what was not.
func losses(seed uint64, rules string, votes []int, order ...membership.NodeID) (string, error) {
	s, err := ParseStory(strings.NewReader(fmt.Sprintf("nodes %d\nrules %s\n", len(order), rules)))
	if err != nil {
		return "", err
	}
	w := &world{hash: mix(seed), plan: s.plan()}
	w.opt.Seed = seed
	w.plan.votes = votes
	w.check, w.net, w.probes, w.devs = newChecker(w), newNetwork(w), newProbes(w), newDevices(w)
	t := &told{w: w, order: order}
	for i := range w.plan.nodes {
		w.hosts = append(w.hosts, newHost(w, membership.NodeID(i+1)))
	}
	for _, h := range w.hosts {
		w.after(time.Duration(h.id)*50*time.Millisecond, h.powerOn)
	}
	w.after(time.Minute, func() {
		if why := w.check.missing(); why != "" {
			w.violate("told", "it does not run: %s", why)
		}
		t.lose()
	})
	w.loop()
	if w.bad != nil {
		return strings.Join(t.did, " "), fmt.Errorf("seed %d, %q, votes %v, lost in the order %v: %v", seed, rules, votes, order, w.bad)
	}
	return strings.Join(t.did, " "), nil
}

// report is what a node says, and it must say the same as its status.
func (t *told) report(h *host) *control.QuorumReport {
	s := h.d.n.Status(h.mono(), nil)
	if q := s.Quorum; q.Quorate != s.Quorate || q.Have != s.Votes || q.Expected != s.Expected || strings.HasPrefix(q.Text, "quorate: ") != s.Quorate {
		t.w.violate("told", "node %d reports %+v beside quorate %v, %d of %d", h.id, q, s.Quorate, s.Votes, s.Expected)
	}
	return s.Quorum
}

func (t *told) alive() (out []*host) {
	for _, h := range t.w.hosts {
		if h.on && h.d != nil && h.d.n != nil {
			out = append(out, h)
		}
	}
	return out
}

// lose cuts the next node's power, and looks a minute later.
func (t *told) lose() {
	victim := t.w.host(t.order[len(t.did)])
	var said *control.QuorumLoss
	for _, h := range t.alive() {
		r := t.report(h)
		i := slices.IndexFunc(r.Nodes, func(x control.QuorumNode) bool { return x.ID == victim.id })
		if i < 0 || r.Nodes[i].IfLost == nil || said != nil && *said != *r.Nodes[i].IfLost {
			t.w.violate("told", "node %d says of the loss of node %d: %+v; another one: %+v", h.id, victim.id, r, said)
			return
		}
		said = r.Nodes[i].IfLost
	}
	victim.stayOff = true
	victim.powerCut("told")
	t.w.net.changed()
	t.w.after(time.Minute, func() { t.look(victim.id, said) })
}

func (t *told) look(victim membership.NodeID, said *control.QuorumLoss) {
	for _, h := range t.alive() {
		if r := t.report(h); r.Quorate != (said.Outcome != "stops") {
			t.w.violate("told", "of the loss of node %d it was said %q, and node %d says %s; missing %s; %s", victim, said.Text, h.id, r.Text, r.Missing, r.Takeover)
			return
		}
	}
	t.did = append(t.did, said.Outcome)
	if said.Outcome == "stops" || len(t.alive()) == 1 {
		t.w.done = true
		return
	}
	t.lose()
}

// TestTheNextLossIsAsTold: what `quorate quorum` says of the next loss is what happens.
func TestTheNextLossIsAsTold(t *testing.T) {
	order := func(ids ...membership.NodeID) []membership.NodeID { return ids }
	for _, c := range []struct {
		rules string
		votes []int
		order []membership.NodeID
		want  string
	}{
		{"", nil, order(3, 2, 1), "stays stops"},
		{"", nil, order(1, 5, 2, 3, 4), "stays stays stops"},
		{"", nil, order(1, 2), "stops"},
		{"", []int{2, 1, 1}, order(2, 3, 1), "stays stops"},
		{"", []int{2, 1, 1}, order(1, 2, 3), "stops"},
		{"", []int{2, 1}, order(2, 1), "fence"},
		{"", []int{2, 1}, order(1, 2), "stops"},
		{"", []int{1, 1, 0}, order(3, 1, 2), "stays stops"},
		{"two_node wait_for_all", nil, order(1, 2), "fence"},
		{"two_node wait_for_all", nil, order(2, 1), "fence"},
		{"tie-lowest", nil, order(4, 3, 2, 1), "stays fence fence"},
		{"tie-lowest", nil, order(1, 2, 3, 4), "stays stops"}, // 2 was the lowest before the split
		{"tie-lowest", nil, order(4, 1, 2, 3), "stays stops"},
		{"tie-highest", nil, order(1, 2), "fence"},
		{"tie-highest", nil, order(2, 1), "stops"},
		{"tie-lowest", nil, order(1, 4, 3, 2), "stays fence fence"},
		{"last_man_standing", nil, order(5, 1, 4, 2, 3), "stays stays stays fence"},
		{"last_man_standing wait_for_all tie-highest", nil, order(4, 3, 2, 1), "stays stays fence"},
	} {
		seeds := uint64(2)
		if testing.Short() || raced {
			seeds = 1
		}
		for seed := range seeds {
			if got, err := losses(seed, c.rules, c.votes, c.order...); err != nil || got != c.want {
				t.Errorf("%q, votes %v, lost in the order %v: %s, want %s (%v)", c.rules, c.votes, c.order, got, c.want, err)
			}
		}
	}
}
