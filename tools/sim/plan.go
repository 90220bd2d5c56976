package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// plan is what a run is made of; it does not change while it runs.
type plan struct {
	nodes   int
	witness bool // there is one, which the nodes learn of when they have formed a cluster
	links   int  // paths between each pair; the DLM uses the first alone,
	stable  bool // or, with a stable address, whichever carries
	timing  membership.Timing
	xdp     bool // the kernel answers probes, not the daemon
	spaces  []string
	wants   [][]bool // by host and lockspace: what programs want in the end
	fabric  bool     // devices have to be switched on for a node that boots
	manual  bool     // no fence device: an operator looks, cuts and acknowledges
	timeout time.Duration
	delay   time.Duration // of the network, typical
	loss    float64
	fsync   time.Duration // of a write, at most, when nothing is wrong
	slowRec time.Duration // of a kernel's recovery work, at most
	joinFor time.Duration // join_timeout
	removal time.Duration // of a comms entry, at most
	newer   []bool        // by host: Linux 6.18 or newer
	rules   membership.Quorum
	reserve int   // of the nodes, the last so many are not configured at first
	votes   []int // of each node; nil: one
	startup membership.Startup
}

var names = []string{"gfs", "lvm", "ocfs"}

func drawPlan(seed uint64) plan {
	r := stream(seed, "plan", 0)
	p := plan{nodes: [...]int{3, 3, 3, 3, 3, 5, 5, 5, 2, 2, 2, 2, 2, 4, 4, 4, 4, 7, 6, 1}[r.Intn(20)], links: 1 + r.Intn(4)/3}
	p.timing = [...]membership.Timing{safe, safe, safe, lan, lan, fast}[r.Intn(6)]
	p.xdp = r.Chance(0.7)
	p.spaces = names[:1+r.Intn(3)]
	for range p.nodes {
		ws := make([]bool, len(p.spaces))
		for k := range ws {
			ws[k] = r.Chance(0.85)
		}
		p.wants = append(p.wants, ws)
	}
	p.manual = r.Chance(0.12)
	p.timeout = r.Between(time.Second, 4*time.Second)
	p.delay = [...]time.Duration{50 * time.Microsecond, 150 * time.Microsecond, time.Millisecond, 4 * time.Millisecond}[r.Intn(4)]
	p.loss = [...]float64{0, 0, 0.001, 0.02}[r.Intn(4)]
	p.fsync = [...]time.Duration{100 * time.Microsecond, 2 * time.Millisecond, 15 * time.Millisecond}[r.Intn(3)]
	p.slowRec = [...]time.Duration{30 * time.Millisecond, 30 * time.Millisecond, 800 * time.Millisecond}[r.Intn(3)]
	p.removal = [...]time.Duration{20 * time.Millisecond, 20 * time.Millisecond, 2500 * time.Millisecond}[r.Intn(3)]
	p.joinFor = 10 * time.Second
	share := [...]float64{0, 0.5, 1, 1}[r.Intn(4)]
	for range p.nodes {
		p.newer = append(p.newer, r.Chance(share))
	}
	p.rules = drawRules(r, p.nodes)
	if r.Chance(0.3) && p.nodes > 2 && p.spare() && !p.rules.WaitForAll {
		p.reserve = 1
		p.nodes++
		p.wants = append(p.wants, slices.Repeat([]bool{true}, len(p.spaces)))
		p.newer = append(p.newer, r.Chance(share))
	}
	chance := [...]float64{0.05, 0.6}[(p.nodes+1)%2] // it is for an even number of nodes
	contradicts := p.rules.LastManStanding || p.rules.TieBreaker.Mode != membership.TieNone
	p.witness = p.nodes > 1 && p.reserve == 0 && !contradicts && stream(seed, "witness", 0).Chance(chance)
	p.fabric = r.Chance(0.25)
	p.stable = p.links > 1 && stream(seed, "stable", 0).Chance(0.5)
	return p
}

// fewer: by the rules fewer than a majority of all nodes may go on.
func (p plan) fewer() bool {
	q := p.rules
	return q.TwoNode || q.LastManStanding || q.LeaveRemoves || q.TieBreaker.Mode != membership.TieNone || p.votes != nil
}

// spare: a majority of those who vote at any time has the log besides one.
func (p plan) spare() bool {
	q := p.rules
	return p.nodes > 2 && !q.LeaveRemoves && !q.LastManStanding && q.TieBreaker.Mode == membership.TieNone
}

// drawRules are the quorum policy of a run, mostly one that lets fewer than a quorum go on.
func drawRules(r *rng, nodes int) (q membership.Quorum) {
	q.WaitForAll = r.Chance(0.3)
	q.LeaveRemoves = r.Chance(0.2)
	switch {
	case nodes == 2:
		q.TwoNode = r.Chance(0.8)
		q.WaitForAll = q.WaitForAll || q.TwoNode
	case nodes > 2 && r.Chance(0.3):
		q.LastManStanding, q.LastManWindow = true, r.Between(time.Second, 5*time.Second)
	}
	if nodes%2 == 0 && !q.TwoNode && r.Chance(0.6) {
		q.TieBreaker.Mode = [...]membership.TieMode{membership.TieLowest, membership.TieHighest, membership.TieList}[r.Intn(3)]
		q.TieBreaker.List = []membership.NodeID{2, 1}
	}
	return q
}

func timing(name string, interval, dead time.Duration) membership.Timing {
	return membership.Timing{Profile: name, Interval: interval, DeadAfter: dead, LinkSettle: dead + 3*interval,
		StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second}
}

// pathLimit is the default of path_limit.
const pathLimit = 15 * time.Second

var (
	fast = timing("fast", 10*time.Millisecond, 40*time.Millisecond)
	lan  = timing("lan", 38*time.Millisecond, 190*time.Millisecond)
	safe = timing("safe", 400*time.Millisecond, 2*time.Second)
)

// String says it in one line.
func (p plan) String() string {
	return fmt.Sprintf("plan: %d nodes, witness %v, %d links, stable %v, profile %s, xdp %v, lockspaces %v, wants %v, manual %v, newer kernels %v, agent timeout %v, delay %v, loss %v, fsync %v, recovery %v, quorum %+v, in reserve %d",
		p.nodes, p.witness, p.links, p.stable, p.timing.Profile, p.xdp, p.spaces, p.wants, p.manual, p.newer, p.timeout, p.delay, p.loss, p.fsync, p.slowRec, p.rules, p.reserve)
}

// config is the configuration file of every node.
func (p plan) config(self membership.NodeID) membership.Config {
	c := membership.Config{Cluster: "sim", Self: self, Timing: p.timing, JoinGrace: 15 * time.Second, StartupFencing: p.startup,
		JoinTimeout: p.joinFor, PathLimit: pathLimit, ManualFence: p.manual, Quorum: p.rules, AnyLink: p.stable}
	for i := range p.nodes - p.reserve {
		id := membership.NodeID(i + 1)
		votes := 1
		if p.votes != nil {
			votes = p.votes[i]
		}
		c.Nodes = append(c.Nodes, membership.Node{ID: id, Name: fmt.Sprintf("n%d", id), Votes: votes})
		if !p.manual {
			c.Devices = append(c.Devices, membership.Device{Nodes: []membership.NodeID{id}, Agent: "fence_sim", Timeout: p.timeout, Monitor: time.Minute, Unfence: p.fabric})
		}
	}
	return c
}
