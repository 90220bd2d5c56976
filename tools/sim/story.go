package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// ErrStory is a scenario that cannot be read; the text says which line.
var ErrStory = errors.New("scenario")

// Story is a scenario: a cluster and what is done to it, line by line. Lines
// begin with a word; # begins a comment.
//
//	nodes 3 | links 2 | profile safe|lan|fast | xdp on|off | manual
//	lockspaces gfs lvm            all nodes mount all of them
//	running 20s                   everything wanted runs within that time
//	expect 3s fenced 3            some node logs that event about node 3 within it,
//	                              counted from the last line that did something
//	never 3s start 2              no node logs it for so long
//	wait 2s
//	kill N | kill-leader | kill-all | boot N | reboot N | wipe N | crash N
//	pause N 2s | freeze N 2s | cut A B | cut-way A B | isolate N | heal
//	mount N gfs | unmount N gfs | leave N | ack N VICTIM | fence-node N VICTIM
//	fencing works|fails|cut-fails|slow|hangs|late | hang-stop N 5s | slow-disk N 1s
type Story struct {
	lines []line
	setup []line
}

type line struct {
	number int
	words  []string
	text   string
}

// maxStory bounds a scenario, in lines.
const maxStory = 1000

// ParseStory reads a scenario.
func ParseStory(r io.Reader) (*Story, error) {
	s := &Story{}
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		l := line{number: n, words: strings.Fields(text), text: strings.TrimSpace(text)}
		if len(l.words) == 0 {
			continue
		}
		if n > maxStory {
			return nil, fmt.Errorf("%w: more than %d lines", ErrStory, maxStory)
		}
		if err := l.check(); err != nil {
			return nil, fmt.Errorf("%w: line %d, %q: %w", ErrStory, n, l.text, err)
		}
		if strings.Contains(" nodes links profile xdp manual lockspaces ", " "+l.words[0]+" ") {
			s.setup = append(s.setup, l)
			continue
		}
		s.lines = append(s.lines, l)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStory, err)
	}
	return s, nil
}

// forms says what follows each word: n a node, d a duration, i a number, w a word, * words.
var forms = map[string]string{
	"nodes": "i", "links": "i", "profile": "w", "xdp": "w", "manual": "", "lockspaces": "*",
	"running": "d", "expect": "dwn", "never": "dwn", "wait": "d",
	"kill": "n", "kill-leader": "", "kill-all": "", "boot": "n", "reboot": "n", "wipe": "n", "crash": "n",
	"pause": "nd", "freeze": "nd", "cut": "nn", "cut-way": "nn", "isolate": "n", "heal": "",
	"mount": "nw", "unmount": "nw", "leave": "n", "ack": "nn", "fence-node": "nn",
	"fencing": "w", "hang-stop": "nd", "slow-disk": "nd",
}

func (l line) check() error {
	form, ok := forms[l.words[0]]
	if !ok {
		return errors.New("unknown word")
	}
	if form == "*" {
		return nil
	}
	if len(l.words) != len(form)+1 {
		return fmt.Errorf("%d words follow, expected %d", len(l.words)-1, len(form))
	}
	for i, f := range form {
		var err error
		switch w := l.words[i+1]; f {
		case 'n', 'i':
			var v uint64
			if v, err = strconv.ParseUint(w, 10, 8); err == nil && (v < 1 || v > 9) {
				err = fmt.Errorf("%d: 1 to 9", v)
			}
		case 'd':
			_, err = time.ParseDuration(w)
		}
		if err != nil {
			return err
		}
	}
	switch l.words[0] {
	case "profile":
		return oneOf(l.words[1], "safe", "lan", "fast")
	case "xdp":
		return oneOf(l.words[1], "on", "off")
	case "fencing":
		return oneOf(l.words[1], modeNames[:]...)
	}
	return nil
}

func oneOf(w string, of ...string) error {
	if slices.Contains(of, w) {
		return nil
	}
	return fmt.Errorf("%q: one of %v", w, of)
}

func (l line) duration(i int) time.Duration {
	d, _ := time.ParseDuration(l.words[i]) // checked when it was read
	return d
}

func (l line) num(i int) int {
	v, _ := strconv.Atoi(l.words[i]) // checked when it was read
	return v
}

