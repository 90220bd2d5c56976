package importer

import (
	"fmt"
	"slices"
	"strings"
)

// Why parts of cluster.conf have no counterpart.
const (
	whyRM      = "quorate moves no services: it keeps the file systems and their locks; what rgmanager did needs another program"
	whyQuorumd = "there is no quorum disk; a third machine gives the vote, as a witness (quorated --witness there, quorate witness add here) or as a member that mounts nothing: a [[node]], and kernel = \"none\" under [cluster] in that machine's own file"
	whyVersion = "the daemons compare their files key by key"
)

var cmanWhy = map[string]string{
	"rm": whyRM, "logging": whyLog, "gfs_controld": whyDLM, "groupd": whyDLM, "group": whyDLM, "uidgid": "who may ask: root, and the members of the group quorate may look",
	"fence_xvmd": "it runs on the hosts of the guests, and goes on there", "clvmd": "lvmlockd uses the same DLM", "quorumd": whyQuorumd, "altmulticast": whyPorts,
}

// cman reads cluster.conf into the plan.
func (p *plan) cman(f File) {
	root, faults := parseXML(f)
	if len(faults) > 0 {
		p.faults = append(p.faults, faults...)
		return
	}
	if root.name != "cluster" {
		p.fault(root.pos, "the first element is <%s>: a cluster.conf begins with <cluster name=\"…\">; Pacemaker's cib.xml is not one: give corosync.conf", clean(root.name))
		return
	}
	p.cmanRoot(root)
	devices := p.fenceDevices(root)
	for _, e := range root.subs {
		switch e.name {
		case "cman":
			p.cmanVotes(e, slices.ContainsFunc(root.subs, func(x *element) bool { return x.name == "quorumd" }))
		case "totem":
			p.cmanTotem(e)
		case "clusternodes":
			p.clusterNodes(e, devices)
		case "fence_daemon":
			p.fenceDaemon(e)
		case "dlm":
			p.cmanDLM(e)
		case "fencedevices":
		default:
			why := cmanWhy[e.name]
			if why == "" {
				why = whyUnknown
			}
			p.note(e.pos, "<"+clean(e.name)+">", why)
			if e.name == "quorumd" {
				p.do("replace the votes of the quorum disk (%s): let a third machine run quorated --witness, or quorated with kernel = \"none\", or see that the nodes alone can have a majority", e.pos)
			}
		}
	}
	if len(p.nodes) == 0 && len(p.faults) == 0 {
		p.fault(root.pos, "no <clusternode> in <clusternodes>: write one for each node, with name and nodeid")
	}
}

func (p *plan) cmanRoot(root *element) {
	p.name = keyed(root.pos, "name", "", "cluster name")
	for _, a := range root.attrs {
		switch a.key {
		case "name":
			p.name.value = a.value
		case "config_version":
			p.note(a.pos, "config_version", whyVersion)
		default:
			p.note(a.pos, "<cluster "+clean(a.key)+">", whyUnknown)
		}
	}
}

// cmanVotes reads <cman>. Its expected_votes with two_node is 1, which is not the
// number of votes, and neither is one that counts a quorum disk.
func (p *plan) cmanVotes(e *element, disk bool) {
	two := false
	if v, ok := e.attr("two_node"); ok {
		two = p.flag(e.pos, "two_node", v)
	}
	for _, a := range e.attrs {
		what := "<cman " + clean(a.key) + ">"
		switch a.key {
		case "two_node":
			p.rule(keyed(a.pos, "two_node", fmt.Sprint(two), "cman two_node"))
		case "expected_votes":
			if two {
				p.note(a.pos, what, "with two_node cman wants a 1 there; here the votes of the nodes are counted")
			} else if disk {
				p.note(a.pos, what, "it counts the votes of the quorum disk too; here the votes of the nodes are counted")
			} else if n, ok := p.whole(a.pos, "expected_votes", a.value, 1, 100_000); ok {
				p.expected(a.pos, n, "cman expected_votes")
			}
		case "quorum_dev_poll", "qdisk_poll":
			p.note(a.pos, what, whyQuorumd)
		case "port", "transport", "broadcast", "cluster_id", "nodename", "hash_cluster_id":
			p.note(a.pos, what, whyPorts)
		case "keyfile":
			p.note(a.pos, what, whyCrypto)
		default:
			p.note(a.pos, what, whyUnknown)
		}
	}
	for _, s := range e.subs {
		p.note(s.pos, "<cman><"+clean(s.name)+">", whyPorts)
	}
}

