package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/quorum"
)

// List is somebody's word on who belongs to the cluster, for a group that has
// neither elections nor a memory (group/static). A machine that has one works by
// another rule than the majority's: every node on the list is needed, but for
// those that left cleanly. So nobody is ever evicted for its silence, and a
// leader that has forgotten everything can let nothing begin before it has seen
// every listed node with empty hands. A node that is taken off the list is taken
// for gone: who wrote the list answers for that.
type List struct {
	Nodes []membership.NodeID // ascending
	From  string              // whose word it is: the path of a file, or the configuration's
	Err   string              // why the newest word of it was not taken, and what to do; Nodes are the last good ones
}

// Listed is a changed word. Only the leader's counts.
type Listed struct{ List List }

func (Listed) nodeInput() {}

// listAfter is how long a leader listens, before its first list is ordered, for
// configured nodes that are not on it: one of them may be at work by another list.
const listAfter = 2 * time.Second

func (n *Node) relisted(in Listed) {
	if n.list != nil {
		l := in.List
		n.list = &l
	}
}

// needed says whether a node is needed by the list. Whoever left cleanly holds
// nothing and comes back only by an entry.
func (n *Node) needed(id membership.NodeID) bool {
	r := n.st.Node(id)
	return slices.Contains(n.st.Listed, id) && (r == nil || !r.Left)
}

// listPolicy is the rule of the list as it is agreed.
func (n *Node) listPolicy() quorum.Policy {
	p := quorum.Policy{Votes: map[membership.NodeID]int{}, All: true}
	for _, id := range n.st.Listed {
		if n.needed(id) {
			p.Votes[id] = 1
		}
	}
	return p
}

// followList makes the rule that of the agreed state, which has changed.
func (n *Node) followList() {
	if n.list == nil {
		return
	}
	n.followVotes(n.listPolicy())
	g, ok := n.group.(interface {
		Members(members []membership.NodeID) error
	})
	if !ok || len(n.st.Listed) == 0 || slices.Equal(n.st.Listed, n.grouped) || !slices.Contains(n.st.Listed, n.cfg.Self) {
		return
	}
	n.grouped = slices.Clone(n.st.Listed)
	if err := g.Members(n.grouped); err != nil {
		n.emit(membership.Event{Kind: membership.KindDegraded, Text: err.Error()})
	}
	n.inputs = append(n.inputs, membership.GroupTimer{}) // for what it has to tell to those who are new
}

// orderList is the leader's: it has the list ordered when it differs from the
// agreed one and nothing speaks against it.
func (n *Node) orderList() {
	if n.list == nil || len(n.list.Nodes) == 0 || slices.Equal(n.list.Nodes, n.st.Listed) {
		n.listWhy = ""
		return
	}
	why, wait := n.unlistable()
	if why != n.listWhy && why != "" {
		n.emit(membership.Event{Kind: membership.KindRefused, Text: why})
	}
	if wait != 0 {
		n.wake(wait)
	}
	if n.listWhy = why; why != "" || wait != 0 {
		return
	}
	n.propose("list "+n.names(n.list.Nodes), cluster.Command{List: &cluster.List{Nodes: n.list.Nodes, Who: n.list.From}})
}

// unlistable says why the list may not be ordered, or when to look again. A node
// that answers is not gone, whatever anybody writes.
func (n *Node) unlistable() (why string, wait membership.Mono) {
	if n.list.Nodes[0] != n.cfg.Self {
		return fmt.Sprintf("%s: the lowest listed node orders everything, and that is %s and would be %s: stop quorated on all nodes first, or write the list as it was",
			n.list.From, n.cfg.Name(n.cfg.Self), n.cfg.Name(n.list.Nodes[0])), 0
	}
	first := len(n.st.Listed) == 0
	for _, c := range n.cfg.Nodes {
		if slices.Contains(n.list.Nodes, c.ID) {
			continue
		}
		if why := n.notGone(c.ID, first); why != "" {
			return fmt.Sprintf("%s lacks %s: %s", n.list.From, c.Name, why), n.now.Add(retryAfter)
		}
		if at := n.started.Add(max(listAfter, n.cfg.Timing.DeadAfter)); first && n.now < at {
			wait = at
		}
	}
	return "", wait
}

