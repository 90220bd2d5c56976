package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
)

// bar is why a node may not come in now; the zero bar keeps nobody out. What passes by
// itself is told to who asks, and is no event.
type bar struct {
	why    string
	do     string        // the end of that, where an operator can do something
	left   time.Duration // until it is over, if all goes well; 0: not known
	passes bool
	soon   bool // it depends on what others tell all the time
}

// refusal ends with what to do.
func refusal(do, before, format string, args ...any) bar {
	return bar{why: fmt.Sprintf(format, args...) + before + do, do: do}
}

func passing(why string) bar { return bar{why: why, passes: true} }

// What to do about files that differ.
const (
	startAnew = "`quorate leave && systemctl start quorated`"
	makeSame  = "make /etc/quorate/quorate.toml the same on every node, then where it was changed: " + startAnew
)

// Barred is a bar as the leader tells it to who is kept out.
type Barred struct {
	Why  string        `json:"why"`
	Left time.Duration `json:"left,omitempty"` // when it was said; 0: not known
}

// onProbation: a node has to answer everybody for some time before it is steady.
func (n *Node) onProbation(id membership.NodeID) bar {
	b := n.live.Probation(id)
	was := "silent"
	if b.Evicted {
		was = "evicted"
	}
	x := bar{why: fmt.Sprintf("it was %s before, and has to answer everybody for %v without a gap", was, b.Whole.Round(10*time.Millisecond)), left: b.Left, passes: true, soon: true}
	if b.Whole == 0 {
		x.why = "everybody has to hear it"
	}
	if b.Whom != 0 {
		x.why, x.left = x.why+n.deafText(b.Who, b.Whom), 0
	}
	return x
}

func (n *Node) deafText(who, whom membership.NodeID) string {
	return fmt.Sprintf("; now %s does not hear %s", n.cfg.Name(who), n.cfg.Name(whom))
}

// unlinkedTo keeps out who does not hear every member, by its own row.
func (n *Node) unlinkedTo(id membership.NodeID, p *peer) bar {
	x := bar{why: "it has not said lately whom it hears", passes: true, soon: true}
	if !n.freshRow(p) {
		return x
	}
	for _, m := range n.st.View.Members {
		if m.Node == id {
			continue
		}
		ok := slices.ContainsFunc(p.row.Ages, func(a liveness.Age) bool {
			return a.Peer == m.Node && a.Age >= 0 && a.Age <= n.cfg.Timing.DeadAfter
		})
		if _, _, here := n.seen(m.Node); !ok && here { // who is away anyway does not keep it out
			x.why = "it has to hear every member" + n.deafText(id, m.Node)
			return x
		}
	}
	return bar{}
}

// blockedBy says what of its earlier life keeps a node out.
func (n *Node) blockedBy(c *cluster.Case) string {
	if c.Open() {
		return fmt.Sprintf("its earlier incarnation %v has to be proved gone first", c.Victim)
	}
	why := fmt.Sprintf("%s may still be fencing its earlier incarnation %v", n.cfg.Name(c.Job.Actor.Node), c.Victim)
	if n.st.Acting(c) {
		why += ", and has to be proved gone itself"
	}
	return why
}

// barOf is what keeps out a node that is connected; the zero bar: nothing, or it is not connected.
func (n *Node) barOf(id membership.NodeID) bar {
	p := n.peers[id]
	if _, member := n.st.View.Find(id); member || p == nil || !p.connected || p.hello == nil {
		return bar{}
	}
	if n.rivalled() {
		return passing(n.names(n.rivals) + " went on without this side, and one of the two has to give up its log first")
	}
	return n.inadmissible(id)
}

// Limits of what a hello says of those who are kept out: too large a one is refused.
const (
	maxBarText = 300
	maxBarred  = 50
)

