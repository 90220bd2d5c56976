package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// teller tells a story to a world, one line after the other.
type teller struct {
	w     *world
	s     *Story
	f     *faults
	next  int
	since int // milestones before that are of an earlier line
	seen  []milestone
	names map[string]*host
	acted *host // of the last line, the node that it did something to
	armed int   // of the `when`s that have not come true; 0: none
}

// milestone is an event that some node logged.
type milestone struct {
	kind    string
	subject membership.NodeID
}

func (s *Story) start(w *world) {
	t := &teller{w: w, s: s, f: newFaults(w), names: map[string]*host{}}
	w.milestone = func(e membership.Event) { t.seen = append(t.seen, milestone{string(e.Kind), subject(e)}) }
	w.after(0, t.tell)
}

// node is who a word of a line means.
func (t *teller) node(word string) *host {
	switch word {
	case "leader":
		return t.f.leader()
	case "actor":
		return t.w.devs.actor
	case "witness":
		return t.w.witness
	}
	if h := t.names[word]; h != nil {
		return h
	}
	v, err := strconv.Atoi(word)
	if err != nil {
		return nil
	}
	return t.w.host(membership.NodeID(v))
}

// arm does something as soon as something happens.
func (t *teller) arm(l line) string {
	tr := &trigger{kind: membership.Kind(l.words[1])}
	if l.words[2] != "any" {
		h := t.node(l.words[2])
		if h == nil {
			return "no such node"
		}
		tr.about = h.id
	}
	t.armed++
	tr.do = func(e membership.Event) {
		t.armed--
		t.names["it"], t.names["by"] = t.w.host(subject(e)), t.w.host(e.Node)
		t.do(l.then())
		t.names["hit"] = t.acted
	}
	t.w.triggers = append(t.w.triggers, tr)
	return ""
}

// do does what a line says at once.
func (t *teller) do(l line) {
	t.w.tracef("story: %s", strings.Join(l.words, " "))
	if err := t.act(l); err != "" {
		t.w.violate("story", "line %d, %q: %s", l.number, l.text, err)
	}
	t.w.net.changed()
}

// tell does the next line; one that waits calls it again.
func (t *teller) tell() {
	if t.next == len(t.s.lines) {
		if t.armed > 0 {
			t.w.violate("story", "%d of the events to act on never came", t.armed)
		}
		t.w.check.states()
		t.w.done = true
		return
	}
	l := t.s.lines[t.next]
	t.next++
	switch l.words[0] {
	case "wait":
		t.w.after(l.duration(1), t.tell)
	case "running":
		t.await(l, t.w.now+l.duration(1), func() string { return t.w.check.missing() })
	case "version":
		t.await(l, t.w.now+l.duration(1), func() string { return t.w.check.worksBy(uint64(l.num(2))) })
	case "expect":
		t.await(l, t.w.now+l.duration(1), func() string { return t.saw(l) })
	case "never":
		from := len(t.seen)
		t.w.after(l.duration(1), func() {
			t.since = from
			if t.saw(l) == "" {
				t.w.violate("story", "line %d, %q: it happened", l.number, l.text)
			}
			t.tell()
		})
	default:
		t.since = len(t.seen)
		t.do(l)
		t.w.after(0, t.tell)
	}
}

func (t *teller) saw(l line) string {
	h := t.node(l.words[3])
	if slices.ContainsFunc(t.seen[t.since:], func(m milestone) bool {
		return m.kind == l.words[2] && (l.words[3] == "any" || h != nil && m.subject == h.id)
	}) {
		return ""
	}
	return "not seen"
}

func (t *teller) await(l line, until time.Duration, missing func() string) {
	switch why := missing(); {
	case why == "":
		t.tell()
	case t.w.now > until:
		t.w.violate("story", "line %d, %q: %s", l.number, l.text, why)
	default:
		t.w.after(20*time.Millisecond, func() { t.await(l, until, missing) })
	}
}

