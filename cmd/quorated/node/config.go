package node

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/quorum"
	"github.com/quorate/quorate/membership/rotation"
)

// Replicated is the configuration as the members agree on it.
type Replicated struct {
	// Text is what Options.Config was made of, without secrets.
	Text string
	// Version is the agreed one of that text; 0: it is that of this node's file.
	Version uint64
	// Parse makes a configuration of a text. It is the same function at every node,
	// and gives nothing but what the text says: no secrets, and no Self.
	Parse func(text string) (membership.Config, error)
}

// CheckConfig asks whether this node could work by a text: the answer is ConfigChecked.
type CheckConfig struct {
	Ask     string
	Text    string
	Replace []membership.NodeID // that may be at other addresses
}

// ConfigChecked answers it. Why says why not; empty: it could.
type ConfigChecked struct {
	Ask string
	Why string
}

// Reconfigure says that a version is in force: the machine works by it already. The
// edge keeps it, so that the next start begins with it, and works by it itself before
// it executes any later effect.
type Reconfigure struct {
	Version uint64
	Text    string
	Config  membership.Config // as Parse made it, with Self
}

func (CheckConfig) nodeEffect()  {}
func (Reconfigure) nodeEffect()  {}
func (ConfigChecked) nodeInput() {}

// Heartbeat and Backstop are the times of a group that orders by elections: slow ones,
// since the detector drives elections, and the group's own times are for what it cannot see.
func Heartbeat(t membership.Timing) time.Duration { return max(5*t.Interval, 100*time.Millisecond) }

// Backstop is when a silent leader is forgotten all the same.
func Backstop(t membership.Timing) time.Duration { return max(5*t.DeadAfter, time.Second) }

const (
	voteLimit   = 10 * time.Second // for every member to say whether it can work by a text
	changeLimit = 30 * time.Second // for an operator to hear what became of his change
)

// configState is what a node knows of the configuration, beside the agreed state.
type configState struct {
	Replicated // what n.cfg is made of
	// agreed is the newest agreed version by the entries that were applied here, and
	// nothing else: members must judge alike. n.cfg may be of a later one.
	agreed  membership.Config
	want    membership.Config // of the change that is under way,
	wantErr error             // or why it cannot be read
	asked   string            // the change, and the life of this node, that the edge was asked about
	answer  *ConfigChecked
	change  string          // the change that is under way,
	since   membership.Mono // and since when it is, by this node's clock
	asks    []configAsk

	former   map[membership.NodeID]string // of formerName; nil: not read yet
	formerAt formerAt
}

// configAsk is an operator's change of which nothing is decided yet.
type configAsk struct {
	token    uint64
	at       membership.Mono
	order    cluster.ConfigPropose
	proposed bool
}

// followConfig makes this node's configuration that of the agreed state, which has changed.
func (n *Node) followConfig() {
	now := n.st.Conf.Now
	if n.conf == nil || now.Version == 0 {
		return
	}
	cfg, err := n.conf.Parse(now.Text)
	if err != nil {
		n.break_(fmt.Sprintf("version %d of the configuration, which was agreed on, cannot be read by this quorated; install the version that the others have: %v", now.Version, err))
		return
	}
	n.conf.agreed = cfg
	if now.Version > n.conf.Version {
		n.reconfigure(now, cfg)
	}
	n.policy = n.agreedPolicy()
	n.liveness(liveness.PolicyIn{Policy: n.policy})
}

// agreedConfig is what members judge by when they apply an entry.
func (n *Node) agreedConfig() membership.Config {
	if n.conf == nil {
		return n.cfg
	}
	return n.conf.agreed
}

// reconfigure takes another configuration: nodes, times, devices and the rule for a quorum.
func (n *Node) reconfigure(now cluster.Config, cfg membership.Config) {
	old := n.cfg
	cfg.Self = old.Self
	n.conf.Text, n.conf.Version = now.Text, now.Version
	if _, ok := cfg.Node(cfg.Self); !ok {
		n.removed(now.Version)
		return
	}
	n.cfg = cfg
	ids := cfg.IDs()
	for _, id := range ids {
		if id != cfg.Self && (n.peers[id] == nil || moved(old, cfg, id)) {
			if p := n.peers[id]; p != nil && p.connected {
				n.inputs = append(n.inputs, membership.GroupLink{Peer: id})
				n.rotate(rotation.Down{Node: id})
			}
			n.peers[id] = &peer{}
		}
	}
	for id := range n.peers {
		if !slices.Contains(ids, id) {
			delete(n.peers, id)
		}
	}
	n.watches = nil // they are asked anew
	if n.asking > 0 {
		n.asking = -1
		n.do(StopAsking{})
	}
	if cfg.Timing != old.Timing {
		n.retimed = n.now
	}
	n.rot.SetNodes(ids, n.now)
	n.policy = n.agreedPolicy()
	n.liveness(liveness.ConfigIn{Nodes: ids, Timing: cfg.Timing, Policy: n.policy})
	n.followVoters()
	if g, ok := n.group.(interface {
		SetTimes(heartbeat, backstop time.Duration)
	}); ok {
		g.SetTimes(Heartbeat(cfg.Timing), Backstop(cfg.Timing))
	}
	n.inputs = append(n.inputs, membership.GroupTimer{})
	n.do(Reconfigure{Version: now.Version, Text: now.Text, Config: cfg})
	n.emit(membership.Event{Kind: membership.KindConfig, Index: now.Index, Text: fmt.Sprintf("version %d is in force%s%s", now.Version, byWhom(now.Who), changes(old, cfg))})
	n.helloAt = n.now
}