func (p *plan) cmanTotem(e *element) {
	for _, a := range e.attrs {
		what := "<totem " + clean(a.key) + ">"
		why, known := totemWhy[a.key]
		switch {
		case a.key == "token":
			p.token(a.pos, "totem token", a.value)
		case known:
			p.note(a.pos, what, why)
		case strings.HasPrefix(a.key, "rrp_"):
			p.note(a.pos, what, whyLinks)
		default:
			p.note(a.pos, what, whyUnknown)
		}
	}
	for _, s := range e.subs {
		p.note(s.pos, "<totem><"+clean(s.name)+">", whyPorts)
	}
}

// fenceDaemon reads <fence_daemon>.
func (p *plan) fenceDaemon(e *element) {
	for _, a := range e.attrs {
		what := "<fence_daemon " + clean(a.key) + ">"
		switch {
		case a.key == "post_join_delay" && a.value == "-1":
			p.set(a.pos, "startup_fencing", `"wait"`, "post_join_delay -1: who was not seen is waited for")
		case a.key == "post_join_delay":
			if n, ok := p.whole(a.pos, a.key, a.value, 0, 3600); ok {
				p.joinGrace(a.pos, a.key, n)
			}
		case a.key == "post_fail_delay":
			if n, ok := p.whole(a.pos, a.key, a.value, -1, 3600); ok && n != 0 {
				p.note(a.pos, what, "fencing begins at once; how long a silent node has is dead_after in [liveness]")
			}
		case a.key == "clean_start" && p.flag(a.pos, a.key, a.value):
			p.note(a.pos, "clean_start=1", "nobody's word that all is well stands for a proof; an empty cluster fences nobody at its first start")
		case a.key == "skip_undefined" && p.flag(a.pos, a.key, a.value):
			p.note(a.pos, "skip_undefined=1", "a node without a device is never taken for fenced")
		case a.key == "clean_start", a.key == "skip_undefined":
		case a.key == "override_path", a.key == "override_time":
			p.note(a.pos, what, "an operator's word is quorate fence ack NODE")
		default:
			p.note(a.pos, what, whyUnknown)
		}
	}
}

// cmanDLM reads <dlm>, whose attributes are the settings of dlm.conf.
func (p *plan) cmanDLM(e *element) {
	for _, a := range e.attrs {
		if a.key == "enable_deadlk" || a.key == "enable_quorum" {
			p.note(a.pos, "<dlm "+clean(a.key)+">", whyDLM)
			continue
		}
		p.dlmSetting(confKey(a))
	}
	for _, s := range e.subs {
		p.note(s.pos, "<dlm><"+clean(s.name)+">", "every resource has its entry in the DLM's directory, which the members share, and any member may master it; nodir and weights cannot be set")
	}
}

// fenceDevices reads <fencedevices>.
func (p *plan) fenceDevices(root *element) map[string]*device {
	out := map[string]*device{}
	for _, all := range root.subs {
		if all.name != "fencedevices" {
			continue
		}
		for _, e := range all.subs {
			if e.name != "fencedevice" {
				p.note(e.pos, "<fencedevices><"+clean(e.name)+">", whyUnknown)
				continue
			}
			d := &device{pos: e.pos}
			for _, a := range e.attrs {
				switch a.key {
				case "name":
					d.name = a.value
				case "agent":
					d.agent = a.value
				default:
					d.options = append(d.options, a)
				}
			}
			p.checkOptions(d.options)
			switch {
			case d.name == "":
				p.fault(e.pos, "<fencedevice> without a name: write name=\"…\", which the nodes' <device> refer to")
			case !usable(d.agent):
				p.fault(e.pos, "<fencedevice name=%q> without a usable agent: write agent=\"fence_…\" or an absolute path", clean(d.name))
			case out[d.name] != nil:
				p.fault(e.pos, "<fencedevice name=%q> is there twice: give each its own name", clean(d.name))
			default:
				out[d.name] = d
			}
		}
	}
	return out
}

