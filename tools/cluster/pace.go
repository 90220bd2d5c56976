package cluster

import (
	"fmt"
	"strings"
	"time"
)

// bootNominal is how long a node takes to boot for each of those that boot together, on
// a machine with two cores that the times in stories are meant for. A machine that is a
// guest on a busy host takes up to five times as long, and then everything in the nodes
// does: a node that boots beside others keeps them from running for longer than a
// dead_after of half a second, and an agent of Python does not end in three.
const (
	bootNominal = 900 * time.Millisecond
	maxPace     = 5.0
)

// setPace measures this machine by the boot of all nodes together.
func (c *Cluster) setPace() {
	c.pace = 1
	if !c.opt.Patient || c.opt.Systemd {
		return
	}
	var longest time.Duration
	for _, n := range c.Lab.Nodes() {
		if !strings.HasPrefix(n.Kernel(), "uml-") {
			return // an emulated one takes its time on every machine
		}
		longest = max(longest, n.BootTook())
	}
	c.pace = paceOf(longest, len(c.Lab.Nodes()))
	if c.pace > 1 {
		fmt.Fprintf(c.opt.Log, "cluster: this machine is slow: %d nodes took %.1f s to boot and not %.1f: what the story waits for takes %.1f times as long\n",
			len(c.Lab.Nodes()), longest.Seconds(), (bootNominal * time.Duration(len(c.Lab.Nodes()))).Seconds(), c.pace)
	}
}

// paceOf is how many times longer than nominal a boot of so many nodes took: 1 for what
// varies anyway.
func paceOf(took time.Duration, nodes int) float64 {
	pace := took.Seconds() / (bootNominal.Seconds() * float64(max(nodes, 1)))
	if pace < 1.5 {
		return 1
	}
	return min(pace, maxPace)
}

// Stretch is a time of a story on this machine: longer with Options.Patient where the
// nodes took longer than usual to boot, so that what is asserted is what the cluster does
// and not how busy the machine's host is. Before Up it is the time itself.
func (c *Cluster) Stretch(d time.Duration) time.Duration {
	if c.pace <= 1 {
		return d
	}
	return time.Duration(float64(d) * c.pace).Round(10 * time.Millisecond)
}
