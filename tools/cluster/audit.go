package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

// Record is what can be known from outside of a cluster's life: what the nodes
// told, and what the lab did to them. It has to begin with the cluster.
type Record struct {
	Nodes  int     // configured
	Events []Event // of all nodes, as they came
	Deaths map[int][]lab.Death
	Power  []fencedev.Record // what the fence devices were asked for
	Frozen []Pause
	// Fewer: by its rules fewer than a majority may go on, when all others are proved gone.
	Fewer bool
	// Witness: a witness votes, too.
	Witness bool
}

// Pause is a time in which a node stood still and was not dead.
type Pause struct {
	Node     int
	From, To time.Time
}

// Record is what is known of this cluster so far. What was frozen, the caller
// has to add.
func (c *Cluster) Record() Record {
	r := Record{Nodes: c.opt.Nodes + c.opt.Absent, Events: c.Events.All(), Deaths: map[int][]lab.Death{}, Power: c.Lab.PowerLog(),
		Fewer: c.opt.Quorum != "" || c.opt.Nodes == 2, Witness: c.witness}
	for _, n := range c.Lab.Nodes() {
		r.Deaths[n.ID()] = n.Deaths()
	}
	return r
}

// Violation is a rule that was broken.
type Violation struct {
	Rule string // the invariant's name, as in docs/design.md
	Text string
}

func (v Violation) String() string { return v.Rule + ": " + v.Text }

// How late a node's word may come to the collector, and how soon a node without
// quorum has stopped its lockspaces.
const (
	tellSlack = time.Second
	stopBound = 2 * time.Second
)

// Audit checks the invariants as far as the events show them. What is agreed is
// judged by the total order, which all nodes' logs give together; what a node
// does by its own log's order; and what may not be true at the same time on two
// nodes by the host's clock.
func (r Record) Audit() []Violation {
	a := &audit{Record: r, opened: map[change][]int{}, stops: map[change][]int{}}
	a.lives = livesOf(r.Events)
	a.agreed()
	a.replay()
	for _, l := range a.lives {
		a.life(l)
	}
	a.alone()
	a.dead()
	a.shots()
	a.standstill()
	return a.found
}

// change names one change of a lockspace.
type change struct {
	lockspace string
	number    uint64
}

func (c change) String() string { return fmt.Sprintf("%s/%d", c.lockspace, c.number) }

type audit struct {
	Record
	lives  []life
	order  []Event          // what is agreed, in the total order, each once
	opened map[change][]int // members of the changes that opened
	stops  map[change][]int // who had to stop for them
	found  []Violation
}

func (a *audit) broken(rule, format string, args ...any) {
	a.found = append(a.found, Violation{rule, fmt.Sprintf(format, args...)})
}

// life is what one run of one node's daemon told, in its own order.
type life struct {
	node   int
	events []Event
}

// livesOf sorts the daemons' events into lives: each begins with "up".
func livesOf(all []Event) []life {
	var out []life
	last := map[int]int{} // node -> its life's place in out
	for _, e := range all {
		if e.Told != "" {
			continue
		}
		k, ok := last[e.Node]
		if e.Kind == membership.KindUp || !ok {
			k = len(out)
			out = append(out, life{node: e.Node})
			last[e.Node] = k
		}
		out[k].events = append(out[k].events, e)
	}
	for _, l := range out {
		slices.SortStableFunc(l.events, func(x, y Event) int { return int(x.Seq) - int(y.Seq) })
	}
	return out
}

// Gaps counts the events that nodes told and that never came. The rules of a
// node's own log begin anew behind a gap.
func (r Record) Gaps() int {
	n := 0
	for _, l := range livesOf(r.Events) {
		for k := 1; k < len(l.events); k++ {
			n += max(int(l.events[k].Seq-l.events[k-1].Seq)-1, 0)
		}
	}
	return n
}

// agreed puts the total order together, and checks that all tell the same of it.
func (a *audit) agreed() {
	at := map[uint64][]Event{} // index -> what the node that told most of it told
	said := map[string]Event{}
	for _, l := range a.lives {
		for i, es := range l.entries() {
			for k, e := range es {
				// One entry may open two changes of a lockspace, one after the other.
				key := fmt.Sprint(i, " ", k)
				o, ok := said[key]
				if ok && (o.Kind != e.Kind || o.Lockspace != e.Lockspace || o.Change != e.Change || o.Subject != e.Subject || agreedText(o) != agreedText(e)) {
					a.broken("I1 one-primary", "entry %d is %s %q at node %d and %s %q at node %d", i, o.Kind, o.Text, o.Node, e.Kind, e.Text, e.Node)
				}
				said[key] = e
			}
			if len(es) > len(at[i]) {
				at[i] = es
			}
		}
	}
	for _, es := range at {
		a.order = append(a.order, es...)
	}
	slices.SortStableFunc(a.order, func(x, y Event) int { return int(x.Index) - int(y.Index) })
}

