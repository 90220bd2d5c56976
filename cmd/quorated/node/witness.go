package node

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/quorum"
)

// witness is what this node knows of the witness that it knows of. It is a peer of the group
// alone: no hello and no row goes to it, and no view has it.
type witness struct {
	cluster.Witness
	connected bool
	err       string
	heard     membership.Mono // its last answer; 0: none
	rtt       time.Duration
	since     membership.Mono // when it was last heard, or first missed
	pingAt    membership.Mono
	counted   bool // heard, and a voter of the group: its vote counts in this node's judgment
	hears     bool // as the group was told
}

// Limits of the pings.
const (
	pingFloor  = 100 * time.Millisecond // the shortest time between two
	heardFloor = time.Second            // a witness is far away: it is heard for so long at least
	pingSize   = 16
)

// Ping is what a node sends to a witness: its own time, and how long it takes the
// witness for heard after an answer.
func Ping(now membership.Mono, limit time.Duration) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kindPing}, uint64(now))
	return binary.BigEndian.AppendUint64(b, uint64(limit))
}

// Pong answers a ping, for a witness; ok is false for all other messages. limit is
// for how long the sender is to be taken for alive after it.
func Pong(data []byte) (pong []byte, limit time.Duration, ok bool) {
	if len(data) != 1+pingSize || data[0] != kindPing {
		return nil, 0, false
	}
	limit = time.Duration(binary.BigEndian.Uint64(data[9:]))
	if limit < heardFloor || limit > time.Minute {
		return nil, 0, false
	}
	return append([]byte{kindPong}, data[1:9]...), limit, true
}

// GroupEnvelope is a message between groups as daemons, and witnesses, send it.
func GroupEnvelope(body []byte) []byte { return envelope(kindGroup, body) }

// Witness is the agreed witness; nil: there is none.
func (n *Node) Witness() *cluster.Witness { return n.st.Witness }

// WitnessCounts says whether the witness's vote counts in this node's own judgment.
func (n *Node) WitnessCounts() bool { return n.witness != nil && n.witness.counted }

// hintWitness takes a peer's word for which witness is agreed, when that is a later one
// than this node has heard of: it was away, and may have to be elected, or to elect, with
// that witness before it can be told the entry. It counts on its vote only after that.
func (n *Node) hintWitness(w *cluster.Witness) {
	if w == nil || n.list != nil || w.Remove || w.Check() != nil || !n.news(w) || !n.group.Status().Formed || n.hinted != nil && n.hinted.ID >= w.ID {
		return
	}
	n.hinted = w
	n.followWitness(0)
	n.followVoters()
	n.stepQueued()
}

// news says whether a witness is later than all that were agreed here.
func (n *Node) news(w *cluster.Witness) bool {
	return w.ID >= membership.FirstWitness+membership.NodeID(n.st.Witnesses) && w.ID < 2*membership.FirstWitness
}

// followWitness does what a change of the known witness asks for.
func (n *Node) followWitness(index uint64) {
	if n.hinted != nil && !n.news(n.hinted) {
		n.hinted = nil
	}
	agreed := n.st.Witness
	if n.hinted != nil {
		agreed = n.hinted
	}
	if agreed == nil && n.witness == nil || agreed != nil && n.witness != nil && n.witness.Witness == *agreed {
		return
	}
	e := membership.Event{Kind: membership.KindWitness, Index: index}
	if agreed == nil {
		e.Subject, e.Text = n.witness.ID, n.witness.Name+" is removed"
		n.witness = nil
	} else {
		e.Subject, e.Text = agreed.ID, fmt.Sprintf("%s at %s is added", agreed.Name, agreed.Addr)
		n.witness = &witness{Witness: *agreed, since: n.now}
	}
	if index != 0 {
		n.emit(e)
	}
	n.do(DialWitness{Witness: agreed, ClusterID: n.group.Status().ClusterID})
	n.liveness(liveness.WitnessIn{})
}

// followVoters tells the group who may be a member of it, when that has changed.
func (n *Node) followVoters() {
	ids := n.groupNodes()
	g, ok := n.group.(interface {
		SetNodes(nodes []membership.NodeID)
	})
	if !ok || n.list != nil || slices.Equal(ids, n.grouped) {
		return
	}
	had := n.grouped
	n.grouped = ids
	g.SetNodes(ids)
	if w := n.witness; w != nil && w.connected && slices.Contains(ids, w.ID) && !slices.Contains(had, w.ID) {
		n.inputs = append(n.inputs, membership.GroupLink{Peer: w.ID, Up: true})
	}
	n.inputs = append(n.inputs, membership.GroupTimer{}) // for what it has to do about it
}

// groupNodes are the configured nodes, and the witness unless a single node counts:
// that would need the witness, and is better off alone.
func (n *Node) groupNodes() []membership.NodeID {
	ids := n.cfg.IDs()
	if n.witness != nil && !n.single() {
		ids = append(ids, n.witness.ID)
	}
	return ids
}

// single says that one node alone counts.
func (n *Node) single() bool { return single(n.ownPolicy()) }

