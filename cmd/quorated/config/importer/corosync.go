package importer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config/internal/quote"
	"github.com/quorate/quorate/membership"
)

// corosync reads corosync.conf into the plan.
func (p *plan) corosync(f File) {
	root, faults := parseConf(f)
	if len(faults) > 0 {
		p.faults = append(p.faults, faults...)
		return
	}
	for _, k := range root.keys {
		p.fault(k.pos, "%s stands outside of any section: put it into totem { }, quorum { } or another", clean(k.key))
	}
	for _, s := range root.subs {
		switch s.name {
		case "totem":
			p.totem(s)
		case "nodelist":
			p.nodelist(s)
		case "quorum", "logging":
		default:
			p.foreign(s)
		}
	}
	p.corosyncName(root)
	if len(root.all("nodelist")) == 0 {
		p.fault(root.pos, "no nodelist { }: the nodes find each other by multicast, and quorate has to know them: write nodelist { node { ring0_addr: … nodeid: … name: … } … } into a copy of the file")
	} else if len(p.nodes) == 0 && len(p.faults) == 0 {
		p.fault(root.all("nodelist")[0].pos, "nodelist { } has no node { }: write one for each node, with ring0_addr, nodeid and name")
	}
	for _, s := range root.all("quorum") {
		p.votequorum(s)
	}
	if len(root.all("quorum")) == 0 {
		p.note(root.pos, "no quorum { }", "corosync counts no votes then; quorate always needs more than half of the nodes")
	}
	for _, s := range root.all("logging") {
		p.note(s.pos, "logging { }", "quorated logs to the journal, and quorate events shows what happened")
	}
}

// foreign is a section that has no counterpart, or a slip.
func (p *plan) foreign(s *conf) {
	what := clean(s.name) + " { }"
	if why := sectionWhy(s.name); why != whyUnknown {
		p.note(s.pos, what, why)
		return
	}
	p.unknown(s.pos, what, s.name, []string{"totem", "nodelist", "quorum", "logging"})
}

func sectionWhy(name string) string {
	switch name {
	case "uidgid":
		return "who may ask: root, and the members of the group quorate may look"
	case "qb", "system", "nozzle":
		return "settings of corosync's own machinery; quorate has none of it"
	case "resources":
		return "quorate watches no memory or load"
	case "service", "aisexec", "amf":
		return "quorate starts no other programs"
	}
	return whyUnknown
}

func (p *plan) corosyncName(root *conf) {
	p.name.pos = root.pos
	for _, s := range root.all("totem") {
		p.name.pos = s.pos
		if k, ok := s.get("cluster_name"); ok {
			p.name = keyed(k.pos, "name", k.value, "totem.cluster_name")
			return
		}
	}
	p.fault(p.name.pos, "no cluster_name in totem { }: write cluster_name: NAME there, the part of the GFS2 lock table before the colon")
}

// Why keys of totem { } have no counterpart.
const (
	whyRing    = "a timer of the ring protocol; quorate has no ring, and [liveness] has what there is to set"
	whyCrypto  = "what the daemons say to each other is always authenticated and encrypted (TLS 1.3), by a secret that quorate keygen makes; corosync's authkey is not used"
	whyPorts   = "quorated uses 21060/tcp and 21061/udp, on every address; open both, and the DLM's 21064/tcp, between the nodes"
	whyLinks   = "every address is probed and used at once; the first one is the DLM's"
	whyMTU     = "the daemons' packets are small enough for any path"
	whyNumber  = "how soon a death is noticed does not depend on the number of nodes"
	whyBind    = "a node finds itself by the addresses in its [[node]] section"
	whyUnknown = "quorate's import does not know it"
)

