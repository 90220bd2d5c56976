package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// sheet is the text of a configuration here. The note makes each one that is proposed another.
type sheet struct {
	Note   string
	Config membership.Config
}

func (s sheet) text() string {
	s.Config.Self = 0
	b, err := json.Marshal(s)
	if err != nil {
		panic("sim: a configuration that cannot be encoded: " + err.Error())
	}
	return string(b)
}

func parseSheet(text string) (membership.Config, error) {
	var s sheet
	err := json.Unmarshal([]byte(text), &s)
	return s.Config, err
}

// agreedText is what a host keeps of the configuration that was agreed on.
type agreedText struct {
	version uint64
	cluster string
	text    string
}

// conf is what a daemon that starts works by: what was agreed on, as far as the host
// knows, else its file.
func (h *host) conf(clusterID string) (membership.Config, *node.Replicated) {
	r := &node.Replicated{Text: h.file, Parse: parseSheet}
	if h.agreed.text != "" {
		r.Text = h.agreed.text
		if h.agreed.cluster == clusterID {
			r.Version = h.agreed.version
		}
	}
	c, err := parseSheet(r.Text)
	if err != nil {
		h.w.violate("machine", "node %d has a configuration that cannot be read: %v", h.id, err)
	}
	c.Self = h.id
	return c, r
}

// configured says whether the newest version that any node works by has a host.
func (c *checker) configured(id membership.NodeID) bool {
	if c.newest == 0 {
		return c.w.host(id).file != ""
	}
	_, ok := c.texts[c.newest].cfg.Node(id)
	return ok
}

// version is one that some node works by.
type version struct {
	text string
	cfg  membership.Config
}

// refusal is a text that one life of a node has refused.
type refusal struct {
	who  membership.Incarnation
	text string
}

// inForce: all nodes that work by a version have the same text, versions do not go back
// where the disk does not, and nobody works by what it has refused since it became a member.
func (c *checker) inForce(d *daemon, e node.Reconfigure) {
	h := d.h
	was, ok := c.texts[e.Version]
	if ok && was.text != e.Text {
		c.w.violate("config", "node %d has another text as version %d than the first that had it", h.id, e.Version)
	}
	if d.worksBy >= e.Version {
		c.w.violate("config", "node %d goes from version %d to %d", h.id, d.worksBy, e.Version)
	}
	if d.n != nil && d.n.Member() && c.refusals[refusal{d.n.Self(), e.Text}] {
		c.w.violate("config", "node %d works by version %d, which it has refused", h.id, e.Version)
	}
	c.texts[e.Version] = version{e.Text, e.Config}
	c.newest = max(c.newest, e.Version)
}

// checkConfig answers whether a host can work by a text: it cannot where an agent that
// the text names is not installed.
func (d *daemon) checkConfig(e node.CheckConfig) {
	why := ""
	if c, err := parseSheet(e.Text); err != nil {
		why = err.Error()
	} else if h := d.h; h.lacks != "" && slices.ContainsFunc(c.Devices, func(x membership.Device) bool { return x.Agent == h.lacks }) {
		why = h.lacks + " is not installed"
	}
	d.w.after(d.h.r.Between(time.Millisecond, 60*time.Millisecond), func() {
		if d.dead {
			return
		}
		if why != "" && d.n.Member() {
			d.w.check.refusals[refusal{d.n.Self(), e.Text}] = true
		}
		d.give(node.ConfigChecked{Ask: e.Ask, Why: why})
	})
}

// reconfigure is what an edge does with a version that is in force.
func (d *daemon) reconfigure(e node.Reconfigure) {
	d.h.tracef("version %d is in force", e.Version)
	d.w.check.inForce(d, e)
	d.worksBy, d.cfg = e.Version, e.Config
	d.h.agreed = agreedText{e.Version, d.group.Status().ClusterID, e.Text}
	d.w.after(0, d.w.net.changed)
}

