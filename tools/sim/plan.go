package sim

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/membership"
)

// plan is what a run is made of; it does not change while it runs.
type plan struct {
	nodes   int
	links   int // paths between each pair; the DLM uses the first alone
	timing  membership.Timing
	xdp     bool // the kernel answers probes, not the daemon
	spaces  []string
	wants   [][]bool // by host and lockspace: what programs want in the end
	manual  bool     // no fence device: an operator looks, cuts and acknowledges
	timeout time.Duration
	delay   time.Duration // of the network, typical
	loss    float64
	fsync   time.Duration // of a write, at most, when nothing is wrong
	slowRec time.Duration // of a kernel's recovery work, at most
	joinFor time.Duration // join_timeout
	removal time.Duration // of a comms entry, at most
	newer   []bool        // by host: Linux 6.18 or newer
}

var names = []string{"gfs", "lvm", "ocfs"}

func drawPlan(seed uint64) plan {
	r := stream(seed, "plan", 0)
	p := plan{nodes: [...]int{3, 3, 3, 3, 3, 3, 5, 5, 5, 5, 2, 2, 4, 4, 7, 1}[r.Intn(16)], links: 1 + r.Intn(4)/3}
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
	return p
}

func timing(name string, interval, dead time.Duration) membership.Timing {
	return membership.Timing{Profile: name, Interval: interval, DeadAfter: dead, LinkSettle: dead + 3*interval,
		StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second}
}

// pathLimit is the default of path_limit.
const pathLimit = 15 * time.Second

var (
	fast = timing("fast", 10*time.Millisecond, 40*time.Millisecond)
	lan  = timing("lan", 40*time.Millisecond, 200*time.Millisecond)
	safe = timing("safe", 400*time.Millisecond, 2*time.Second)
)

// String says it in one line.
func (p plan) String() string {
	return fmt.Sprintf("plan: %d nodes, %d links, profile %s, xdp %v, lockspaces %v, wants %v, manual %v, newer kernels %v, agent timeout %v, delay %v, loss %v, fsync %v, recovery %v",
		p.nodes, p.links, p.timing.Profile, p.xdp, p.spaces, p.wants, p.manual, p.newer, p.timeout, p.delay, p.loss, p.fsync, p.slowRec)
}

// config is the configuration file of every node.
func (p plan) config(self membership.NodeID) membership.Config {
	c := membership.Config{Cluster: "sim", Self: self, Timing: p.timing, StartupGrace: 15 * time.Second,
		JoinTimeout: p.joinFor, PathLimit: pathLimit, ManualFence: p.manual}
	for i := range p.nodes {
		id := membership.NodeID(i + 1)
		c.Nodes = append(c.Nodes, membership.Node{ID: id, Name: fmt.Sprintf("n%d", id)})
		if !p.manual {
			c.Devices = append(c.Devices, membership.Device{Nodes: []membership.NodeID{id}, Agent: "fence_sim", Timeout: p.timeout})
		}
	}
	return c
}