var totemWhy = map[string]string{
	"token_coefficient": whyNumber, "token_retransmit": whyRing, "token_retransmits_before_loss_const": whyRing, "token_warning": whyRing,
	"hold": whyRing, "join": whyRing, "send_join": whyRing, "consensus": whyRing, "merge": whyRing, "downcheck": whyRing, "fail_recv_const": whyRing,
	"seqno_unchanged_const": whyRing, "heartbeat_failures_allowed": whyRing, "max_network_delay": whyRing, "window_size": whyRing, "max_messages": whyRing,
	"miss_count_const": whyRing, "cancel_token_hold_on_retransmit": whyRing, "clear_node_high_bit": "ids are taken as they are written", "threads": whyRing, "vsftype": whyRing,
	"secauth": whyCrypto, "crypto_model": whyCrypto, "crypto_cipher": whyCrypto, "crypto_hash": whyCrypto, "keyfile": whyCrypto, "key": whyCrypto, "crypto_type": whyCrypto,
	"transport": whyPorts, "mcastport": whyPorts, "mcastaddr": whyPorts, "broadcast": whyPorts, "ttl": whyPorts, "bindnetaddr": whyBind,
	"link_mode": whyLinks, "rrp_mode": whyLinks, "ringnumber": whyLinks, "linknumber": whyLinks, "block_unlisted_ips": whyCrypto,
	"netmtu": whyMTU, "knet_mtu": whyMTU, "knet_pmtud_interval": whyMTU, "config_version": "the daemons compare their files key by key", "nodeid": "see [[node]]",
	"autojoin": "a node joins when its mounts do",
}

// totem reads totem { }: the token's time, the family of addresses, and reasons.
func (p *plan) totem(s *conf) {
	for _, k := range s.keys {
		what := "totem." + clean(k.key)
		switch why, known := totemWhy[k.key]; {
		case k.key == "cluster_name":
		case k.key == "version":
			if k.value != "2" {
				p.fault(k.pos, "version: %s is not one that corosync reads: write version: 2", clean(k.value))
			}
		case k.key == "token":
			p.token(k.pos, "totem.token", k.value)
		case k.key == "ip_version":
			p.ipVersion(k)
		case known:
			p.note(k.pos, what, why)
		case strings.HasPrefix(k.key, "rrp_"), strings.HasPrefix(k.key, "knet_"):
			p.note(k.pos, what, whyLinks)
		default:
			p.unknown(k.pos, what, k.key, append(slices.Sorted(maps.Keys(totemWhy)), "cluster_name", "version", "token", "ip_version"))
		}
	}
	for _, i := range s.subs {
		for _, k := range i.keys {
			why, known := totemWhy[k.key]
			if strings.HasPrefix(k.key, "knet_") {
				why, known = whyLinks, true
			}
			what := "totem." + clean(i.name) + "." + clean(k.key)
			if !known {
				p.unknown(k.pos, what, k.key, slices.Sorted(maps.Keys(totemWhy)))
				continue
			}
			p.note(k.pos, what, why)
		}
	}
}

func (p *plan) ipVersion(k confKey) {
	words := map[string]family{"ipv4": fourOnly, "ipv6": sixOnly, "ipv4-6": fourFirst, "ipv6-4": sixFirst}
	v, ok := words[k.value]
	if !ok {
		p.fault(k.pos, "ip_version: %s is not known: write ipv4, ipv6, ipv4-6 or ipv6-4", clean(k.value))
		return
	}
	p.family = v
}

// token maps the time after which the incumbent takes the ring for broken. Times
// below a second are kept to the millisecond, since somebody chose them for a
// fast network; longer ones name what they were chosen for.
func (p *plan) token(at pos, what, value string) {
	ms, ok := p.whole(at, what, value, 1, 3600_000)
	if !ok {
		return
	}
	d := time.Duration(ms) * time.Millisecond
	add := func(key, value, why string) { p.liveness = append(p.liveness, keyed(at, key, value, why)) }
	p.liveness = nil
	switch {
	case d <= 200*time.Millisecond:
		add("profile", `"lan"`, fmt.Sprintf("%s %d ms: probes each 38 ms, silent for 190 ms is dead", what, ms))
	case d < time.Second:
		add("profile", `"lan"`, fmt.Sprintf("%s %d ms: probes each 38 ms", what, ms))
		add("dead_after", quote.TOML(membership.Short(d)), "as the token; lan's own 190ms is right for wires that nothing freezes")
	case d <= 5*time.Second:
		add("profile", `"safe"`, fmt.Sprintf("%s %d ms: probes each 400 ms, silent for 2 s is dead, whatever the number of nodes", what, ms))
	default:
		add("profile", `"vm"`, fmt.Sprintf("%s %d ms: probes each second, silent for 10 s is dead: for guests that are migrated live; safe (2 s) if yours are not", what, ms))
	}
}