// keptOut is what the leader tells those whom it keeps out; nil: nobody is.
func (n *Node) keptOut() map[membership.NodeID]Barred {
	if !n.leads() || !n.Member() {
		return nil
	}
	var out map[membership.NodeID]Barred
	for _, id := range n.peerIDs() {
		if b := n.barOf(id); b.why != "" && len(out) < maxBarred {
			if out == nil {
				out = map[membership.NodeID]Barred{}
			}
			if len(b.why) > maxBarText {
				b.why = strings.ToValidUTF8(b.why[:maxBarText], "") + "..."
			}
			out[id] = Barred{Why: b.why, Left: b.left.Round(100 * time.Millisecond)}
		}
	}
	return out
}

// joinWait says why this node is no member, as far as it knows.
func (n *Node) joinWait(leader membership.NodeID) control.Wait {
	w := control.Wait{What: "this node", For: "join", Since: n.now.Sub(n.unadmitted.since)}
	if leader == 0 || leader.IsWitness() {
		w.Reason = "no node leads that could admit it" + n.evictedText()
		return w
	}
	name := n.cfg.Name(leader)
	w.Owner, w.Command = leader, "on "+name+", which leads: quorate why"
	p := n.peers[leader]
	var b Barred
	if p != nil && p.connected && p.hello != nil {
		b = p.hello.Barred[n.cfg.Self]
	}
	switch {
	case b.Why == "":
		w.Reason = fmt.Sprintf("the leader %s has not admitted it%s", name, n.evictedText())
	default:
		w.Reason = fmt.Sprintf("the leader %s does not admit it: %s", name, b.Why)
		if b.Left > 0 {
			w.Deadline, w.Command = max(b.Left-n.now.Sub(p.helloAt), helloEvery), ""
		}
	}
	return w
}

// evictedText says when this node was evicted, and why, after what waits for that; empty: it was not.
func (n *Node) evictedText() string {
	if !n.Evicted() {
		return ""
	}
	text := "; it was evicted"
	if c := n.lastCase(n.cfg.Self); c != nil {
		text += fmt.Sprintf(" %s ago (%s)", membership.Short(n.now.Sub(n.clock(c.Victim).since).Round(time.Second)), cmp.Or(n.evictedWhy(), string(c.Reason)))
	}
	return text + ", and has to answer everybody for some time without a gap"
}

// outside says that the others go on without this node, which was evicted and does not
// hear all of them; nil: it is not so.
func (n *Node) outside(waiting string) *control.Wait {
	deaf := membership.Without(n.st.View.IDs(), n.audible()...)
	if !n.Evicted() || !n.quorate || n.rivalled() || len(deaf) == 0 || waiting != "" && !strings.HasPrefix(waiting, "no leader") {
		return nil
	}
	why := "for a reason that this node was not told"
	since := n.unordered.since
	if c := n.lastCase(n.cfg.Self); c != nil {
		why = cmp.Or(n.evictedWhy(), string(c.Reason))
		since = n.clock(c.Victim).since
	}
	return &control.Wait{What: "this node", For: "quorum", Owner: deaf[0], Since: n.now.Sub(since),
		Reason:  fmt.Sprintf("this node was evicted (%s); the others lead, and it does not hear %s", why, n.names(deaf)),
		Command: fmt.Sprintf("mend the path between this node and %s: see `quorate links` at both ends", n.names(deaf))}
}

// joiningWait says why a node that is here is no member yet. The leader knows.
func (n *Node) joiningWait(w *control.Wait, id membership.NodeID) {
	w.Reason = n.cfg.Name(id) + " is connected and no member yet"
	switch b := n.barOf(id); {
	case n.leads():
		if b.why != "" {
			w.Reason, w.Deadline = w.Reason+": "+b.why, b.left
		}
	case n.leader != 0 && !n.leader.IsWitness():
		w.Command = "on " + n.cfg.Name(n.leader) + ", which leads: quorate why"
	}
}

// bringBack is what to do about a node that is not here. One that nothing proved to be
// off may run where nobody hears it.
func (n *Node) bringBack(id membership.NodeID) string {
	name := n.cfg.Name(id)
	if c := n.lastCase(id); c != nil && c.Proof != nil && c.Proof.How != "new-boot" {
		return "boot " + name + " and start quorated there"
	}
	return fmt.Sprintf("look at %s, which may run behind a cut network: mend that, or start quorated there; boot it only if it is off", name)
}