// moved says that a node has other addresses than before.
func moved(old, cfg membership.Config, id membership.NodeID) bool {
	a, _ := old.Node(id)
	b, _ := cfg.Node(id)
	return !slices.Equal(a.Addrs, b.Addrs)
}

func byWhom(who string) string {
	if who == "" {
		return ""
	}
	return ", by " + who
}

// changes says which nodes came and went.
func changes(old, cfg membership.Config) string {
	text := ""
	for _, c := range cfg.Nodes {
		if _, ok := old.Node(c.ID); !ok {
			text += "; new: " + c.Name
		}
	}
	for _, o := range old.Nodes {
		if _, ok := cfg.Node(o.ID); !ok {
			text += "; removed: " + o.Name
		}
	}
	return text
}

// removed ends a node that is configured no more. It was no member.
func (n *Node) removed(version uint64) {
	why := fmt.Sprintf("version %d of the configuration has this node no more; to bring it back, run `quorate node add` on another one", version)
	if held := n.local.Holding(); len(held) > 0 {
		n.endMachine(why + "; its kernel holds " + strings.Join(held, ", "))
		return
	}
	n.do(Exit{Clean: true, Why: why})
}

// orderFirst has the configuration of a new cluster ordered, before anything else:
// what is decided later depends on it. It says whether that is to be waited for.
func (n *Node) orderFirst() bool {
	if n.conf == nil || n.st.Conf.Now.Version != 0 {
		return false
	}
	n.propose("config first", cluster.Command{ConfigFirst: &cluster.ConfigFirst{Text: n.conf.Text, Nodes: n.cfg.IDs(), Who: "the file of " + n.cfg.Name(n.cfg.Self)}})
	return true
}

// configWishes gives this member's word on the change that is under way, and
// proposes what operators asked for here.
func (n *Node) configWishes() {
	if n.conf == nil {
		return
	}
	n.askWishes()
	c := n.st.Conf.Change
	if c == nil {
		n.conf.change, n.conf.asked, n.conf.answer = "", "", nil
		return
	}
	if n.conf.change != c.Ask {
		n.conf.change, n.conf.since = c.Ask, n.now
		n.conf.want, n.conf.wantErr = n.conf.Parse(c.Text)
	}
	if !n.Member() || slices.Contains(c.Yes, n.Self()) {
		return
	}
	if key := c.Ask + " " + n.Self().String(); n.conf.asked != key {
		n.conf.asked, n.conf.answer = key, nil
		n.do(CheckConfig{Ask: c.Ask, Text: c.Text, Replace: c.Replace})
	}
	if a := n.conf.answer; a != nil && a.Ask == c.Ask {
		why := a.Why
		if why == "" {
			why = n.unlike(c)
		}
		n.propose("config vote "+c.Ask, cluster.Command{ConfigVote: &cluster.ConfigVote{Ask: c.Ask, Voter: n.Self(), Why: why}})
	}
}

// unlike says what of a proposal is not what its text says.
func (n *Node) unlike(c *cluster.ConfigChange) string {
	switch ids := n.conf.want.IDs(); {
	case n.conf.wantErr != nil:
		return n.conf.wantErr.Error()
	case !slices.Equal(ids, c.Nodes):
		return fmt.Sprintf("the text configures nodes %v, and the proposal says %v: install the same quorated on all nodes", ids, c.Nodes)
	}
	return n.rivalStays(c)
}

func (n *Node) configChecked(in ConfigChecked) {
	if n.conf != nil && n.conf.change == in.Ask {
		n.conf.answer = &in
	}
}

