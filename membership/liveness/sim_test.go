package liveness

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// profiles are the times of the configuration's profiles.
func profile(name string) membership.Timing {
	times := map[string][2]time.Duration{
		"fast":  {10 * time.Millisecond, 40 * time.Millisecond},
		"lan":   {38 * time.Millisecond, 190 * time.Millisecond},
		"round": {40 * time.Millisecond, 200 * time.Millisecond}, // no profile: for tests that count the milliseconds
		"safe":  {400 * time.Millisecond, 2 * time.Second},
		"vm":    {time.Second, 10 * time.Second},
	}[name]
	return membership.Timing{
		Profile: name, Interval: times[0], DeadAfter: times[1], LinkSettle: times[1] + 2*times[0],
		StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second,
	}
}

// cluster is a probe network in one thread, with a time of its own: machines,
// directed links, probes with a phase each, rows with a delay.
type cluster struct {
	now    membership.Mono
	seq    int
	queue  []event
	timing membership.Timing
	rng    *rand.Rand
	nodes  []*host
	links  int
	lost   map[path]bool          // this direction of this link is cut
	late   map[path]time.Duration // rows in this direction take longer
	drop   float64                // of probes
	jitter time.Duration          // of timers
	view   membership.View
	leader membership.NodeID
	commit bool // what the leader convicts is evicted, who is steady is admitted
	admit  bool
	quiet  bool
	lines  []string
	seen   func(h *host, e Effect) // for properties
}

type path struct {
	from, to membership.NodeID
	link     int
}

type event struct {
	at  membership.Mono
	seq int
	do  func()
}

// host is one node.
type host struct {
	id      membership.NodeID
	m       *Machine
	dead    bool
	halted  membership.Mono // its daemon does not run until then
	ticked  membership.Mono // its daemon's last progress before it halted
	frozen  membership.Mono // its kernel does not answer until then
	timer   int
	samples map[path]*membership.Sample
	verdict []membership.Departure
	judge   membership.GroupJudge
	rows    int
}

const (
	rtt   = 200 * time.Microsecond
	wire  = 300 * time.Microsecond // a row's way
	agree = time.Millisecond       // proposal to delivery
)

func newCluster(n, links int, timing membership.Timing, seed uint64) *cluster {
	c := &cluster{
		timing: timing, links: links, rng: rand.New(rand.NewPCG(seed, 1)), leader: 1,
		lost: map[path]bool{}, late: map[path]time.Duration{}, now: membership.Mono(time.Hour),
	}
	var ids []membership.NodeID
	for i := range n {
		id := membership.NodeID(i + 1)
		ids = append(ids, id)
		c.view.Members = append(c.view.Members, membership.Incarnation{Node: id, Boot: "b"})
	}
	c.view.Number, c.view.Quorate = 1, true
	for _, id := range ids {
		h := &host{id: id, samples: map[path]*membership.Sample{}}
		h.m = New(Config{Self: id, Nodes: ids, Timing: timing, Policy: quorum.Majority(ids...), Instance: 1}, c.now)
		c.nodes = append(c.nodes, h)
	}
	for _, h := range c.nodes {
		c.step(h, ViewIn{View: c.view})
		c.step(h, Leader{Node: c.leader})
		for _, p := range ids {
			for l := range links {
				if p != h.id {
					c.probe(h, path{h.id, p, l}, c.now.Add(time.Duration(c.rng.Int64N(int64(timing.Interval)))))
				}
			}
		}
	}
	return c
}

func (c *cluster) host(id membership.NodeID) *host { return c.nodes[id-1] }

func (c *cluster) after(at membership.Mono, do func()) {
	c.seq++
	e := event{at, c.seq, do}
	i, _ := slices.BinarySearchFunc(c.queue, e, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq))
	})
	c.queue = slices.Insert(c.queue, i, e)
}

func (c *cluster) run(d time.Duration) {
	end := c.now.Add(d)
	for len(c.queue) > 0 && c.queue[0].at <= end {
		e := c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
		c.now = e.at
		e.do()
	}
	c.now = end
}