func single(p quorum.Policy) bool {
	with := 0
	for _, votes := range p.Votes {
		if votes > 0 {
			with++
		}
	}
	return with < 2
}

// witnessed is a policy of nodes alone with the agreed witness's vote.
func (n *Node) witnessed(p quorum.Policy) quorum.Policy {
	if w := n.st.Witness; w != nil && !single(p) {
		p.Votes = maps.Clone(p.Votes)
		p.Votes[w.ID], p.Witness = 1, w.ID
	}
	return p
}

// agreedVotes counts those of a set that an entry is about. The witness is with every
// set: the entry was ordered by a majority with it, or by one that needed no witness.
func agreedVotes(p quorum.Policy, ids []membership.NodeID) quorum.Verdict {
	if p.Witness != 0 {
		ids = append(slices.Clone(ids), p.Witness)
	}
	return p.Quorate(ids)
}

// linkVotes counts those of the nodes that this node hears, and the witness's where
// it is heard.
func (n *Node) linkVotes() quorum.Verdict {
	ids := n.live.Linked()
	if w := n.witness; w != nil && w.counted {
		ids = append(slices.Clone(ids), w.ID)
	}
	return n.policy.Quorate(ids)
}

// isWitness says whether a peer is the witness that this node knows of.
func (n *Node) isWitness(id membership.NodeID) bool { return n.witness != nil && n.witness.ID == id }

func (n *Node) witnessConnected(id membership.NodeID) {
	if !n.isWitness(id) {
		return
	}
	w := n.witness
	w.connected, w.err, w.pingAt = true, "", n.now
	n.step(membership.GroupLink{Peer: id, Up: true})
	n.watchWitness()
}

func (n *Node) witnessDisconnected(in Disconnected) {
	if !n.isWitness(in.Peer) {
		return
	}
	w := n.witness
	if w.err = in.Err; w.connected {
		w.connected = false
		n.step(membership.GroupLink{Peer: in.Peer})
	}
}

func (n *Node) witnessReceived(in Received) {
	if !n.isWitness(in.From) || len(in.Data) == 0 {
		return
	}
	switch body := in.Data[1:]; in.Data[0] {
	case kindGroup:
		n.step(membership.GroupReceive{From: in.From, Data: body})
	case kindPong:
		n.ponged(body)
	}
}

// ponged notes an answer, by the time at which its question was asked: one that was
// long on its way says nothing of now.
func (n *Node) ponged(body []byte) {
	if len(body) != 8 {
		return
	}
	w, asked := n.witness, membership.Mono(binary.BigEndian.Uint64(body))
	if asked > n.now || asked <= w.heard || n.now.Sub(asked) > n.witnessLimit() {
		return
	}
	w.heard, w.since, w.rtt = asked, asked, n.now.Sub(asked)
}

// witnessLimit is for how long an answer of the witness counts.
func (n *Node) witnessLimit() time.Duration { return max(n.cfg.Timing.DeadAfter, heardFloor) }

// watchWitness asks the witness for an answer when that is due.
func (n *Node) watchWitness() {
	w := n.witness
	if w == nil || !w.connected || n.now < w.pingAt {
		return
	}
	w.pingAt = n.now.Add(max(n.cfg.Timing.Interval, pingFloor))
	n.do(Send{To: w.ID, Data: Ping(n.now, n.witnessLimit())})
}

func (n *Node) witnessDeadline() membership.Mono {
	w := n.witness
	switch {
	case w == nil:
		return 0
	case w.connected && w.hears:
		return min(w.pingAt, w.heard.Add(n.witnessLimit()+1))
	case w.connected:
		return w.pingAt
	case w.hears:
		return w.heard.Add(n.witnessLimit() + 1)
	}
	return 0
}

// countWitness tells the group and liveness whether the witness is heard. Its vote
// counts when the group has it as a voter: before that nothing is ordered by it.
func (n *Node) countWitness() {
	w := n.witness
	if w == nil {
		return
	}
	hears := w.heard != 0 && n.now.Sub(w.heard) <= n.witnessLimit()
	counted := hears && n.st.Witness != nil && n.st.Witness.ID == w.ID && slices.Contains(n.group.Status().Voters, w.ID)
	if hears != w.hears {
		w.hears = hears
		text := w.Name + " answers"
		if !hears {
			text = fmt.Sprintf("%s at %s is silent", w.Name, w.Addr)
		}
		n.emit(membership.Event{Kind: membership.KindWitness, Subject: w.ID, Text: text})
		n.giveJudge()
	}
	if counted != w.counted {
		w.counted = counted
		n.liveness(liveness.WitnessIn{Heard: counted})
	}
}

// hearsWitness adds the witness to the peers that are heard, where it is.
func (n *Node) hearsWitness(hears []membership.NodeID) []membership.NodeID {
	if n.witness == nil || !n.witness.hears {
		return hears
	}
	return append(slices.Clone(hears), n.witness.ID)
}