// act does what a line says; it returns what is wrong with it.
func (t *teller) act(l line) string {
	var h *host
	for i, f := range strings.TrimSuffix(forms[l.words[0]], "+") {
		if f != 'n' {
			continue
		}
		o := t.node(l.words[i+1])
		if o == nil {
			return "no such node"
		}
		if h == nil {
			h = o
		}
	}
	t.acted = h
	switch l.words[0] {
	case "kill":
		h.stayOff = true
		h.powerCut("story")
	case "kill-leader":
		return t.act(line{words: []string{"kill", "leader"}})
	case "kill-all":
		for _, h := range t.w.hosts {
			h.stayOff = true
			h.powerCut("story")
		}
	case "boot":
		h.stayOff = false
		h.powerOn()
	case "reboot":
		h.reboot("story", 2*time.Second)
	case "wipe":
		h.wipe()
	case "read-only", "repair":
		h.readOnly = l.words[0] == "read-only"
	case "crash":
		h.daemonCrash("story")
	case "pause":
		h.pause(l.duration(2))
	case "stall":
		h.stall(l.duration(2))
	case "mute":
		h.mute(l.duration(2))
	case "resume":
		h.resume()
	case "freeze":
		h.freeze(l.duration(2))
	case "hang-stop":
		h.kern.stopHangs = l.duration(2)
	case "fail-start":
		k := h.kern
		k.startFail = 1
		t.w.after(l.duration(2), func() { k.startFail = 0 })
	case "slow-disk":
		h.writes = l.duration(2)
	default:
		return t.actMore(l, h)
	}
	return ""
}

func (t *teller) actMore(l line, h *host) string {
	n := t.w.net
	switch l.words[0] {
	case "cut", "cut-way":
		o := t.node(l.words[2])
		n.cut(-1, h.id, o.id, 1)
		if l.words[0] == "cut" {
			n.cut(-1, o.id, h.id, 1)
		}
	case "cut-link":
		o, link := t.node(l.words[2]), slices.Index(linkNames, l.words[3])
		if link >= len(n.cuts) {
			return "there is one link"
		}
		n.cut(link, h.id, o.id, 1)
		n.cut(link, o.id, h.id, 1)
	case "close-port":
		n.closePort(h.id, t.node(l.words[2]).id, 1)
	case "isolate", "split":
		t.split(l.words[1:])
	case "heal":
		for _, c := range n.cuts {
			clear(c)
		}
		clear(n.ports)
		for _, h := range t.w.hosts {
			if h.on {
				h.kern.stopHangs = 0
			}
			h.writes = 0
		}
	case "mount", "unmount":
		i := slices.Index(t.w.plan.spaces, l.words[2])
		if i < 0 {
			return "no such lockspace"
		}
		h.wants[i] = l.words[0] == "mount"
		if h.on {
			h.kern.programs()
		}
	case "withdraw":
		if slices.Index(t.w.plan.spaces, l.words[2]) < 0 {
			return "no such lockspace"
		}
		if !h.kern.withdraw(l.words[2]) {
			return "it does not withdraw"
		}
	case "reconfigure", "lacks", "add", "remove", "replace", "drain", "undrain":
		return t.configure(l, h)
	case "override":
		t.w.check.overridden()
		h.d.give(node.Operator{Command: "quorum-override", Who: "story"})
	case "leave":
		h.d.give(node.Operator{Command: "leave"})
	case "rejoin":
		return h.rejoin()
	case "rivals":
		return h.stands()
	case "ack", "fence-node":
		cmd := map[string]string{"ack": "fence-ack", "fence-node": "fence-node"}[l.words[0]]
		if o := t.node(l.words[2]); l.words[0] == "ack" && o.on {
			t.w.check.falseProof = true
		}
		if l.words[0] == "fence-node" {
			t.w.check.waive(t.node(l.words[2])) // ends its hold
		}
		h.d.give(node.Operator{Command: cmd, Node: t.node(l.words[2]).id, Who: "story"})
	case "hold":
		h.hold(t.node(l.words[2]), l.duration(3))
	case "maintenance":
		h.maintain(l.duration(2))
	case "maintenance-off":
		h.maintainNoMore(func(node.Reply) {})
	case "release":
		h.release(t.node(l.words[2]))
	case "fencing", "fencing-of":
		m := mode(slices.Index(modeNames[:], l.words[len(l.words)-1]))
		for _, actor := range t.w.hosts {
			for _, victim := range t.w.hosts {
				if h == nil || victim == h {
					*t.w.devs.mode(actor.id, victim.id) = m
				}
			}
		}
	case "call":
		t.names[l.words[1]] = h
	case "when":
		return t.arm(l)
	}
	return ""
}

// split cuts some nodes from all others.
func (t *teller) split(words []string) {
	in := map[*host]bool{}
	for _, w := range words {
		in[t.node(w)] = true
	}
	t.w.net.splitBy(func(h *host) bool { return in[h] }, func(from, to *host) { t.w.net.cut(-1, from.id, to.id, 1) })
}