// whole returns a whole number within [lo, hi].
func (p *plan) whole(at pos, what, value string, lo, hi int64) (int64, bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < lo || n > hi {
		p.fault(at, "%s: %q: write a whole number from %d to %d", what, clean(value), lo, hi)
		return 0, false
	}
	return n, true
}

// flag returns whether a 0 or 1 is 1.
func (p *plan) flag(at pos, what, value string) bool {
	n, _ := p.whole(at, what, value, 0, 1)
	return n == 1
}

// nodelist reads nodelist { node { … } … }.
func (p *plan) nodelist(s *conf) {
	for _, k := range s.keys {
		p.note(k.pos, "nodelist."+clean(k.key), whyUnknown)
	}
	for _, c := range s.subs {
		if c.name != "node" {
			p.note(c.pos, "nodelist."+clean(c.name)+" { }", whyUnknown)
			continue
		}
		p.corosyncNode(c)
	}
}

func (p *plan) corosyncNode(c *conf) {
	n := &node{pos: c.pos, votes: -1}
	var rings [maxLinks]*link
	for _, k := range c.keys {
		ring, isRing := strings.CutPrefix(k.key, "ring")
		ring, isAddr := strings.CutSuffix(ring, "_addr")
		switch {
		case k.key == "name":
			n.name = k.value
		case k.key == "nodeid":
			n.id, _ = p.whole(k.pos, "nodeid", k.value, 1, maxID)
			p.broken = p.broken || n.id != 0 && p.byID(n.id) != nil
		case k.key == "quorum_votes":
			n.votes, _ = p.whole(k.pos, "quorum_votes", k.value, 0, 1000)
		case isRing && isAddr && len(ring) == 1 && ring[0] >= '0' && ring[0] < '0'+maxLinks:
			rings[ring[0]-'0'] = &link{pos: k.pos, text: k.value}
		case isRing && isAddr:
			p.fault(k.pos, "%s: rings are numbered from 0 to 7: write ring0_addr to ring7_addr", clean(k.key))
		default:
			p.unknown(k.pos, "nodelist.node."+clean(k.key), k.key, []string{"name", "nodeid", "quorum_votes", "ring0_addr", "ring1_addr"})
		}
	}
	for i, l := range rings {
		if l == nil {
			continue
		}
		if i > 0 && rings[i-1] == nil {
			p.fault(l.pos, "ring%d_addr without ring%d_addr: quorate numbers the addresses from 0 without a gap: rename it, on every node alike", i, i-1)
		}
		n.links = append(n.links, *l)
	}
	if len(n.links) == 0 {
		p.fault(n.pos, "node { } without an address: write ring0_addr: 10.0.0.1, or the host's name with --resolve")
		return
	}
	p.nameNode(n)
	p.nodes = append(p.nodes, n)
}

// nameNode names a node that the file does not name, by its address.
func (p *plan) nameNode(n *node) {
	if n.name != "" {
		return
	}
	if first := n.links[0].text; nodeName.MatchString(first) && strings.Trim(first, "0123456789.") != "" {
		n.name = first
		n.about = append(n.about, "the file has no name for it: that is its ring0_addr")
		return
	}
	n.name = fmt.Sprintf("node%d", n.id)
	if n.id == 0 {
		n.name = fmt.Sprintf("node-%d", len(p.nodes)+1)
	}
	n.about = append(n.about, "the file has no name for it: write its short host name here and in the sections below")
	p.do("give %s (%s) its short host name", n.name, clean(n.links[0].text))
}

// votequorum reads quorum { }.
func (p *plan) votequorum(s *conf) {
	if k, ok := s.get("provider"); ok && k.value != "corosync_votequorum" {
		p.note(k.pos, "quorum.provider", "only corosync_votequorum counts votes; quorate always needs more than half of them")
	}
	device := len(s.all("device")) > 0
	for _, d := range s.subs {
		if d.name == "device" {
			p.qdevice(d)
			continue
		}
		p.unknown(d.pos, "quorum."+clean(d.name)+" { }", d.name, []string{"device"})
	}
	for _, k := range s.keys {
		p.quorumKey(s, k, device)
	}
}

