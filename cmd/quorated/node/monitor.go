package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// Devices are asked whether they would work, one after the other, when nothing
// needs them. Who would be the first to fence a node asks its devices as often as
// the configuration says, everybody else less often: the way from there counts too.
const (
	monitorOthers = 5                // times as long between two questions
	monitorFirst  = 5 * time.Second  // after this run's start, and up to monitorSpan more
	monitorSpan   = 10 * time.Second //
	monitorAgain  = 5 * time.Second  // after a first failure, which may be nobody's fault
	monitorEach   = time.Second      // between two agents
	monitorFails  = 2                // so many failures in a row are told
)

// watch is what this node knows of one device of the configuration.
type watch struct {
	last  membership.Mono // when it answered, or failed to; 0: it was not asked
	count uint64
	fails int // in a row
	since membership.Mono
	err   string
	told  bool
}

// watch is what is known of the device at that place of the configuration.
func (n *Node) watch(i int) *watch {
	for len(n.watches) <= i {
		n.watches = append(n.watches, &watch{})
	}
	return n.watches[i]
}

// monitor asks the next device that is due.
func (n *Node) monitor() {
	if n.now < n.monitorAt || n.asking != 0 || !n.mayMonitor() {
		return
	}
	next, first := -1, membership.Mono(0)
	for i, d := range n.cfg.Devices {
		if due := n.monitorDue(i, d); due != 0 && n.now >= due && (next < 0 || due < first) {
			next, first = i, due
		}
	}
	if next >= 0 {
		n.asking = next + 1
		n.do(AskDevice{Device: next})
	}
}

// mayMonitor: nothing is being fenced, since some devices serve one at a time, and
// no lockspace changes.
func (n *Node) mayMonitor() bool {
	return n.Member() && n.takeover == nil && len(n.strays) == 0 && !n.changing() && !slices.ContainsFunc(n.st.Cases, func(c cluster.Case) bool { return c.Open() || c.Job != nil })
}

// monitorDue is when a device is to be asked; 0: never by this node.
func (n *Node) monitorDue(i int, d membership.Device) membership.Mono {
	if d.Monitor == 0 || len(d.Nodes) == 0 || slices.Contains(d.Nodes, n.cfg.Self) {
		return 0
	}
	w := n.watch(i)
	part := jitter(n.id.Instance, uint64(i), w.count)
	if w.last == 0 {
		return n.started.Add(monitorFirst + time.Duration(part*float64(monitorSpan)))
	}
	every := d.Monitor
	if !n.firstActor(d.Nodes[0]) {
		every *= monitorOthers
	}
	if w.fails > 0 && w.fails < monitorFails {
		every = min(every, monitorAgain)
	}
	return w.last.Add(time.Duration(float64(every) * (0.9 + 0.2*part)))
}

// jitter is a number from 0 to 1 that differs between nodes, devices and times.
func jitter(parts ...uint64) float64 {
	x := uint64(0)
	for _, p := range parts { // splitmix64
		x += p + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return float64(x>>11) / (1 << 53)
}

// unmonitor ends a question when something needs the devices, or the processor.
func (n *Node) unmonitor() {
	if n.asking > 0 && !n.mayMonitor() {
		n.asking = -1 // until the answer has come
		n.do(StopAsking{})
	}
}

// answered takes a device's answer.
func (n *Node) answered(in DeviceAnswered) {
	stopped := in.Stopped || n.asking < 0 // what it was asked for is not what it would be asked for now
	n.asking = 0
	n.monitorAt = n.now.Add(monitorEach)
	if stopped || in.Device < 0 || in.Device >= len(n.cfg.Devices) {
		return
	}
	d, w := n.cfg.Devices[in.Device], n.watch(in.Device)
	w.last, w.count = n.now, w.count+1
	if in.Answer.Err == "" {
		if w.told {
			n.emit(membership.Event{Kind: membership.KindDegraded, Subject: d.Nodes[0], Text: n.deviceName(d) + " works again, asked from here"})
		}
		w.fails, w.told, w.err = 0, false, ""
		return
	}
	if w.fails == 0 {
		w.since = n.now
	}
	w.fails, w.err = w.fails+1, in.Answer.Err
	if w.fails >= monitorFails && !w.told {
		w.told = true
		n.emit(membership.Event{Kind: membership.KindDegraded, Subject: d.Nodes[0], Text: n.deviceName(d) + " does not work, asked from here: " + w.err})
	}
}

func (n *Node) deviceName(d membership.Device) string {
	return fmt.Sprintf("fence device %s of %s (level %d)", d.Name(), n.cfg.Name(d.Nodes[0]), d.Level)
}

// deviceWarnings name the devices that do not work; what is wrong with those of
// several nodes is said once.
func (n *Node) deviceWarnings() (out []string) {
	said := map[string]bool{}
	for i, d := range n.cfg.Devices {
		w := n.watch(i)
		key := fmt.Sprint(d.Name(), d.Level, w.err)
		if !w.told || said[key] {
			continue
		}
		said[key] = true
		var names []string
		since := w.since
		for k, o := range n.cfg.Devices {
			if x := n.watch(k); x.told && fmt.Sprint(o.Name(), o.Level, x.err) == key {
				names = append(names, n.cfg.Name(o.Nodes[0]))
				since = min(since, x.since)
			}
		}
		out = append(out, fmt.Sprintf("fence device %s of %s (level %d) does not work, asked from here for %v: %s; correct its [[fence]] or repair it, and try it with `quorate fence test %s`",
			d.Name(), strings.Join(names, ", "), d.Level, n.now.Sub(since).Round(time.Second), w.err, names[0]))
	}
	return out
}
