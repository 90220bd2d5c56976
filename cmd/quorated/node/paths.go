package node

import (
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// resendMax is the longest time between two attempts of TCP (TCP_RTO_MAX, net/tcp.h).
const resendMax = 2 * time.Minute

// looksLeast is how many looks in a row make sure that it is no matter of moments: where a
// look takes long there may be few of them in PathLimit.
const looksLeast = 3

// vain are data of the DLM that a peer leaves unanswered.
type vain struct {
	since  membership.Mono
	last   membership.Mono // look that found them
	looks  int
	silent membership.Mono // when it answered no probe either; 0: it always did
}

// until is when they make a cut of the path. A peer that was silent has missed them, and
// gets them again after as long as it missed them at most: TCP doubles the time between two attempts.
func (v *vain) until(limit time.Duration) membership.Mono {
	if v.silent == 0 {
		return v.since.Add(limit)
	}
	return v.silent.Add(min(v.silent.Sub(v.since), resendMax) + limit)
}

// paths notes which peers leave data of this kernel's DLM unanswered (S10).
func (n *Node) paths(in Unanswered) {
	for id := range n.unanswered {
		if !slices.Contains(in.Peers, id) {
			delete(n.unanswered, id)
		}
	}
	for _, id := range in.Peers {
		v := n.unanswered[id]
		if v == nil {
			v = &vain{since: n.now}
			n.unanswered[id] = v
		}
		v.last = n.now
		v.looks++
	}
}

// pathsMissed: this node did not look for so long, and does not know what was answered meanwhile.
func (n *Node) pathsMissed(gap time.Duration) {
	for _, v := range n.unanswered {
		v.since = min(v.since.Add(gap), n.now)
		if v.silent != 0 {
			v.silent = min(v.silent.Add(gap), n.now)
		}
	}
}

// blocked are the peers to which the DLM's path is as good as cut: they have left data
// unanswered for PathLimit, under a lockspace that runs here and there, though they
// answer probes on that path. What a change waits for has limits of its own.
func (n *Node) blocked(samples []membership.Sample) (out []membership.NodeID) {
	for _, c := range n.cfg.Nodes {
		v := n.unanswered[c.ID]
		if v == nil {
			continue
		}
		if n.now.Sub(heardOnPath(samples, c.ID, n.cfg.AnyLink)) >= n.cfg.Timing.DeadAfter {
			v.silent = n.now
		}
		if v.looks >= looksLeast && v.last >= v.until(n.cfg.PathLimit) && n.local.RunsWith(n.set, n.cfg.Self, c.ID) {
			out = append(out, c.ID)
		}
	}
	return out
}

// heardOnPath is a peer's last answer on the path of the DLM: on link 0, or where it has
// none, or any will do, on any.
func heardOnPath(samples []membership.Sample, id membership.NodeID, anyLink bool) (at membership.Mono) {
	zero := !anyLink && slices.ContainsFunc(samples, func(s membership.Sample) bool { return s.Peer == id && s.Link == 0 })
	for _, s := range samples {
		if s.Peer == id && (s.Link == 0 || !zero) {
			at = max(at, s.Heard)
		}
	}
	return at
}