// agreedText is what all tell alike: what a version changes only those tell who knew the one before.
func agreedText(e Event) string {
	if e.Kind == membership.KindConfig {
		text, _, _ := strings.Cut(e.Text, ";")
		return text
	}
	return e.Text
}

// entries are the events of what is agreed by their index, without those that
// some may be missing of.
func (l life) entries() map[uint64][]Event {
	out, torn := map[uint64][]Event{}, []uint64{}
	for k, e := range l.events {
		if k > 0 && e.Seq > l.events[k-1].Seq+1 {
			torn = append(torn, e.Index, l.events[k-1].Index)
		}
		out[e.Index] = append(out[e.Index], e)
	}
	for _, i := range append(torn, 0) {
		delete(out, i)
	}
	return out
}

// members reads the list behind a word: of "stop [1 2], then members [2]" after
// "members" it is 2.
func members(text, after string) []int {
	_, rest, _ := strings.Cut(text, after+" ")
	return Numbers(rest)
}

// Numbers are those between the first brackets of a text: "members [1 2 3]".
func Numbers(text string) (out []int) {
	_, in, _ := strings.Cut(text, "[")
	in, _, _ = strings.Cut(in, "]")
	for f := range strings.FieldsSeq(in) {
		var n int
		if _, err := fmt.Sscan(f, &n); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// replay goes through the total order.
func (a *audit) replay() {
	s := state{audit: a, unproved: map[int]bool{}, live: map[string][]int{}, owed: map[string]map[int]bool{}, views: map[uint64]string{}}
	for _, e := range a.order {
		switch e.Kind {
		case membership.KindView:
			s.newView(e)
		case membership.KindEvicted:
			s.evicted(e)
		case membership.KindFenced:
			delete(s.unproved, int(e.Subject))
			for _, o := range s.owed {
				delete(o, int(e.Subject))
			}
		case membership.KindChange:
			a.stops[change{e.Lockspace, e.Change}] = members(e.Text, "stop")
		case membership.KindOpened:
			s.open(e)
		}
	}
}

// state is what is agreed as of an entry.
type state struct {
	*audit
	view    []int
	quorate bool
	// unproved are the evicted nodes whose end is to be proved, and is not.
	unproved map[int]bool
	live     map[string][]int        // lockspace -> members of its last opened change that are not lost
	owed     map[string]map[int]bool // lockspace -> lost members without proof
	views    map[uint64]string       // number -> members
}

func (s *state) newView(e Event) {
	s.view, s.quorate = members(e.Text, "members"), !strings.Contains(e.Text, "no quorum")
	if o, ok := s.views[e.View]; ok && o != e.Text {
		s.broken("I1 one-primary", "view %d has %s and %s", e.View, o, e.Text)
	}
	s.views[e.View] = e.Text
	for ls, o := range s.owed {
		for n := range o {
			if slices.Contains(s.view, n) {
				s.broken("I7 no-zombie", "node %d is in view %d; its life before was lost with %s and is not proved gone", n, e.View, ls)
			}
		}
	}
}

// evicted: whoever was named by a change that opened may write, and needs proof.
func (s *state) evicted(e Event) {
	x := int(e.Subject)
	s.unproved[x] = strings.Contains(e.Text, "needs proof")
	for ls, live := range s.live {
		if !slices.Contains(live, x) {
			continue
		}
		s.live[ls] = slices.DeleteFunc(slices.Clone(live), func(n int) bool { return n == x })
		if s.owed[ls] == nil {
			s.owed[ls] = map[int]bool{}
		}
		s.owed[ls][x] = true
	}
}

// alone: by the rules the members may go on though they are no majority, and everybody
// who was lost is proved gone.
func (s *state) alone() bool {
	return s.Fewer && !slices.ContainsFunc(slices.Collect(maps.Values(s.unproved)), func(open bool) bool { return open })
}

// needed is how many members are a majority, with the witness where one votes: then what
// is told of a view's quorum says whether it was heard.
func (s *state) needed() int {
	if s.Witness {
		return (s.Nodes + 1) / 2 // and its own vote
	}
	return s.Nodes/2 + 1
}

func (s *state) open(e Event) {
	c, now := change{e.Lockspace, e.Change}, members(e.Text, "members")
	if old, ok := s.opened[c]; ok {
		s.broken("I5 same-members", "%v opened twice, with %v and with %v", c, old, now)
	}
	if need := s.needed(); len(s.view) < need && !s.alone() || !s.quorate {
		s.broken("I4 quorum-before-start", "%v opened in a view of %v: %d of %d nodes are needed", c, s.view, need, s.Nodes)
	}
	for x := range s.owed[c.lockspace] {
		s.broken("I3 fence-before-recover", "%v opened before the proof that node %d is gone", c, x)
	}
	for _, n := range now {
		if !slices.Contains(s.view, n) {
			s.broken("I4 quorum-before-start", "%v opened with node %d, which is not in the view of %v", c, n, s.view)
		}
	}
	s.opened[c], s.live[c.lockspace] = now, now
	s.owed[c.lockspace] = nil // told once
}