// knows says whether a daemon's configuration has a node.
func (d *daemon) knows(id membership.NodeID) bool {
	_, ok := d.cfg.Node(id)
	return ok
}

// strangers: the configuration of one of two daemons does not have the other.
func strangers(a, b *host) bool {
	if a.witness || b.witness {
		return false // a node dials the one that it knows of
	}
	return a.d != nil && b.d != nil && (!a.d.knows(b.id) || !b.d.knows(a.id))
}

// propose has an operator on a host ask for a configuration.
func (h *host) propose(what string, replace []membership.NodeID, edit func(*membership.Config) bool, done func()) {
	if h.d == nil || h.d.n == nil {
		return
	}
	now, ok := h.d.n.ConfigVersion(0)
	if !ok {
		return
	}
	c, err := parseSheet(now.Text)
	if err != nil || !edit(&c) {
		return
	}
	h.w.notes++
	text := sheet{Note: fmt.Sprint(h.w.notes), Config: c}.text()
	h.tracef("operator: change the configuration: %s", what)
	h.ask(node.Operator{Command: "config-apply", Text: text, Version: now.Version, Nodes: replace, Who: "operator"}, func(r node.Reply) {
		if r.Err == "" && done != nil {
			done()
		}
	})
}

// add has another host configured, and boots it when it is.
func (h *host) add(v *host) {
	h.propose("add node "+itoa(uint64(v.id)), nil, func(c *membership.Config) bool {
		if _, ok := c.Node(v.id); ok {
			return false
		}
		c.Nodes = append(c.Nodes, membership.Node{ID: v.id, Name: fmt.Sprintf("n%d", v.id), Votes: 1})
		slices.SortFunc(c.Nodes, func(a, b membership.Node) int { return int(a.ID) - int(b.ID) })
		for _, x := range c.Devices {
			if x.Nodes[0] == 1 {
				x.Nodes = []membership.NodeID{v.id}
				c.Devices = append(c.Devices, x)
			}
		}
		return true
	}, func() { v.installed() })
}

// installed: a host that is configured gets the file, and boots.
func (h *host) installed() {
	if h.file == "" && h.w.check.newest != 0 {
		h.file = h.w.check.texts[h.w.check.newest].text
		h.powerOnAfter(h.r.Between(100*time.Millisecond, 3*time.Second))
	}
}

// remove has a host taken out, which is switched off and emptied then.
func (h *host) remove(v *host) {
	h.propose("remove node "+itoa(uint64(v.id)), nil, func(c *membership.Config) bool {
		n := len(c.Nodes)
		c.Nodes = slices.DeleteFunc(c.Nodes, func(x membership.Node) bool { return x.ID == v.id })
		c.Devices = slices.DeleteFunc(c.Devices, func(x membership.Device) bool { return slices.Contains(x.Nodes, v.id) })
		return len(c.Nodes) == n-1 && n > 2
	}, v.retire)
}

// retire ends a host that is configured no more.
func (h *host) retire() {
	if h.w.check.configured(h.id) {
		return // it was added again meanwhile
	}
	h.powerCut("it was removed")
	h.wipe()
	h.file = ""
}

// replace has a host be another machine, with an empty disk.
func (h *host) replace(v *host) {
	if v.on {
		return
	}
	h.propose("replace node "+itoa(uint64(v.id)), []membership.NodeID{v.id}, func(*membership.Config) bool { return true }, func() {
		if !v.on {
			v.wipe()
			v.machines++
		}
	})
}

// undrain takes all drains back.
func (w *world) undrain() {
	for _, h := range w.hosts {
		if h.d == nil || h.d.n == nil || !h.d.n.Member() {
			continue
		}
		for _, x := range h.d.n.Status(h.mono(), nil).Waits {
			if strings.HasPrefix(x.What, "drain of") {
				h.ask(node.Operator{Command: "undrain", Node: x.Owner, Who: "operator"}, func(node.Reply) {})
			}
		}
	}
}