// witnessMissed: what the witness did not answer while this daemon did not run counts for nothing.
func (n *Node) witnessMissed(after time.Duration) {
	if w := n.witness; w != nil && w.hears {
		w.heard = min(w.heard.Add(after), n.now)
		w.pingAt = n.now
	}
}

// RefusesWitness says why a witness cannot be added now; empty: it can.
func (n *Node) RefusesWitness(added *cluster.Witness) string {
	w := n.st.Witness
	switch {
	case n.list != nil:
		return "membership is a list's word here (group = \"static\"), and every node on it is needed: a witness would decide nothing"
	case added == nil:
		return "witness-add without a witness"
	case n.policy.Rules.TieBreaker.Mode != membership.TieNone:
		return "auto_tie_breaker and a witness contradict each other, since the witness decides between two halves: take auto_tie_breaker out of [quorum] on all nodes first"
	case n.policy.Rules.LastManStanding:
		return "last_man_standing does not work with a witness: take it out of [quorum] on all nodes first"
	case n.single():
		return "a single node has its own quorum, and would need the witness for it: have a second node count first (see `quorate quorum`)"
	case w != nil:
		return fmt.Sprintf("there is a witness already, %s at %s: run `quorate witness remove` first", w.Name, w.Addr)
	case len(n.group.Status().Voters) >= maxVoters:
		return fmt.Sprintf("there are %d nodes that vote, and no place for a witness: with so many it is not needed", maxVoters)
	case n.leader == 0:
		return fmt.Sprintf("nothing can be agreed now: %s; try again, or see `quorate why`", cmp.Or(n.group.Status().Waiting, "no leader"))
	}
	if err := added.Check(); err != nil {
		return err.Error()
	}
	return ""
}

func (n *Node) addWitness(in Operator) {
	if why := n.RefusesWitness(in.Witness); why != "" {
		n.refuseOperator(in, "%s", why)
		return
	}
	added := *in.Witness
	added.ID, added.Remove, added.Who = 0, false, in.Who
	text := fmt.Sprintf("the witness %s at %s is added; `quorate witness show` says when it votes", added.Name, added.Addr)
	if all := len(n.cfg.Nodes); all%2 == 1 {
		text += fmt.Sprintf(". Of an odd number of nodes (%d) no more can be lost with it than without it", all)
	}
	n.order(in, cluster.Command{Witness: &added}, text)
}

// maxVoters is how many voters a group has at most.
const maxVoters = 32

func (n *Node) removeWitness(in Operator) {
	w := n.st.Witness
	if w == nil {
		n.refuseOperator(in, "there is no witness")
		return
	}
	linked := n.live.Linked()
	here := slices.DeleteFunc(n.st.View.IDs(), func(id membership.NodeID) bool { return !slices.Contains(linked, id) })
	if v := n.ownPolicy().Quorate(here); !v.Quorate {
		n.refuseOperator(in, "without the witness %s the members that are heard (%s) are no quorum (%s): bring another node up first", w.Name, n.names(here), v.Text)
		return
	}
	n.order(in, cluster.Command{Witness: &cluster.Witness{ID: w.ID, Remove: true, Who: in.Who}},
		fmt.Sprintf("the witness %s is removed; it may be switched off", w.Name))
}

// witnessHeard says of the witness what belongs to the reason for no quorum.
func (n *Node) witnessHeard() string {
	w := n.witness
	switch {
	case w == nil:
		return ""
	case w.counted:
		return fmt.Sprintf(", and the witness %s", w.Name)
	case w.hears:
		return fmt.Sprintf(", and the witness %s, which has no vote yet", w.Name)
	}
	return fmt.Sprintf(", and not the witness %s (%s) for %s", w.Name, w.Addr, n.witnessSilence())
}

func (n *Node) witnessSilence() string {
	return membership.Short(n.now.Sub(n.witness.since).Round(time.Second))
}

// witnessWarnings: a witness that is lost alone is a warning and nothing else.
func (n *Node) witnessWarnings() []string {
	w := n.witness
	if w == nil || w.counted {
		return nil
	}
	if w.hears && n.single() {
		return nil // it waits until a second node counts
	}
	if w.hears {
		return []string{fmt.Sprintf("the witness %s has no vote yet: it is given the log first; see `quorate witness show`", w.Name)}
	}
	why := cmp.Or(w.err, "it does not answer")
	return []string{fmt.Sprintf("the witness %s (%s) has not been heard for %s: %s. Without it one node fewer may be lost: "+
		"start `quorated --witness` there, or see the network", w.Name, w.Addr, n.witnessSilence(), why)}
}

func (n *Node) witnessStatus() *control.WitnessStatus {
	w := n.witness
	if w == nil {
		return nil
	}
	s := &control.WitnessStatus{ID: w.ID, Name: w.Name, Addr: w.Addr, Fingerprint: w.Fingerprint, Who: w.Who, Connected: w.connected,
		Votes: slices.Contains(n.group.Status().Voters, w.ID), Heard: -1, Err: w.err}
	if w.heard != 0 {
		s.Heard, s.RTT = n.now.Sub(w.heard), w.rtt
	}
	return s
}