// leadConfig is the leader's: it brings a change into force when every member has
// said yes, and gives it up when that cannot be.
func (n *Node) leadConfig() {
	c := n.st.Conf.Change
	if n.conf == nil || c == nil || n.conf.change != c.Ask {
		return
	}
	waits := n.st.Awaited()
	at := n.conf.since.Add(voteLimit)
	why := n.st.ConfigObstacle(&c.ConfigPropose)
	switch {
	case why != "":
	case n.unquorate() != "":
		why = n.unquorate()
	case len(waits) == 0:
		n.propose(fmt.Sprintf("config commit %s %d", c.Ask, n.st.View.Number), cluster.Command{ConfigCommit: &cluster.ConfigCommit{Ask: c.Ask, View: n.st.View.Number}})
		return
	case n.now < at:
		n.wake(at)
		return
	default:
		why = fmt.Sprintf("%s did not say within %v whether it can work by it; see `quorate nodes`", n.names(waits), voteLimit)
	}
	n.propose("config abort "+c.Ask, cluster.Command{ConfigAbort: &cluster.ConfigAbort{Ask: c.Ask, Why: why}})
}

// unquorate says that a change would take the quorum from the members, or has a rule
// that the witness contradicts.
func (n *Node) unquorate() string {
	if n.conf.wantErr != nil {
		return "" // this member says so itself
	}
	if r := quorum.New(n.conf.want).Rules; n.st.Witness != nil && (r.LastManStanding || r.TieBreaker.Mode != membership.TieNone) {
		return "last_man_standing and auto_tie_breaker do not work with a witness: leave them out, or run `quorate witness remove` first"
	}
	v := n.countBy(n.conf.want, n.st.View.IDs())
	if v.Quorate || n.brk == skipQuorum {
		return ""
	}
	return fmt.Sprintf("with it the members (%s) would be no quorum: %s; bring up the nodes that are away first, or change fewer at once", n.names(n.st.View.IDs()), v.Text)
}

// countBy is the verdict on some members by a configuration, with those who count now.
func (n *Node) countBy(cfg membership.Config, ids []membership.NodeID) quorum.Verdict {
	return agreedVotes(n.witnessed(n.counting(cfg)), ids)
}

// configured does what follows from an entry about the configuration.
func (n *Node) configured(index uint64, o cluster.Outcome) {
	if p := o.Proposed; p != nil {
		n.emit(membership.Event{Kind: membership.KindConfig, Index: index, Text: fmt.Sprintf("version %d is proposed%s", p.Base+1, byWhom(p.Who))})
	}
	if a := o.Aborted; a != nil {
		n.emit(membership.Event{Kind: membership.KindConfig, Subject: a.By, Index: index, Text: fmt.Sprintf("version %d does not come into force: %s", a.Change.Base+1, n.abortText(a))})
	}
	if o.Configured == nil {
		return
	}
	n.followConfig()
	if r := n.st.Recount(n.quorum); r.View != nil {
		n.viewed(index, *r.View)
	}
}

// abortText says why a change came to nothing, and who said so.
func (n *Node) abortText(a *cluster.ConfigAborted) string {
	if a.By == 0 {
		return a.Why
	}
	return n.cfg.Name(a.By) + " refuses it: " + a.Why
}

// askConfig has another configuration agreed on. It is answered when that is in
// force here, or will not be.
func (n *Node) askConfig(in Operator) {
	now := n.st.Conf.Now
	switch {
	case n.conf == nil:
		n.refuseOperator(in, `with group = "static" the configuration is each node's file: change it on every node, then there: %s`, startAnew)
		return
	case now.Version == 0:
		n.refuseOperator(in, "the cluster has not agreed on a configuration yet: %s; see `quorate why`", cmp.Or(n.group.Status().Waiting, "it is about to"))
		return
	case !n.quorate:
		n.refuseOperator(in, "no quorum: nothing can be agreed; see `quorate why`")
		return
	}
	cfg, err := n.conf.Parse(in.Text)
	if err == nil {
		err = cluster.ConfigFits(in.Text)
	}
	if err != nil {
		n.refuseOperator(in, "%v", err)
		return
	}
	p := cluster.ConfigPropose{Ask: n.askName(in), Base: in.Version, Text: in.Text, Nodes: cfg.IDs(),
		Replace: in.Nodes, Who: n.askedBy(in)}
	n.conf.asks = append(n.conf.asks, configAsk{token: in.Token, at: n.now, order: p})
}

// askWishes proposes operators' changes, and gives up after a while.
func (n *Node) askWishes() {
	n.conf.asks = slices.DeleteFunc(n.conf.asks, func(a configAsk) bool {
		if n.now < a.at.Add(changeLimit) {
			n.wake(a.at.Add(changeLimit))
			if !a.proposed {
				n.propose("config "+a.order.Ask, cluster.Command{ConfigPropose: &a.order})
			}
			return false
		}
		n.do(Reply{Token: a.token, Err: fmt.Sprintf("not decided within %v: %s; see `quorate why`, and `quorate config show` for whether it was after all",
			changeLimit, cmp.Or(n.group.Status().Waiting, "the entry was not ordered"))})
		return true
	})
}