// reconfigure is an operator who changes something while other things go wrong.
func (f *faults) reconfigure() {
	h, v := f.host(), f.host()
	t := [...]membership.Timing{safe, lan, fast, timing("vm", time.Second, 10*time.Second)}[f.r.Intn(4)]
	longer := f.w.plan.timeout + f.r.Between(0, 3*time.Second)
	switch what := f.r.Intn(8); {
	case what < 2:
		h.propose("profile "+t.Profile, nil, func(c *membership.Config) bool { c.Timing = t; return true }, nil)
	case what == 2:
		h.propose("the agents' timeout", nil, func(c *membership.Config) bool {
			for i := range c.Devices {
				c.Devices[i].Timeout = longer
			}
			return !c.ManualFence
		}, nil)
	case what == 3:
		v.lacks = "fence_other"
		h.propose("an agent that one node lacks", nil, func(c *membership.Config) bool {
			for i := range c.Devices {
				c.Devices[i].Agent = "fence_other"
			}
			return !c.ManualFence
		}, nil)
		f.temporary(f.log(time.Second, 20*time.Second), func() { v.lacks = "" })
	case what == 4 && f.w.plan.spare() && !f.wiped:
		f.wiped = true
		h.replace(v)
	case what == 5:
		f.drain(h, v)
	case f.w.plan.reserve > 0: // no rule counts on how many there are
		f.addOrRemove(h)
	}
}

// addOrRemove adds the host in reserve, or takes out one that is away or leaves.
func (f *faults) addOrRemove(h *host) {
	for _, v := range f.w.hosts {
		if v.file == "" {
			h.add(v)
			return
		}
	}
	if v := f.host(); v != h && !f.wiped {
		f.wiped = true // its disk is emptied
		f.drain(h, v)
		f.w.after(f.r.Between(0, 12*time.Second), func() {
			if f.w.healed == 0 {
				h.remove(v)
			}
		})
	}
}

// drain has a node asked to leave, by its programs, too.
func (f *faults) drain(h, v *host) {
	h.tracef("operator: drain node %d", v.id)
	h.ask(node.Operator{Command: "drain", Node: v.id, Who: "operator"}, func(r node.Reply) {
		if r.Err == "" && f.w.healed == 0 && f.r.Chance(0.7) {
			clear(v.wants)
			if v.on {
				v.kern.programs()
			}
		}
	})
}

// worksBy says which member does not work by a version; empty: all do.
func (c *checker) worksBy(v uint64) string {
	for _, h := range c.w.hosts {
		if h.d != nil && h.d.n != nil && h.d.n.Member() && h.d.worksBy != v {
			return fmt.Sprintf("node %d works by version %d", h.id, h.d.worksBy)
		}
	}
	if c.newest < v {
		return "nobody has it"
	}
	return ""
}

// configure does what a line of a story says about the configuration.
func (t *teller) configure(l line, h *host) string {
	if l.words[0] == "lacks" {
		h.lacks = "fence_other"
		return ""
	}
	if l.words[0] == "reconfigure" {
		h.propose(l.words[2], nil, func(c *membership.Config) bool {
			if tm, ok := map[string]membership.Timing{"safe": safe, "lan": lan, "fast": fast}[l.words[2]]; ok {
				c.Timing = tm
				return true
			}
			for i := range c.Devices {
				c.Devices[i].Agent = "fence_other"
			}
			return true
		}, nil)
		return ""
	}
	v := t.node(l.words[2])
	if v == nil {
		return "no such node"
	}
	switch l.words[0] {
	case "add":
		h.add(v)
	case "remove":
		h.remove(v)
	case "replace":
		h.replace(v)
	case "drain", "undrain":
		h.ask(node.Operator{Command: l.words[0], Node: v.id, Who: "story"}, func(node.Reply) {})
	}
	return ""
}
