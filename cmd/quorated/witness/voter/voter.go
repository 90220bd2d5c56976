package voter

import (
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
)

// Options are what a Voter is made of.
type Options struct {
	Self  membership.NodeID   // the witness's id in the cluster
	Nodes []membership.NodeID // the cluster's nodes
	Name  func(membership.NodeID) string

	NewID    uint64        // of an empty store: random, never used before
	Seed     uint64        // random
	Interval time.Duration // of the cluster's probes
	Dead     time.Duration // dead_after of the cluster
}

// Voter is the machine. It is not safe for concurrent use.
type Voter struct {
	self  membership.NodeID
	group *raft.Machine
	now   membership.Mono
	peers map[membership.NodeID]*peer
	hears []membership.NodeID // as the group was told
	out   []node.Effect
}

// peer is a node of the cluster.
type peer struct {
	connected bool
	until     membership.Mono // it is heard until then
}

// New makes a Voter from what its store held, and the effects of its start.
func New(now membership.Mono, o Options, restored raft.Restored) (*Voter, []node.Effect, error) {
	m, boot, err := raft.New(raft.Config{
		Self: o.Self, Nodes: append(slices.Clone(o.Nodes), o.Self), Name: o.Name, NewID: o.NewID, Seed: o.Seed, Witness: true,
		Heartbeat: Heartbeat(o.Interval), Backstop: Backstop(o.Dead),
	}, restored)
	if err != nil {
		return nil, nil, err
	}
	v := &Voter{self: o.Self, group: m, now: now, peers: map[membership.NodeID]*peer{}}
	v.follow(o.Nodes)
	v.execute(boot)
	return v, v.take(), nil
}

// Heartbeat and Backstop are the group's times by the cluster's: the same at the nodes
// and the witness.
func Heartbeat(interval time.Duration) time.Duration { return max(5*interval, 100*time.Millisecond) }

// Backstop is after how long a silent leader is forgotten.
func Backstop(dead time.Duration) time.Duration { return max(5*dead, time.Second) }

func (v *Voter) take() []node.Effect {
	out := v.out
	v.out = nil
	return out
}

// SetNodes replaces the nodes of the cluster. What is known of the others is kept.
func (v *Voter) SetNodes(nodes []membership.NodeID) {
	v.group.SetNodes(append(slices.Clone(nodes), v.self))
	v.follow(nodes)
}

func (v *Voter) follow(nodes []membership.NodeID) {
	for id := range v.peers {
		if !slices.Contains(nodes, id) {
			delete(v.peers, id)
		}
	}
	for _, id := range nodes {
		if v.peers[id] == nil && id != v.self {
			v.peers[id] = &peer{}
		}
	}
}

// Step takes one input: Timer, Connected, Disconnected or Received.
func (v *Voter) Step(now membership.Mono, in node.Input) []node.Effect {
	v.now = max(now, v.now)
	switch in := in.(type) {
	case node.Timer:
		v.judge()
		if d := v.group.Deadline(); d != 0 && v.now >= d {
			v.step(membership.GroupTimer{})
		}
	case node.Connected:
		if p := v.peers[in.Peer]; p != nil {
			p.connected, p.until = true, v.now.Add(Backstop(0))
			v.step(membership.GroupLink{Peer: in.Peer, Up: true})
		}
	case node.Disconnected:
		if p := v.peers[in.Peer]; p != nil && p.connected {
			p.connected, p.until = false, 0
			v.step(membership.GroupLink{Peer: in.Peer})
		}
	case node.Received:
		v.received(in)
	}
	v.judge()
	return v.take()
}

func (v *Voter) received(in node.Received) {
	p := v.peers[in.From]
	if p == nil || !p.connected {
		return
	}
	if body, ok := node.GroupMessage(in.Data); ok {
		v.step(membership.GroupReceive{From: in.From, Data: body})
		return
	}
	if pong, limit, ok := node.Pong(in.Data); ok {
		p.until = v.now.Add(limit)
		v.out = append(v.out, node.Send{To: in.From, Data: pong})
	}
}

// judge tells the group who is heard, when that has changed.
func (v *Voter) judge() {
	var hears []membership.NodeID
	for id, p := range v.peers {
		if p.connected && v.now < p.until {
			hears = append(hears, id)
		}
	}
	slices.Sort(hears)
	if slices.Equal(hears, v.hears) {
		return
	}
	v.hears = hears
	v.step(membership.GroupJudge{Hears: hears, Barred: true})
}

func (v *Voter) step(in membership.GroupInput) { v.execute(v.group.Step(v.now, in)) }

func (v *Voter) execute(effs []membership.GroupEffect) {
	for _, e := range effs {
		switch e := e.(type) {
		case membership.GroupPersist:
			v.out = append(v.out, node.Persist{Record: e.Record})
		case membership.GroupSend:
			v.out = append(v.out, node.Send{To: e.To, Data: node.GroupEnvelope(e.Data)})
		case membership.GroupTrace:
			v.out = append(v.out, node.Emit{Event: membership.Event{Node: v.self, Mono: v.now, Kind: membership.Kind(e.Kind), Text: e.Text}})
		}
	}
}

// Deadline is when a Timer input is due; 0: never.
func (v *Voter) Deadline() membership.Mono {
	d := v.group.Deadline()
	for _, p := range v.peers {
		if p.connected && p.until > v.now && (d == 0 || p.until < d) {
			d = p.until
		}
	}
	return d
}

// Fault says why the group takes no part any more; nil while it does.
func (v *Voter) Fault() error { return v.group.Fault() }

// Status is what the group says of itself.
func (v *Voter) Status() membership.GroupStatus { return v.group.Status() }

// Hears are the nodes that are heard.
func (v *Voter) Hears() []membership.NodeID { return slices.Clone(v.hears) }