// probe asks a peer at that time, and every interval thereafter. A daemon that
// is halted does not ask; a kernel that is frozen or dead does not answer.
func (c *cluster) probe(h *host, p path, at membership.Mono) {
	c.after(at, func() {
		c.probe(h, p, at.Add(c.timing.Interval))
		if h.dead || c.now < h.halted {
			return
		}
		q := c.host(p.to)
		if c.lost[p] || c.lost[path{p.to, p.from, p.link}] || q.dead || c.now < q.frozen || c.rng.Float64() < c.drop {
			return
		}
		var age time.Duration
		if c.now < q.halted {
			age = c.now.Sub(q.ticked)
		}
		c.after(c.now.Add(rtt), func() {
			h.samples[p] = &membership.Sample{Peer: p.to, Link: p.link, Heard: c.now, DaemonAge: age, Instance: 1}
		})
	})
}

// step gives a machine an input, does what it asks for and sets its timer.
func (c *cluster) step(h *host, in Input) {
	for _, e := range h.m.Step(c.now, in) {
		c.execute(h, e)
	}
	h.timer++
	c.arm(h, h.timer)
}

func (c *cluster) arm(h *host, timer int) {
	late := time.Duration(0)
	if c.jitter > 0 {
		late = time.Duration(c.rng.Int64N(int64(c.jitter)))
	}
	at := max(h.m.Deadline(), c.now, h.halted).Add(late)
	c.after(at, func() {
		switch {
		case h.timer != timer || h.dead:
		case c.now < h.halted:
			c.arm(h, timer)
		default:
			c.step(h, Observed{Samples: c.snapshot(h)})
		}
	})
}

func (c *cluster) snapshot(h *host) []membership.Sample {
	var out []membership.Sample
	for _, q := range c.nodes {
		for l := range c.links {
			if s := h.samples[path{h.id, q.id, l}]; s != nil {
				out = append(out, *s)
			}
		}
	}
	return out
}

func (c *cluster) execute(h *host, e Effect) {
	if c.seen != nil {
		c.seen(h, e)
	}
	switch e := e.(type) {
	case SendRow:
		h.rows++
		for _, q := range c.nodes {
			if q != h {
				c.send(h, q, e.Row)
			}
		}
		return
	case Convicted:
		h.verdict = e.Departures
		c.maybeEvict(h)
	case JudgeChanged:
		was := h.judge
		h.judge = e.Judge
		if c.commit && e.Judge.LeaderDead && e.Judge.Rank == 0 {
			c.after(c.now.Add(agree), func() { c.elect(h) })
		}
		if was.LeaderDead == e.Judge.LeaderDead && was.LeaderStalled == e.Judge.LeaderStalled {
			return // hears, dead and rank alone are in the status
		}
	}
	c.trace(h, e)
}

func (c *cluster) send(h, q *host, r Row) {
	c.after(c.now.Add(wire+c.late[path{h.id, q.id, 0}]), func() { c.deliver(h, q, r) })
}

// deliver gives a row over any link that works both ways; a halted daemon finds it when it wakes.
func (c *cluster) deliver(h, q *host, r Row) {
	up := false
	for l := range c.links {
		up = up || !c.lost[path{h.id, q.id, l}] && !c.lost[path{q.id, h.id, l}]
	}
	if wakes := max(q.halted, q.frozen); c.now < wakes {
		c.after(wakes, func() { c.deliver(h, q, r) })
		return
	}
	if up && !q.dead {
		c.step(q, RowIn{Row: r})
	}
}

func (c *cluster) elect(h *host) {
	if h.dead || c.leader == h.id || !h.judge.LeaderDead {
		return
	}
	c.leader = h.id
	for _, q := range c.alive() {
		c.step(q, Leader{Node: h.id})
	}
	c.maybeEvict(h)
}

