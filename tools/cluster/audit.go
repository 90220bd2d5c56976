package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
)

// toldLate is how long a node may take to tell the collector of something: events
// have a goroutine of their own, and wait for whatever else the node does.
const toldLate = 500 * time.Millisecond

// Audit compares the event logs of all nodes, as the collector got them, with
// I1 to I3 and I5 (docs/design.md). It returns a sentence for each contradiction.
//
//   - I1: what was agreed is the same at all nodes, by its index; a view number
//     has one set of members; who starts a change finds nobody running who is
//     not in it, by the host's clock and the nodes' deaths.
//   - I2: a lockspace is stopped on a node before the node sees the next change
//     of it open, or starts it.
//   - I3: no change opens, and nothing starts, on a node that knows of an eviction
//     of one of the lockspace's members and not of its proof.
//   - I5: a change opens with the same members everywhere.
//
// It knows what the collector got: events that were lost on the way can hide a
// contradiction, and the loss of a proof or of a stop shows as one.
func Audit(all []Event, deaths map[int][]time.Time) []string {
	a := &audit{deaths: deaths, agreed: map[string]Event{}, lives: map[int]*life{}, stops: map[int][]Event{}}
	for _, e := range all {
		if e.Kind == membership.KindStopped {
			a.stops[e.Node] = append(a.stops[e.Node], e)
		}
	}
	for _, e := range all {
		if e.Kind != "" {
			a.event(e)
		}
	}
	return a.found
}

// Audit is Audit of what has come so far, with the deaths that the lab knows of.
func (c *Cluster) Audit() []string {
	deaths := map[int][]time.Time{}
	for _, n := range c.Lab.Nodes() {
		for _, d := range n.Deaths() {
			deaths[n.ID()] = append(deaths[n.ID()], d.Frozen)
		}
	}
	return Audit(c.Events.All(), deaths)
}

type audit struct {
	deaths map[int][]time.Time
	stops  map[int][]Event
	agreed map[string]Event // by what it is about
	lives  map[int]*life    // of each node, the one under way
	found  []string
}

// life is what one run of a node's daemon has told.
type life struct {
	running map[string]Event        // by lockspace: the start that was not stopped
	members map[string][]int        // of the change that opened last
	open    map[string]Event        // by incident: evictions that need proof
	wants   map[string]map[int]bool // by lockspace: the members that its open evictions took out
}

func (a *audit) say(e Event, format string, args ...any) {
	a.found = append(a.found, fmt.Sprintf("node%d %s change %d of %s: ", e.Node, e.Kind, e.Change, e.Lockspace)+fmt.Sprintf(format, args...))
}

func (a *audit) event(e Event) {
	l := a.lives[e.Node]
	if l == nil || e.Kind == membership.KindUp {
		l = &life{running: map[string]Event{}, members: map[string][]int{}, open: map[string]Event{}, wants: map[string]map[int]bool{}}
		a.lives[e.Node] = l
	}
	a.same(e)
	switch e.Kind {
	case membership.KindEvicted:
		a.evicted(l, e)
	case membership.KindFenced:
		l.proved(e)
	case membership.KindOpened:
		a.proof(l, e)
		if r, ok := l.running[e.Lockspace]; ok {
			a.say(e, "I2: it runs change %d and has not stopped", r.Change)
		}
		l.members[e.Lockspace] = Numbers(e.Text)
	case membership.KindStarted:
		a.proof(l, e)
		a.started(l, e)
	case membership.KindStopped:
		delete(l.running, e.Lockspace)
	}
}

// same: what carries an index is the same wherever it is told, and so is a view.
func (a *audit) same(e Event) {
	keys := []string{}
	if e.Index != 0 {
		keys = append(keys, fmt.Sprintf("index %d, %s of node %d in %q", e.Index, e.Kind, e.Subject, e.Lockspace))
	}
	if e.Kind == membership.KindView {
		keys = append(keys, fmt.Sprintf("view %d", e.View))
	}
	if e.Kind == membership.KindOpened {
		keys = append(keys, fmt.Sprintf("change %d of %s", e.Change, e.Lockspace))
	}
	for _, k := range keys {
		o, ok := a.agreed[k]
		if ok && (o.Text != e.Text || o.Change != e.Change) {
			a.found = append(a.found, fmt.Sprintf("I1: %s: node%d says %d %q, node%d says %d %q", k, o.Node, o.Change, o.Text, e.Node, e.Change, e.Text))
		}
		a.agreed[k] = e
	}
}

func (a *audit) evicted(l *life, e Event) {
	if !strings.Contains(e.Text, "needs proof") {
		return
	}
	l.open[e.Incident] = e
	for name, ms := range l.members {
		if slices.Contains(ms, int(e.Subject)) {
			if l.wants[name] == nil {
				l.wants[name] = map[int]bool{}
			}
			l.wants[name][int(e.Subject)] = true
		}
	}
}

func (l *life) proved(e Event) {
	delete(l.open, e.Incident)
	for _, o := range l.open {
		if o.Subject == e.Subject {
			return
		}
	}
	for _, w := range l.wants {
		delete(w, int(e.Subject))
	}
}

// proof is I3.
func (a *audit) proof(l *life, e Event) {
	for _, n := range slices.Sorted(maps.Keys(l.wants[e.Lockspace])) {
		a.say(e, "I3: node%d is evicted and not proved gone", n)
	}
}

// started is I2 on the node itself, and I1 between it and all others.
func (a *audit) started(l *life, e Event) {
	if r, ok := l.running[e.Lockspace]; ok {
		a.say(e, "I2: it ran change %d and had not stopped", r.Change)
	}
	l.running[e.Lockspace] = e
	members, ok := l.members[e.Lockspace]
	if !ok {
		return
	}
	for _, n := range slices.Sorted(maps.Keys(a.lives)) {
		r, runs := a.lives[n].running[e.Lockspace]
		if runs && n != e.Node && !slices.Contains(members, n) && !a.ended(n, r, e.At) {
			a.say(e, "I1: node%d, which is not among %v, runs change %d", n, members, r.Change)
		}
	}
}

// ended says that what a node started had ended by a time, as far as it can be told.
func (a *audit) ended(n int, r Event, by time.Time) bool {
	by = by.Add(toldLate)
	died := slices.ContainsFunc(a.deaths[n], func(d time.Time) bool { return d.After(r.At) && d.Before(by) }) // and could not tell any more
	return died || slices.ContainsFunc(a.stops[n], func(s Event) bool {
		return s.Lockspace == r.Lockspace && s.Seq > r.Seq && s.At.After(r.At) && s.At.Before(by)
	})
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