// notGone says why a node may not be taken for gone.
func (n *Node) notGone(id membership.NodeID, first bool) string {
	p := n.peers[id]
	if p == nil {
		return ""
	}
	if h := p.hello; p.connected && h != nil {
		if len(h.Holding) > 0 {
			return fmt.Sprintf("its kernel holds lockspaces: %s; unmount them there, or switch it off, first", strings.Join(h.Holding, ", "))
		}
		if first && h.Orders != 0 && h.Orders != n.cfg.Self {
			return fmt.Sprintf("its quorated works by another list, on which %s orders: make the lists the same, or stop it", n.cfg.Name(h.Orders))
		}
	}
	m, member := n.st.View.Find(id)
	age := n.live.Age(id)
	if member && n.set.Holds(m) && (p.connected || age >= 0 && age <= n.cfg.Timing.DeadAfter) {
		return "it holds lockspaces and still answers: unmount them there, or switch it off, first"
	}
	return ""
}

// outcast ends this machine when the leader's list has lost it while it was out
// of reach, and its kernel holds what the others take for gone (I7). Such a node
// is told of no entry any more.
func (n *Node) outcast(from membership.NodeID, h *Hello) {
	if n.list == nil || from != n.leader || h.Orders != from || len(h.Listed) == 0 || slices.Contains(h.Listed, n.cfg.Self) || !n.Member() {
		return
	}
	if held := n.local.Holding(); len(held) > 0 {
		n.endMachine("this node was taken off the list of members while its kernel held " + strings.Join(held, ", "))
	}
}

// unlisted says that a node does not belong to the cluster by the agreed list.
func (n *Node) unlisted(id membership.NodeID) bool {
	return n.list != nil && !slices.Contains(n.st.Listed, id)
}

func (n *Node) names(ids []membership.NodeID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = n.cfg.Name(id)
	}
	return strings.Join(out, ", ")
}

// promise says in one sentence what the rule of the list gives.
func (n *Node) promise() string {
	switch {
	case n.list == nil:
		return ""
	case len(n.st.Listed) == 0:
		return "no list of members was taken yet; nothing runs"
	case len(n.st.Listed) == 1:
		return fmt.Sprintf("%s alone, by %s; no agreement and no fencing: nothing but its writer's word keeps another machine from the disk", n.names(n.st.Listed), n.list.From)
	}
	return fmt.Sprintf("%s by %s: all of them or nothing runs, %s orders; no election and no fencing: who is taken off the list is gone by its writer's word alone",
		n.names(n.st.Listed), n.list.From, n.cfg.Name(n.leader))
}

// listWaits are the listed nodes that are missing.
func (n *Node) listWaits() []control.Wait {
	if n.list == nil {
		return nil
	}
	since := n.now.Sub(max(n.started, n.viewSince))
	var ws []control.Wait
	for _, id := range n.st.Listed {
		if _, ok := n.st.View.Find(id); ok || !n.needed(id) || id == n.cfg.Self {
			continue
		}
		w := control.Wait{What: "cluster", For: "quorum", Owner: id, Since: since, Command: n.refusedDo(id),
			Reason: fmt.Sprintf("every node on the list is needed, and %s is not a member", n.cfg.Name(id))}
		if state, reason := n.stateOf(id); state == "refused" {
			w.Reason += ": " + reason
		} else if w.Command == "" {
			w.Reason += fmt.Sprintf(": start it there, or, when it is off for good, take it off %s", n.list.From)
			w.Command = fmt.Sprintf("start quorated on %s, or, when it is off for good, take it off %s", n.cfg.Name(id), n.list.From)
		}
		ws = append(ws, w)
	}
	return ws
}

// listWarnings say what of the list was not taken.
func (n *Node) listWarnings() []string {
	var out []string
	switch {
	case n.list == nil:
		return nil
	case n.list.Err != "":
		out = append(out, n.list.Err)
	}
	switch {
	case n.listWhy != "":
		out = append(out, n.listWhy)
	case len(n.st.Listed) > 0 && !n.leads() && !slices.Equal(n.list.Nodes, n.st.Listed):
		out = append(out, fmt.Sprintf("%s lists %s here; the cluster works by the list of %s: %s; make them the same", n.list.From, n.names(n.list.Nodes), n.cfg.Name(n.leader), n.names(n.st.Listed)))
	}
	return out
}
