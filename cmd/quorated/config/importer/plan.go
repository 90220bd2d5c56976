package importer

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/quorate/quorate/membership"
)

// Limits of quorate.toml, which cmd/quorated/config enforces.
const (
	maxNodes = 32
	maxLinks = 8
	maxID    = math.MaxInt32
	maxLevel = 9
)

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	nodeName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$`)
)

// pos is a place in a file.
type pos struct {
	file string
	line int
}

// String is the place without the file's folder, fit for a comment.
func (p pos) String() string { return fmt.Sprintf("%s:%d", clean(path.Base(p.file)), p.line) }

// setting is one key of quorate.toml.
type setting struct {
	pos
	key, value string // the value as TOML
	why        string // for the comment behind the place

	number int64                 // of expected_votes
	tie    membership.TieBreaker // of auto_tie_breaker
}

// note is something that was not carried over.
type note struct {
	pos
	what, why string
}

// node is one node of the cluster.
type node struct {
	pos
	name  string
	id    int64 // 0: the file has none
	votes int64 // -1: the file has none
	links []link
	about []string // comments
}

// link is one address of a node.
type link struct {
	pos
	text string
	addr netip.Addr
}

// plan is what quorate.toml shall say.
type plan struct {
	opt    Options
	faults Faults
	broken bool // corosync.conf has faults, or a nodeid twice: what names nodes by it is not judged
	todo   []string
	notes  []note

	name     setting   // of the cluster
	cluster  []setting // other keys of [cluster]
	manual   []string  // why fencing is manual; none: it is not
	nodes    []*node
	quorum   []setting
	liveness []setting
	family   family // of host names that have addresses of both
	fences   fences
}

// family is which addresses of a host name come first.
type family int

const (
	sixFirst family = iota // corosync's default
	fourFirst
	sixOnly
	fourOnly
)

func (p *plan) fault(at pos, format string, args ...any) {
	p.faults = append(p.faults, Fault{File: at.file, Line: max(at.line, 1), Text: fmt.Sprintf(format, args...)})
}

func (p *plan) note(at pos, what, why string) {
	if n := (note{at, what, why}); !slices.Contains(p.notes, n) {
		p.notes = append(p.notes, n)
	}
}

// unknown is a key or section that may be one of those that are known, and was lost.
func (p *plan) unknown(at pos, what, word string, known []string) {
	p.note(at, what, whyUnknown)
	p.do("%s: %s is not known, and does nothing here%s: correct it there and import anew, or see whether it matters", at, what, p.opt.Suggest(word, known))
}

func (p *plan) do(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(p.todo, text) {
		p.todo = append(p.todo, text)
	}
}

// set gives a key of [cluster]; the last one counts.
func (p *plan) set(at pos, key, value, why string) {
	s := keyed(at, key, value, why)
	if i := slices.IndexFunc(p.cluster, func(o setting) bool { return o.key == key }); i >= 0 {
		p.cluster[i] = s
		return
	}
	p.cluster = append(p.cluster, s)
}

func keyed(at pos, key, value, why string) setting {
	return setting{pos: at, key: key, value: value, why: why}
}

// rule gives a key of [quorum]; the last one counts, as for the incumbent.
func (p *plan) rule(s setting) {
	p.quorum = append(slices.DeleteFunc(p.quorum, func(o setting) bool { return o.key == s.key }), s)
}

// expected gives expected_votes.
func (p *plan) expected(at pos, votes int64, why string) {
	s := keyed(at, "expected_votes", fmt.Sprint(votes), why)
	s.number = votes
	p.rule(s)
}

// byHand has deaths confirmed by an operator, for a reason.
func (p *plan) byHand(why string) {
	if !slices.Contains(p.manual, why) {
		p.manual = append(p.manual, why)
	}
}

// byID returns the node of an id.
func (p *plan) byID(id int64) *node {
	for _, n := range p.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// resolve turns the text of every link into an address.
func (p *plan) resolve() {
	found := map[string][]netip.Addr{}
	for _, n := range p.nodes {
		for i := range n.links {
			p.resolveLink(n, &n.links[i], found)
		}
	}
	for i := range maxLinks {
		p.choose(i, found)
	}
}

func (p *plan) resolveLink(n *node, l *link, found map[string][]netip.Addr) {
	if a, err := netip.ParseAddr(l.text); err == nil {
		l.addr = a.Unmap()
		return
	}
	if p.opt.Resolve == nil {
		p.fault(l.pos, "%q is a host name, and quorate takes numbers only, which no resolver can change under it: write the address there, or let this machine resolve the names with --resolve", clean(l.text))
		return
	}
	if _, done := found[l.text]; done {
		return
	}
	all, err := p.opt.Resolve(l.text)
	usable := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool {
		return !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Zone() != ""
	})
	for i := range usable {
		usable[i] = usable[i].Unmap()
	}
	found[l.text] = usable
	switch {
	case err != nil:
		p.fault(l.pos, "%q cannot be resolved here: %s: write the address there", clean(l.text), clean(err.Error()))
	case len(all) > 0 && len(usable) == 0:
		p.fault(l.pos, "%q is resolved to %s here, which other machines cannot reach: write the address on the network there", clean(l.text), all[0])
	case len(usable) == 0:
		p.fault(l.pos, "%q has no address: write the address there", clean(l.text))
	}
}

// choose takes for each resolved name of a link the family that all nodes have.
func (p *plan) choose(i int, found map[string][]netip.Addr) {
	first := func(all []netip.Addr, four bool) netip.Addr {
		for _, a := range all {
			if a.Is4() == four {
				return a
			}
		}
		return netip.Addr{}
	}
	candidates := func(l link) []netip.Addr {
		if l.addr.IsValid() {
			return []netip.Addr{l.addr}
		}
		return found[l.text]
	}
	everybody := func(four bool) bool {
		return !slices.ContainsFunc(p.nodes, func(n *node) bool {
			return i < len(n.links) && !first(candidates(n.links[i]), four).IsValid()
		})
	}
	four := p.family == fourFirst || p.family == fourOnly
	if (p.family == sixFirst || p.family == fourFirst) && !everybody(four) && everybody(!four) {
		four = !four
	}
	for _, n := range p.nodes {
		if i >= len(n.links) || n.links[i].addr.IsValid() || len(found[n.links[i].text]) == 0 {
			continue
		}
		l := &n.links[i]
		if l.addr = first(found[l.text], four); !l.addr.IsValid() {
			p.fault(l.pos, "%q has no %s address, as the file or the other nodes ask for: write the address there", clean(l.text), map[bool]string{true: "IPv4", false: "IPv6"}[four])
			continue
		}
		n.about = append(n.about, fmt.Sprintf("%s is the address of %s, as this machine resolved it", l.addr, clean(l.text)))
	}
}

// check refuses what quorate.toml cannot say.
func (p *plan) check() {
	if len(p.faults) > 0 {
		return // what follows from a fault needs no other
	}
	if !clusterName.MatchString(p.name.value) {
		p.fault(p.name.pos, "the cluster's name %q cannot be used: write 1 to 32 characters of A-Z a-z 0-9 _ - there; GFS2 has it in the superblock of each file system (tunegfs2 -o locktable=NAME:FS)", clean(p.name.value))
	}
	if len(p.nodes) > maxNodes {
		p.fault(p.nodes[maxNodes].pos, "%d nodes: quorate takes %d at most: remove the others", len(p.nodes), maxNodes)
	}
	p.number()
	seen := map[string]string{}
	for _, n := range p.nodes {
		p.checkNode(n, seen)
	}
}

// number gives an id to the nodes that the file gives none.
func (p *plan) number() {
	next := int64(1)
	for _, n := range p.nodes {
		if n.id != 0 {
			continue
		}
		for p.byID(next) != nil {
			next++
		}
		n.id = next
		n.about = append(n.about, "the file has no nodeid for it: the next free number was taken")
	}
}

func (p *plan) checkNode(n *node, seen map[string]string) {
	one := func(at pos, what, value string) {
		if other, ok := seen[what+value]; ok {
			p.fault(at, "%s %s is also that of node %q: every node needs its own", what, value, other)
			return
		}
		seen[what+value] = n.name
	}
	switch {
	case !nodeName.MatchString(n.name):
		p.fault(n.pos, "node name %q cannot be used: write 1 to 63 characters of A-Z a-z 0-9 . _ -, a letter or digit first", clean(n.name))
	case strings.Trim(n.name, "0123456789") == "":
		p.fault(n.pos, "node name %q is all digits and would be taken for an id: write a name with a letter", n.name)
	}
	one(n.pos, "name", n.name)
	one(n.pos, "nodeid", fmt.Sprint(n.id))
	for _, l := range n.links {
		switch a := l.addr; {
		case a.IsUnspecified(), a.IsMulticast(), a.Zone() != "", a.Is6() && a.IsLinkLocalUnicast():
			p.fault(l.pos, "address %s is not that of one node on every machine: write the node's own global or unique local address", a)
		}
		one(l.pos, "address", l.addr.String())
	}
	first := p.nodes[0]
	if len(n.links) != len(first.links) {
		p.fault(n.pos, "node %q has %d addresses and node %q has %d: give every node one address for each ring, in the same order", n.name, len(n.links), first.name, len(first.links))
	} else if len(n.links) > 0 && n.links[0].addr.Is4() != first.links[0].addr.Is4() {
		p.fault(n.links[0].pos, "the first address of node %q is %s and that of node %q is %s: the DLM needs the same family everywhere: write both as IPv4 or both as IPv6",
			n.name, n.links[0].addr, first.name, first.links[0].addr)
	}
}

// clean makes foreign text fit for one line of a comment or of an error.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, strings.ToValidUTF8(s, "."))
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "..."
	}
	return s
}
