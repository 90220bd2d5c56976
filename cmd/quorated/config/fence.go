package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent"
)

var (
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
	optionKey   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// SecretOption says whether the value of an agent's option must never be shown.
func SecretOption(key string) bool { return agent.SecretOption(key) }

// fences reads the [[fence]] sections. A section gives one Device for each of
// its nodes, with the node's plug and name filled in, so that nothing is left
// to expand when it matters.
func (p *parser) fences(tables []*table, c *Config) {
	covered := map[membership.NodeID]bool{}
	var of []*table // of each device
	faults := len(p.faults)
	for _, t := range tables {
		for _, d := range p.fence(t, c.Nodes) {
			covered[d.Nodes[0]] = true
			c.Devices = append(c.Devices, d)
			of = append(of, t)
		}
		t.done()
	}
	rebootsHalf(c, of)
	c.Alike = alike(*c)
	if c.ManualFence || c.Group == GroupStatic || len(c.Nodes) < 2 || len(p.faults) > faults {
		return // with a fault in them it is not known whom they cut off
	}
	for _, n := range c.Nodes {
		if n.ID != 0 && !covered[n.ID] {
			p.fault("fence", `no [[fence]] device can cut off node %q: write [[fence]] with nodes = [%q], agent = "fence_…" and its options, or fencing = "manual" under [cluster] if an operator shall confirm each death by hand`,
				n.Name, n.Name)
		}
	}
}

// byHand are the nodes that no device cuts off, by name, and those that one does.
func byHand(c Config) (without, with []string) {
	for _, n := range c.Nodes {
		if slices.ContainsFunc(c.Devices, func(d membership.Device) bool { return slices.Contains(d.Nodes, n.ID) }) {
			with = append(with, n.Name)
		} else {
			without = append(without, n.Name)
		}
	}
	return without, with
}

// manualWarning says whose death waits for an operator. Devices that are there are used.
func manualWarning(c Config) string {
	without, with := byHand(c)
	switch {
	case len(with) == 0:
		return "fencing is manual: the storage of a dead node stays locked until it has booted again or somebody runs `quorate fence ack` for it; configure [[fence]] devices"
	case len(without) == 0:
		return `fencing = "manual", and every node has a [[fence]] device: they are used, and an operator is needed where they fail, as without that line`
	}
	names := strings.Join(without, ", ")
	return fmt.Sprintf("fencing is manual for %s, without a [[fence]] device: when such a node dies its storage stays locked until it has booted again or somebody runs `quorate fence ack` for it; the devices of %s are used",
		names, strings.Join(with, ", "))
}

func (p *parser) fence(t *table, nodes []membership.Node) []membership.Device {
	program := t.str("agent", "")
	switch {
	case program == "":
		t.fault("agent", `[[fence]] without an agent: write agent = "fence_ipmilan" or another program of fence-agents`)
	case strings.ContainsRune(program, '/') && !filepath.IsAbs(program), strings.ContainsRune(program, 0):
		t.fault("agent", "agent = %q: write the name of a program (fence_…) or an absolute path", program)
	}
	level, _ := t.number("level", 1, 1, 9)
	of := membership.Device{Agent: program, Level: int(level), Timeout: t.dur("timeout", 30*time.Second, time.Second, 10*time.Minute), SkipVerify: !t.boolean("verify", true),
		Delay: t.dur("delay", 0, 0, maxFenceDelay), RandomDelay: t.dur("random_delay", 0, 0, maxFenceDelay), Unfence: t.boolean("unfence", false), Monitor: t.durOrOff("monitor", time.Minute, 5*time.Second, 24*time.Hour)}
	if of.Unfence && of.Local() {
		t.fault("unfence", "unfence = true with %s: its action=on registers the machine that it runs on, which is the leader and not the node that boots: register each node by itself before it starts quorated, and remove unfence, or use a device that is switched from elsewhere, as a power switch or the ports of the array", of.Name())
	}
	options := p.options(t)
	victims := p.victims(t, nodes)
	plugs := p.plugs(t, nodes, victims)
	out := make([]membership.Device, 0, len(victims))
	for _, n := range victims {
		opts := p.expand(t, options, n)
		if plug, ok := plugs[n.ID]; ok {
			opts["plug"] = plug
		}
		d := of
		d.Nodes, d.Options = []membership.NodeID{n.ID}, opts
		out = append(out, d)
	}
	return out
}

// maxFenceDelay is the longest delay before off: everybody waits for it.
const maxFenceDelay = 5 * time.Minute

// durOrOff is dur, and 0 where off was written in its place.
func (t *table) durOrOff(key string, def, lo, hi time.Duration) time.Duration {
	if s, ok := t.m[key].(string); ok && (s == "off" || s == "0" || s == "0s") {
		t.known = append(t.known, key)
		return 0
	}
	return t.dur(key, def, lo, hi)
}

// rebootsHalf refuses reboot for one of several devices of a node in one level:
// the first would be on again before the second is off.
func rebootsHalf(c *Config, of []*table) {
	for i, d := range c.Devices {
		same := func(o membership.Device) bool { return o.Nodes[0] == d.Nodes[0] && o.Level == d.Level }
		if d.Options["action"] != "reboot" || !slices.ContainsFunc(c.Devices[:i], same) && !slices.ContainsFunc(c.Devices[i+1:], same) {
			continue
		}
		of[i].fault("options.action", `action = "reboot" for node %q, which has several devices of level %d: with two power supplies the first is on again before the second is off, and nothing was cut: `+
			`remove action (off is the default), or give one device another level`, c.Name(d.Nodes[0]), d.Level)
	}
}

// alike are devices of several nodes that are given the same options for each: nothing
// tells the agent whom to cut off, and it may cut off another one.
func alike(c Config) (out []string) {
	for i, d := range c.Devices {
		same := func(o membership.Device) bool {
			return o.Nodes[0] != d.Nodes[0] && o.Agent == d.Agent && maps.Equal(o.Options, d.Options)
		}
		if j := slices.IndexFunc(c.Devices, same); j > i {
			out = append(out, fmt.Sprintf(`%s is given the same options for %s and for %s: nothing tells it which of them to cut off, and it switches off the wrong machine: `+
				`write plugs = { … }, or {name} or {id} in an option (plug = "{name}")`, filepath.Base(d.Agent), c.Name(d.Nodes[0]), c.Name(c.Devices[j].Nodes[0])))
		}
	}
	return out
}

// boolean returns true or false.
func (t *table) boolean(key string, def bool) bool {
	v, ok := t.get(key)
	if !ok {
		return def
	}
	b, ok := v.(bool)
	if !ok {
		t.fault(key, "%s is %s: write true or false without quotes", key, kind(v))
		return def
	}
	return b
}

func (p *parser) options(t *table) map[string]string {
	options := t.pairs("options")
	for _, k := range slices.Sorted(maps.Keys(options)) {
		at := "options." + k
		switch v := options[k]; {
		case !optionKey.MatchString(k):
			t.fault(at, "option %q cannot be given to an agent: write a name of letters, digits, _ and -", k)
		case strings.ContainsAny(v, "\n\r\x00"):
			t.fault(at, "option %q has a line break in it, and agents read one option a line: write it on one line", k)
		case secretFile(k):
			p.secretFile(t, k, options)
		case k == "action" && v != "off" && v != "reboot":
			t.fault(at, `action = %q: write action = "off" (checked afterwards with the agent's status) or "reboot"`, v)
		}
	}
	return options
}

func secretFile(key string) bool { _, ok := agent.SecretFile(key); return ok }

// secretFile checks an option that names the file with another one's value.
func (p *parser) secretFile(t *table, key string, options map[string]string) {
	option, _ := agent.SecretFile(key)
	at := "options." + key
	if _, both := options[option]; both {
		t.fault(at, "options %q and %q are both given: remove one", option, key)
	}
	if path := options[key]; !filepath.IsAbs(path) {
		t.fault(at, `%s = %q is not an absolute path: write %s = "/etc/quorate/…", a file of root's, mode 0600, with the value on its only line`, key, path, key)
	}
}

// victims returns the nodes of a section, in the order written.
func (p *parser) victims(t *table, nodes []membership.Node) []membership.Node {
	words := t.words("nodes", true)
	if _, given := t.m["nodes"]; !given || words != nil && len(words) == 0 {
		t.fault("nodes", `[[fence]] without nodes: write nodes = ["…"], the nodes that this device can cut off`)
	}
	var out []membership.Node
	for _, w := range words {
		n, ok := lookup(nodes, w)
		if !ok {
			t.fault("nodes", "there is no node %q%s: write the name or id of a [[node]]", w, suggest(w, names(nodes)))
			continue
		}
		if slices.ContainsFunc(out, func(o membership.Node) bool { return o.ID == n.ID && o.Name == n.Name }) {
			t.fault("nodes", "node %q is listed twice: remove one", w)
			continue
		}
		out = append(out, n)
	}
	return out
}

func (p *parser) plugs(t *table, nodes, victims []membership.Node) map[membership.NodeID]string {
	out := map[membership.NodeID]string{}
	plugs := t.pairs("plugs")
	for _, k := range slices.Sorted(maps.Keys(plugs)) {
		at := "plugs." + k
		n, ok := lookup(nodes, k)
		if !ok {
			t.fault(at, "plugs: there is no node %q%s: write the name or id of a [[node]]", k, suggest(k, names(nodes)))
			continue
		}
		if !slices.ContainsFunc(victims, func(v membership.Node) bool { return v.ID == n.ID }) {
			t.fault(at, "plugs: node %q is not in nodes of this section: add it there", k)
		}
		if strings.ContainsAny(plugs[k], "\n\r\x00") {
			t.fault(at, "the plug of %q has a line break in it: write it on one line", k)
		}
		out[n.ID] = plugs[k]
	}
	if len(plugs) == 0 {
		return out
	}
	for _, v := range victims {
		if _, ok := out[v.ID]; !ok {
			t.fault("plugs", `plugs has none for node %q: write %s = "…"`, v.Name, v.Name)
		}
	}
	return out
}

// expand fills {name}, {node} and {id} in, except in secrets; a file of one is none.
func (p *parser) expand(t *table, options map[string]string, n membership.Node) map[string]string {
	out := make(map[string]string, len(options)+1)
	for _, k := range slices.Sorted(maps.Keys(options)) {
		v := options[k]
		if SecretOption(k) && !secretFile(k) {
			out[k] = v
			continue
		}
		out[k] = placeholder.ReplaceAllStringFunc(v, func(m string) string {
			switch m {
			case "{name}", "{node}":
				return n.Name
			case "{id}":
				return idString(n.ID)
			}
			t.fault("options."+k, "option %q: %s is not known: write {name} or {id}", k, m)
			return m
		})
	}
	return out
}

func lookup(nodes []membership.Node, word string) (membership.Node, bool) {
	for _, n := range nodes {
		if word != "" && (n.Name == word || idString(n.ID) == word) {
			return n, true
		}
	}
	return membership.Node{}, false
}

func names(nodes []membership.Node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
}

func idString(id membership.NodeID) string { return strconv.FormatUint(uint64(id), 10) }

// FindNode returns the configured node of that name or id.
func (c Config) FindNode(word string) (membership.Node, error) {
	if n, ok := lookup(c.Nodes, word); ok {
		return n, nil
	}
	return membership.Node{}, fmt.Errorf("there is no node %q%s: the nodes are %s", word, suggest(word, names(c.Nodes)), strings.Join(names(c.Nodes), ", "))
}