func (p *plan) clusterNodes(all *element, devices map[string]*device) {
	for _, e := range all.subs {
		if e.name != "clusternode" {
			p.note(e.pos, "<clusternodes><"+clean(e.name)+">", whyUnknown)
			continue
		}
		p.clusterNode(e, devices)
	}
	for _, d := range devices {
		if used := slices.ContainsFunc(p.fences.list, func(c connection) bool { return c.dev == d }); !used && !slices.Contains(p.fences.skipped, d.name) {
			p.note(d.pos, "<fencedevice name="+clean(d.name)+">", "no node's <fence> uses it")
		}
	}
	// Of a map: in the order of the file.
	slices.SortStableFunc(p.notes, func(a, b note) int { return a.line - b.line })
}

func (p *plan) clusterNode(e *element, devices map[string]*device) {
	n := &node{pos: e.pos, votes: -1}
	for _, a := range e.attrs {
		switch a.key {
		case "name":
			n.name = a.value
			n.links = append([]link{{pos: a.pos, text: a.value}}, n.links...)
		case "nodeid":
			n.id, _ = p.whole(a.pos, "nodeid", a.value, 1, maxID)
		case "votes":
			n.votes, _ = p.whole(a.pos, "votes", a.value, 0, 1000)
		default:
			p.note(a.pos, "<clusternode "+clean(a.key)+">", whyUnknown)
		}
	}
	if n.name == "" {
		p.fault(e.pos, "<clusternode> without a name: write name=\"…\", the host's name on the cluster's network")
		return
	}
	p.nodes = append(p.nodes, n)
	for _, s := range e.subs {
		switch s.name {
		case "fence":
			p.methods(n, s, devices)
		case "altname":
			name, ok := s.attr("name")
			if !ok {
				p.fault(s.pos, "<altname> without a name: write name=\"…\", the host's name on the second network")
				continue
			}
			n.links = append(n.links, link{pos: s.pos, text: name})
		case "unfence":
			p.note(s.pos, "<unfence> of "+clean(n.name), whyUnfence)
			p.do("write unfence = true in the [[fence]] of a device that leaves a node its power (%s)", s.pos)
		default:
			p.note(s.pos, "<clusternode><"+clean(s.name)+">", whyPorts)
		}
	}
}

// methods reads <fence>: its methods in turn, each with devices that must all
// succeed. What switches the node on again is left out: quorate switches it off and
// makes sure.
func (p *plan) methods(n *node, fence *element, devices map[string]*device) {
	level := 0
	for _, m := range fence.subs {
		if m.name != "method" {
			p.note(m.pos, "<fence><"+clean(m.name)+">", whyUnknown)
			continue
		}
		used := false
		for _, e := range m.subs {
			c, ok := p.methodDevice(n, e, devices)
			if !ok {
				continue
			}
			if !used {
				used = true
				level++
			}
			c.level = level
			if level > maxLevel {
				p.fault(e.pos, "more than %d methods for node %s: remove those that are never needed", maxLevel, clean(n.name))
				return
			}
			p.fences.list = append(p.fences.list, c)
		}
	}
}

func (p *plan) methodDevice(n *node, e *element, devices map[string]*device) (connection, bool) {
	c := connection{pos: e.pos, node: n}
	if e.name != "device" {
		p.note(e.pos, "<method><"+clean(e.name)+">", whyUnknown)
		return c, false
	}
	name, _ := e.attr("name")
	d := devices[name]
	if d == nil {
		p.fault(e.pos, "<device name=%q> of node %s is no <fencedevice>: correct the name, or add it to <fencedevices>", clean(name), clean(n.name))
		return c, false
	}
	if p.bridge(d) {
		return c, false
	}
	c.dev = d
	for _, a := range e.attrs {
		if (a.key == "action" || a.key == "option") && (a.value == "on" || a.value == "enable") {
			p.note(e.pos, "<device name="+clean(name)+" "+a.key+"="+a.value+">", "a fenced node stays off until somebody switches it on; off and its check are the proof")
			return c, false
		}
		if a.key != "name" {
			c.options = append(c.options, a)
		}
	}
	p.checkOptions(c.options)
	return c, true
}
