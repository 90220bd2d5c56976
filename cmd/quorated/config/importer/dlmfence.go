package importer

import (
	"strings"
)

const whyUnfence = "not carried over: where the device cuts a node from the storage and leaves it its power, write unfence = true in its [[fence]]"

// dlmFence reads device, connect, unfence and fence_all lines. dlm_controld takes
// the devices of a node in the order of the file; those with the same name before
// a colon that follow each other must all succeed.
func (p *plan) dlmFence(lines []dlmLine) {
	var cur *device
	var all []connection
	seen := map[string]bool{}
	for _, l := range lines {
		switch l.word {
		case "device":
			cur = &device{pos: l.pos, name: l.names[0], agent: l.names[1], options: l.args}
			if seen[cur.name] {
				p.fault(l.pos, "device %s is there twice: give each its own name; parallel ones are %s:1 and %s:2", clean(cur.name), clean(cur.name), clean(cur.name))
			}
			seen[cur.name] = true
			p.checkDevice(cur)
			p.bridge(cur)
		case "connect":
			if c, ok := p.connect(l, cur); ok {
				all = append(all, c)
			}
		case "unfence":
			if cur == nil || l.new || l.names[0] != cur.name {
				p.fault(l.pos, "unfence %s does not follow its device's lines: write it there, without an empty line between", clean(l.names[0]))
				continue
			}
			p.note(l.pos, "unfence "+clean(l.names[0]), whyUnfence)
			p.do("write unfence = true in the [[fence]] of %s if it leaves a node its power (%s)", clean(l.names[0]), l.pos)
		}
	}
	for _, l := range lines {
		if l.word == "fence_all" {
			all = append(all, p.fenceAll(l, len(seen) > 0)...)
		} else if l.word == "unfence_all" {
			p.note(l.pos, "unfence_all", whyUnfence)
		}
	}
	p.levels(all)
}

func (p *plan) checkDevice(d *device) {
	if !usable(d.agent) {
		p.fault(d.pos, "the agent of device %s is neither a program's name nor an absolute path: write fence_… or /…", clean(d.name))
	}
	p.checkOptions(d.options)
}

// connect reads a connect line, which must stand below its device.
func (p *plan) connect(l dlmLine, cur *device) (connection, bool) {
	none := connection{}
	if cur == nil || l.new || l.names[0] != cur.name {
		p.fault(l.pos, "connect %s does not follow its device's line: dlm_controld does not use it; write it below device %s, without an empty line between", clean(l.names[0]), clean(l.names[0]))
		return none, false
	}
	text, ok := l.arg("node")
	if !ok {
		p.fault(l.pos, "connect %s does not say for which node: write node=ID, a nodeid of corosync.conf", clean(l.names[0]))
		return none, false
	}
	id, ok := p.whole(l.pos, "node", text, 1, maxID)
	if !ok {
		return none, false
	}
	p.checkOptions(l.args)
	n := p.byID(id)
	if n == nil && p.broken {
		return none, false // not all nodes could be read: that is said already
	}
	if n == nil {
		p.fault(l.pos, "connect %s: there is no node with nodeid %d in corosync.conf: correct it, or remove the line", clean(l.names[0]), id)
		return none, false
	}
	if _, skip := bridges[base(cur.agent)]; skip {
		return none, false
	}
	return connection{pos: l.pos, node: n, dev: cur, options: l.args}, true
}

// fenceAll reads the short form: one agent for all nodes. dlm_controld tells the
// agent the victim's id as node.
func (p *plan) fenceAll(l dlmLine, beside bool) []connection {
	if beside {
		p.fault(l.pos, "fence_all beside device lines: dlm_controld takes one or the other: remove one")
		return nil
	}
	d := &device{pos: l.pos, name: "all", agent: l.names[0], options: l.args}
	p.checkDevice(d)
	if p.bridge(d) {
		return nil
	}
	var out []connection
	for _, n := range p.nodes {
		out = append(out, connection{pos: l.pos, node: n, dev: d, options: nil})
	}
	p.do("see how %s is told whom to fence (%s): dlm_controld gave it node=ID; add plug = \"{name}\" or node = \"{id}\" to its options", clean(l.names[0]), l.pos)
	return out
}

// levels numbers the devices of each node in the order of the file.
func (p *plan) levels(all []connection) {
	last := map[*node]connection{}
	for _, c := range all {
		prev, ok := last[c.node]
		switch {
		case !ok:
			c.level = 1
		case parallel(prev.dev.name, c.dev.name):
			c.level = prev.level
		default:
			c.level = prev.level + 1
		}
		if c.level > maxLevel {
			p.fault(c.pos, "more than %d devices after each other for node %s: remove those that are never needed (dlm_controld uses four)", maxLevel, c.node.name)
			continue
		}
		last[c.node] = c
		p.fences.list = append(p.fences.list, c)
	}
}

// parallel says whether two devices that follow each other are one for
// dlm_controld: foo:1 and foo:2.
func parallel(a, b string) bool {
	x, _, ok := strings.Cut(a, ":")
	y, _, too := strings.Cut(b, ":")
	return ok && too && x == y
}

func base(agent string) string { return agent[strings.LastIndexByte(agent, '/')+1:] }