func (c *cluster) maybeEvict(h *host) {
	if !c.commit || h.id != c.leader || len(h.verdict) == 0 {
		return
	}
	c.after(c.now.Add(agree), func() {
		v := membership.View{Number: c.view.Number + 1, Quorate: true}
		for _, i := range c.view.Members {
			if at := slices.IndexFunc(h.verdict, func(d membership.Departure) bool { return d.Incarnation == i }); at >= 0 {
				v.Left = append(v.Left, h.verdict[at])
			} else {
				v.Members = append(v.Members, i)
			}
		}
		if len(v.Left) > 0 && h.id == c.leader {
			c.install(v)
		}
	})
}

func (c *cluster) install(v membership.View) {
	c.view = v
	c.note(fmt.Sprintf("view %d %v", v.Number, v.IDs()))
	for _, q := range c.alive() {
		c.after(max(c.now, q.halted), func() {
			if q.verdict = nil; !q.dead {
				c.step(q, ViewIn{View: v})
			}
		})
	}
}

// admitter lets the leader admit who is steady, ten times a second.
func (c *cluster) admitter() {
	c.after(c.now.Add(100*time.Millisecond), func() {
		c.admitter()
		l := c.host(c.leader)
		for _, h := range c.nodes {
			if _, in := c.view.Find(h.id); in || l.dead || !l.m.Steady(h.id) {
				continue
			}
			v := membership.View{Number: c.view.Number + 1, Quorate: true, Joined: []membership.NodeID{h.id}}
			v.Members = append(slices.Clone(c.view.Members), membership.Incarnation{Node: h.id, Boot: "b"})
			slices.SortFunc(v.Members, func(a, b membership.Incarnation) int { return cmp.Compare(a.Node, b.Node) })
			c.install(v)
			return
		}
	})
}

func (c *cluster) alive() []*host {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(h *host) bool { return h.dead })
}

func (c *cluster) both(a, b membership.NodeID, down bool) {
	for l := range c.links {
		c.lost[path{a, b, l}], c.lost[path{b, a, l}] = down, down
	}
}

func (c *cluster) halt(id membership.NodeID, d time.Duration) {
	h := c.host(id)
	h.ticked, h.halted = c.now, c.now.Add(d)
	if d == 0 {
		h.halted = membership.Mono(1 << 62)
	}
}

func (c *cluster) freeze(id membership.NodeID, d time.Duration) {
	c.halt(id, d)
	c.host(id).frozen = c.now.Add(d)
}

func (c *cluster) trace(h *host, e Effect) {
	switch e := e.(type) {
	case Suspected:
		what := ""
		if e.Path {
			what = " on the DLM's path"
		}
		c.note(fmt.Sprintf("%d suspects %d: silent %v%s", h.id, e.Node, e.Silent.Round(100*time.Microsecond), what))
	case Cleared:
		c.note(fmt.Sprintf("%d clears %d", h.id, e.Node))
	case Convicted:
		var out []string
		for _, d := range e.Departures {
			out = append(out, fmt.Sprintf("%d %s by %v", d.Incarnation.Node, d.Reason, d.Observers))
		}
		if out == nil {
			out = []string{"nobody any more"}
		}
		c.note(fmt.Sprintf("%d convicts %s", h.id, strings.Join(out, ", ")))
	case QuorumChanged:
		c.note(fmt.Sprintf("%d quorum %v: %s", h.id, e.Have, e.Text))
	case Paused:
		c.note(fmt.Sprintf("%d paused for %v", h.id, e.For.Round(100*time.Microsecond)))
	case JudgeChanged:
		j := e.Judge
		c.note(fmt.Sprintf("%d judges leader: dead %v, stalled %v, rank %d", h.id, j.LeaderDead, j.LeaderStalled, j.Rank))
	}
}

func (c *cluster) note(s string) {
	if !c.quiet {
		c.lines = append(c.lines, fmt.Sprintf("%9.1fms %s", float64(c.now-membership.Mono(time.Hour))/1e6, s))
	}
}
