package importer

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/quorate/quorate/cmd/quorated/config/internal/quote"
)

// width is where comments are folded.
const width = 100

// writer writes TOML and its comments.
type writer struct{ strings.Builder }

func (w *writer) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// comment writes text behind #, folded; lines after the first begin with more room.
func (w *writer) comment(first, rest, text string) {
	line, head := first, first
	for _, word := range strings.Fields(text) {
		switch {
		case line == head:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			w.line("%s", line)
			head = rest
			line = rest + word
		default:
			line += " " + word
		}
	}
	w.line("%s", strings.TrimRight(line, " "))
}

// set writes a key with the place that it is from.
func (w *writer) set(s setting) {
	w.line("%s = %s  # %s", s.key, s.value, strings.TrimSuffix(s.pos.String()+": "+s.why, ": "))
}

func (p *plan) render(files []File) []byte {
	sections := p.sections() // first: they have more to do
	w := &writer{}
	p.renderHead(w, files)
	w.line("")
	w.line("[cluster]")
	w.set(keyed(p.name.pos, "name", quote.TOML(p.name.value), p.name.why))
	for _, s := range p.cluster {
		w.set(s)
	}
	for _, why := range p.manual {
		w.comment("# ", "# ", sentence(why))
	}
	if len(p.manual) > 0 {
		w.line("fencing = \"manual\"")
	}
	for _, n := range p.nodes {
		p.renderNode(w, n)
	}
	if slices.ContainsFunc(sections, func(s *section) bool {
		return !slices.ContainsFunc(s.options, func(o setting) bool { return o.key == "action" })
	}) {
		w.line("")
		w.comment("# ", "# ", "An agent's own default is to reboot. Here it is action = \"off\", after which the agent is asked until it says off: a fenced node stays off until somebody switches it on. Write action = \"reboot\" into options to have it boot again by itself.")
	}
	for _, s := range sections {
		renderSection(w, s)
	}
	renderTable(w, "[quorum]", p.quorum)
	renderTable(w, "[liveness]", p.liveness)
	p.renderNotes(w)
	return []byte(w.String())
}

func (p *plan) renderHead(w *writer, files []File) {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = clean(path.Base(f.Name))
	}
	w.comment("# ", "# ", "quorate.toml, made by quorate config import from "+strings.Join(names, " and ")+". Read it before you use it: behind each line is where it comes from, and at the end what was not carried over, and why. Keys that are not here have their defaults (quorate.toml(5)).")
	w.line("#")
	w.line("# To be done by you:")
	if n := len(p.nodes[0].links); n > 1 {
		p.do(`%d links: write dlm_network = "…", a network that nothing else uses, under [cluster], so that the DLM outlives the loss of a link, or dlm_address = "first", now; later means forming the cluster anew`, n)
	}
	p.do("make the cluster's secret with quorate keygen on one node, and copy /etc/quorate/quorate.key to the others")
	p.do("stop and disable what has driven the DLM so far (pacemaker, corosync, dlm, cman), on all nodes at once: no node may use both")
	p.do("put this file on every node as /etc/quorate/quorate.toml, and run quorated -check there")
	for i, t := range p.todo {
		w.comment(fmt.Sprintf("# %2d. ", i+1), "#     ", t)
	}
}

func (p *plan) renderNode(w *writer, n *node) {
	w.line("")
	for _, a := range n.about {
		w.comment("# ", "# ", sentence(a))
	}
	w.line("[[node]]  # %s", n.pos)
	w.line("name = %s", quote.TOML(n.name))
	w.line("id = %d", n.id)
	addrs := make([]string, len(n.links))
	for i, l := range n.links {
		addrs[i] = l.addr.String()
	}
	w.line("addr = %s", list(addrs))
	if n.votes >= 0 && n.votes != 1 {
		w.line("votes = %d", n.votes)
	}
}

func renderSection(w *writer, s *section) {
	w.line("")
	w.comment("# ", "# ", "Fence device "+clean(s.dev.name)+".")
	for _, a := range s.about {
		w.comment("# ", "# ", sentence(a))
	}
	w.line("[[fence]]  # %s", s.pos)
	names := make([]string, len(s.nodes))
	for i, n := range s.nodes {
		names[i] = n.name
	}
	w.line("nodes = %s", list(names))
	w.line("agent = %s", quote.TOML(program(s.dev.agent)))
	w.line("level = %d", s.level)
	if s.timeout > 0 {
		w.line("timeout = %s  # the agent waits by itself (delay, power_wait)", s.timeoutText())
	}
	w.line("options = %s", inline(s.options))
	if len(s.plugs) > 0 {
		w.line("plugs = %s", inline(s.plugs))
	}
}

func renderTable(w *writer, head string, all []setting) {
	if len(all) == 0 {
		return
	}
	w.line("")
	w.line("%s", head)
	for _, s := range all {
		w.set(s)
	}
}

// renderNotes lists what was not carried over, by reason.
func (p *plan) renderNotes(w *writer) {
	if len(p.notes) == 0 {
		return
	}
	w.line("")
	w.line("# Not carried over:")
	var order []string
	by := map[string][]note{}
	for _, n := range p.notes {
		if by[n.why] == nil {
			order = append(order, n.why)
		}
		by[n.why] = append(by[n.why], n)
	}
	for _, why := range order {
		w.comment("#  - ", "#    ", places(by[why])+": "+why+".")
	}
}

// places lists what was not carried over, each thing once with all its lines.
func places(notes []note) string {
	var what []string
	at := map[string]int{} // what and its file: the place in what
	for _, n := range notes {
		id := n.what + "\x00" + n.file
		if i, ok := at[id]; ok {
			what[i] += fmt.Sprintf(", %d", n.line)
			continue
		}
		at[id] = len(what)
		what = append(what, fmt.Sprintf("%s (%s", n.what, n.pos))
	}
	return strings.Join(what, "), ") + ")"
}

// sentence begins with a capital, unless with an address, and ends.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

// inline is an inline table. Keys are those of options and nodes.
func inline(all []setting) string {
	if len(all) == 0 {
		return "{}"
	}
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = key(s.key) + " = " + s.value
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// key is a bare key where it can be one.
func key(s string) string {
	if optionKey.MatchString(s) {
		return s
	}
	return quote.TOML(s)
}

func list(words []string) string {
	out := make([]string, len(words))
	for i, s := range words {
		out[i] = quote.TOML(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}