// answerConfig tells the operator what became of his change.
func (n *Node) answerConfig(c cluster.Command, o cluster.Outcome) {
	if n.conf == nil {
		return
	}
	n.conf.asks = slices.DeleteFunc(n.conf.asks, func(a configAsk) bool {
		mine := c.ConfigPropose != nil && c.ConfigPropose.Ask == a.order.Ask
		switch {
		case mine && o.Refused != "" && !a.proposed:
			n.do(Reply{Token: a.token, Err: n.named(o.Refused)})
		case o.Ask == a.order.Ask && o.Configured != nil:
			n.do(Reply{Token: a.token, Text: fmt.Sprintf("version %d is in force", o.Configured.Version)})
		case o.Ask == a.order.Ask && o.Aborted != nil:
			n.do(Reply{Token: a.token, Err: "nothing was changed: " + n.abortText(o.Aborted)})
		default:
			return false
		}
		return true
	})
	for i := range n.conf.asks {
		if p := o.Proposed; p != nil && p.Ask == n.conf.asks[i].order.Ask {
			n.conf.asks[i].proposed = true
		}
	}
}

// behind says that a peer works by another version, and which; empty: by the same.
func (n *Node) behind(p *peer) string {
	if n.conf == nil || p.hello == nil || p.hello.Config == n.conf.Version {
		return ""
	}
	if p.hello.Config == 0 {
		return fmt.Sprintf("it is given version %d of the configuration", n.conf.Version)
	}
	return fmt.Sprintf("it works by version %d of the configuration, and %d is in force here", p.hello.Config, n.conf.Version)
}

// ConfigVersion returns an agreed version; 0: the one in force.
func (n *Node) ConfigVersion(v uint64) (cluster.Config, bool) {
	if v == 0 {
		v = n.st.Conf.Now.Version
	}
	return n.st.ConfigVersion(v)
}

// ConfigVersions are the agreed versions that are known, newest first.
func (n *Node) ConfigVersions() []control.ConfigVersion {
	all := append(slices.Clone(n.st.Conf.Past), n.st.Conf.Now)
	slices.Reverse(all)
	var out []control.ConfigVersion
	for _, c := range all {
		if c.Version != 0 {
			out = append(out, control.ConfigVersion{Version: c.Version, Digest: c.Digest, Who: c.Who, Wall: c.Wall})
		}
	}
	return out
}

// configWaits say whose word on a change is awaited.
func (n *Node) configWaits() []control.Wait {
	c := n.st.Conf.Change
	if n.conf == nil || c == nil {
		return nil
	}
	at := max(n.now.Sub(n.conf.since), 0)
	var ws []control.Wait
	for _, id := range n.st.Awaited() {
		ws = append(ws, control.Wait{What: "configuration", For: "agreement", Owner: id, Since: at, Deadline: max(voteLimit-at, 0),
			Reason: fmt.Sprintf("%s has not said whether it can work by version %d, which %s proposed; it is given up then", n.cfg.Name(id), c.Base+1, c.Who)})
	}
	return ws
}

var numbered = regexp.MustCompile(`\bnode ([0-9]+)\b`)

// named is a text of the agreement, which knows nodes by their ids, with their names.
func (n *Node) named(text string) string {
	return numbered.ReplaceAllStringFunc(text, func(word string) string {
		id, err := strconv.ParseUint(strings.TrimPrefix(word, "node "), 10, 32)
		if _, ok := n.cfg.Node(membership.NodeID(id)); err != nil || !ok {
			return word
		}
		return n.cfg.Name(membership.NodeID(id))
	})
}

// formerName is the name that a node had in the newest kept version with it; empty: it is
// configured, or no version has it. They are read once: it takes a while, in which nothing is agreed.
func (n *Node) formerName(id membership.NodeID) string {
	if _, ok := n.cfg.Node(id); ok || n.conf == nil {
		return ""
	}
	if at := (formerAt{n.st.Conf.Now.Version, len(n.st.Conf.Past)}); n.conf.former == nil || n.conf.formerAt != at {
		n.conf.former, n.conf.formerAt = map[membership.NodeID]string{}, at
		for _, v := range n.st.Conf.Past {
			if cfg, err := n.conf.Parse(v.Text); err == nil {
				for _, x := range cfg.Nodes {
					n.conf.former[x.ID] = x.Name
				}
			}
		}
	}
	return n.conf.former[id]
}

// formerAt is of which versions former names are.
type formerAt struct {
	version uint64
	past    int
}