// plan is the cluster of a story: quiet, so that only what is told happens.
func (s *Story) plan(_ plan) plan {
	p := plan{nodes: 3, links: 1, timing: safe, xdp: true, spaces: []string{"gfs"}, timeout: 2 * time.Second,
		delay: 150 * time.Microsecond, fsync: 2 * time.Millisecond, slowRec: 30 * time.Millisecond,
		removal: 20 * time.Millisecond, joinFor: 10 * time.Second}
	for _, l := range s.setup {
		switch l.words[0] {
		case "nodes":
			p.nodes = l.num(1)
		case "links":
			p.links = l.num(1)
		case "profile":
			p.timing = map[string]membership.Timing{"safe": safe, "lan": lan, "fast": fast}[l.words[1]]
		case "xdp":
			p.xdp = l.words[1] == "on"
		case "manual":
			p.manual = true
		case "lockspaces":
			p.spaces = l.words[1:]
		}
	}
	for range p.nodes {
		w := make([]bool, len(p.spaces))
		for i := range w {
			w[i] = true
		}
		p.wants = append(p.wants, w)
	}
	return p
}

// teller tells a story to a world, one line after the other.
type teller struct {
	w     *world
	s     *Story
	f     *faults
	next  int
	since int // milestones before that are of an earlier line
	seen  []milestone
}

// milestone is an event that some node logged.
type milestone struct {
	kind    string
	subject membership.NodeID
}

func (s *Story) start(w *world) {
	t := &teller{w: w, s: s, f: newFaults(w)}
	w.milestone = func(e membership.Event) {
		subject := e.Subject
		if subject == 0 {
			subject = e.Node
		}
		t.seen = append(t.seen, milestone{string(e.Kind), subject})
	}
	w.after(0, t.tell)
}

// tell does the next line; one that waits calls it again.
func (t *teller) tell() {
	if t.next == len(t.s.lines) {
		t.w.check.states()
		t.w.done = true
		return
	}
	l := t.s.lines[t.next]
	t.next++
	t.w.tracef("story: %s", l.text)
	switch l.words[0] {
	case "wait":
		t.w.after(l.duration(1), t.tell)
	case "running":
		t.await(l, t.w.now+l.duration(1), func() string { return t.w.check.missing() })
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
		if err := t.act(l); err != "" {
			t.w.violate("story", "line %d, %q: %s", l.number, l.text, err)
		}
		t.w.net.changed()
		t.w.after(0, t.tell)
	}
}

func (t *teller) saw(l line) string {
	if slices.Contains(t.seen[t.since:], milestone{l.words[2], membership.NodeID(l.num(3))}) {
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
	if form := forms[l.words[0]]; form != "" && form[0] == 'n' {
		if h = t.w.host(membership.NodeID(l.num(1))); h == nil {
			return "no such node"
		}
	}
	switch l.words[0] {
	case "kill":
		h.stayOff = true
		h.powerCut("story")
	case "kill-leader":
		h = t.f.leader()
		h.stayOff = true
		h.powerCut("story")
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
	case "crash":
		h.daemonCrash("story")
	case "pause":
		h.pause(l.duration(2))
	case "freeze":
		h.freeze(l.duration(2))
	case "hang-stop":
		h.kern.stopHangs = l.duration(2)
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
		n.cut(-1, h.id, membership.NodeID(l.num(2)), 1)
		if l.words[0] == "cut" {
			n.cut(-1, membership.NodeID(l.num(2)), h.id, 1)
		}
	case "isolate":
		for _, o := range t.w.hosts {
			if o != h {
				n.cut(-1, h.id, o.id, 1)
				n.cut(-1, o.id, h.id, 1)
			}
		}
	case "heal":
		for _, c := range n.cuts {
			clear(c)
		}
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
	case "leave":
		h.d.give(node.Operator{Command: "leave"})
	case "ack", "fence-node":
		cmd := map[string]string{"ack": "fence-ack", "fence-node": "fence-node"}[l.words[0]]
		h.d.give(node.Operator{Command: cmd, Node: membership.NodeID(l.num(2)), Who: "story"})
	case "fencing":
		m := mode(slices.Index(modeNames[:], l.words[1]))
		for i := range t.w.devs.modes {
			t.w.devs.modes[i] = m
		}
	}
	return ""
}