// quorumFlags are the yes and no of quorum { }, and what they are called here.
var quorumFlags = map[string]string{"two_node": "two_node", "wait_for_all": "wait_for_all", "last_man_standing": "last_man_standing", "allow_downscale": "leave_removes_vote"}

func (p *plan) quorumKey(s *conf, k confKey, device bool) {
	what := "quorum." + clean(k.key)
	add := func(key, value string) { p.rule(keyed(k.pos, key, value, what)) }
	if key, ok := quorumFlags[k.key]; ok {
		add(key, strconv.FormatBool(p.flag(k.pos, k.key, k.value)))
		return
	}
	switch k.key {
	case "provider":
	case "expected_votes":
		n, ok := p.whole(k.pos, k.key, k.value, 1, 100_000)
		if ok && device {
			p.note(k.pos, what, "it counts the votes of the quorum device too; here the votes of the nodes are counted")
		} else if ok {
			p.expected(k.pos, n, what)
		}
	case "votes":
		if n, ok := p.whole(k.pos, k.key, k.value, 0, 1000); ok {
			p.defaultVotes(n)
		}
	case "last_man_standing_window":
		if n, ok := p.whole(k.pos, k.key, k.value, 1, 3600_000); ok {
			add("last_man_standing_window", quote.TOML(membership.Short(max(time.Duration(n)*time.Millisecond, time.Second))))
		}
	case "auto_tie_breaker":
		if p.flag(k.pos, k.key, k.value) {
			which, _ := s.get("auto_tie_breaker_node")
			p.tieBreaker(k, which)
		}
	case "auto_tie_breaker_node":
		if on, ok := s.get("auto_tie_breaker"); !ok || on.value != "1" {
			p.note(k.pos, what, "corosync looks at it with auto_tie_breaker: 1 only")
		}
	case "expected_votes_tracking":
		p.note(k.pos, what, "the votes are those of the configuration that the members agreed on")
	default:
		p.unknown(k.pos, what, k.key, append(slices.Sorted(maps.Keys(quorumFlags)), "provider", "expected_votes", "votes", "last_man_standing_window", "auto_tie_breaker", "auto_tie_breaker_node"))
	}
}

func (p *plan) defaultVotes(votes int64) {
	for _, n := range p.nodes {
		if n.votes < 0 {
			n.votes = votes
		}
	}
}

// tieBreaker reads which half goes on: lowest, highest, or a list of node ids.
func (p *plan) tieBreaker(k, which confKey) {
	value, at := which.value, which.pos
	if at.line == 0 {
		value, at = "lowest", k.pos
	}
	if value == "lowest" || value == "highest" {
		s := keyed(at, "auto_tie_breaker", quote.TOML(value), "quorum.auto_tie_breaker")
		s.tie.Mode = membership.TieMode(value)
		p.rule(s)
		return
	}
	var names []string
	var ids []membership.NodeID
	for _, w := range strings.Fields(value) {
		id, err := strconv.ParseInt(w, 10, 64)
		n := p.byID(id)
		if err != nil || id == 0 || n == nil {
			p.fault(at, "auto_tie_breaker_node: %q is no nodeid of the nodelist: write lowest, highest, or nodeids with spaces between", clean(w))
			return
		}
		if !slices.Contains(names, n.name) {
			names, ids = append(names, n.name), append(ids, membership.NodeID(id))
		}
	}
	if len(names) == 0 {
		p.fault(at, "auto_tie_breaker_node without a value: write lowest, highest, or nodeids with spaces between")
		return
	}
	s := keyed(at, "auto_tie_breaker", list(names), "quorum.auto_tie_breaker_node")
	s.tie = membership.TieBreaker{Mode: membership.TieList, List: ids}
	p.rule(s)
}

// qdevice explains a quorum device, which has no counterpart.
func (p *plan) qdevice(d *conf) {
	model := "of no model"
	if k, ok := d.get("model"); ok {
		model = "of model " + clean(k.value)
	}
	p.note(d.pos, "quorum.device { } "+model, "there is no quorum device; a third machine gives the vote, as a witness (quorated --witness there, quorate witness add here) or as a member that mounts nothing: a [[node]], and kernel = \"none\" under [cluster] in that machine's own file")
	p.do("replace the vote of the quorum device (%s): let a third machine run quorated --witness, or quorated with kernel = \"none\", or see that the nodes alone can have a majority", d.pos)
}
