package sim

import (
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
)

// checker holds the invariants. It knows what kernels, disks and power switches
// did; the only thing that it asks a node is the size of its view (I4).
type checker struct {
	w         *world
	log       map[place]uint64 // what was delivered there
	snapshots map[place]uint64 // state as of it
	last      map[*daemon]uint64
	changes   map[string][]lockspace.Member // lockspace/change -> members of the first start
	crashed   map[crash]informed
	promises  map[membership.NodeID]promise // of holds
	quiet     maintained
	votes     map[poll]raft.Ballot
	texts     map[uint64]version // of the configuration, by number
	newest    uint64
	refusals  map[refusal]bool
	// falseProof: an operator's word that a node is gone was wrong.
	falseProof bool
}

// poll is what a node votes in once, whatever it lost in between.
type poll struct {
	node membership.NodeID
	term uint64
	line string
}

// place is an index of one order. With raft there is only one, but see line.
type place struct {
	run   string
	index uint64
}

// place gives an index its run, where a restarted sequencer begins another order.
func (c *checker) place(h *host, index uint64) place {
	if c.w.opt.Static {
		return place{h.d.group.Status().ClusterID, index}
	}
	return place{c.line(h), index}
}

// crash is a boot that lost its power with a lockspace mounted, or withdrew.
type crash struct {
	name string
	node membership.NodeID
	boot membership.BootID
}

// informed are the kernels, by their boot, that were told of a crash. Who withdrew may come
// back, and die before it has mounted again: there is no other journal to replay then.
type informed map[membership.BootID]bool

func newChecker(w *world) *checker {
	return &checker{w: w, log: map[place]uint64{}, snapshots: map[place]uint64{}, last: map[*daemon]uint64{},
		changes: map[string][]lockspace.Member{}, crashed: map[crash]informed{}, promises: map[membership.NodeID]promise{},
		votes: map[poll]raft.Ballot{}, texts: map[uint64]version{}, refusals: map[refusal]bool{}}
}

func sum(b []byte) uint64 {
	f := fnv.New64a()
	_, _ = f.Write(b) // never fails
	return f.Sum64()
}

// delivered: the same index carries the same entry at every node, and indexes grow.
func (c *checker) delivered(h *host, e membership.GroupEffect) {
	switch e := e.(type) {
	case membership.GroupDeliver:
		c.order(h, e.Index)
		s := sum(e.Data)
		if old, ok := c.log[c.place(h, e.Index)]; ok && old != s {
			c.w.violate("log-agreement", "node %d was given another entry at index %d: %s", h.id, e.Index, e.Data)
		}
		c.log[c.place(h, e.Index)] = s
		if c.w.tracing() {
			h.tracef("  applied %d: %s", e.Index, e.Data)
		}
	case membership.GroupRestore:
		c.last[h.d] = e.Index
	}
}

// sent: no node votes for two candidates in one term (S1, S2).
func (c *checker) sent(h *host, data []byte) {
	body, ok := node.GroupMessage(data)
	if !ok {
		return
	}
	b, ok := raft.ReadBallot(body)
	if !ok {
		return
	}
	p := poll{h.id, b.Term, c.line(h)}
	if was, ok := c.votes[p]; ok && was.For != b.For {
		c.w.violate("one-vote", "node %d votes for %x in term %d, and did for %x", h.id, b.For, b.Term, was.For)
	}
	c.votes[p] = b
}

// overridden: an operator answers for it that what others may have agreed is given up.
func (c *checker) overridden() {
	clear(c.log)
	clear(c.snapshots)
	clear(c.changes)
}

func (c *checker) order(h *host, index uint64) {
	if index <= c.last[h.d] {
		c.w.violate("log-agreement", "node %d was given index %d after %d", h.id, index, c.last[h.d])
	}
	c.last[h.d] = index
}

// state: as of an index it is the same everywhere.
func (c *checker) state(h *host, index uint64, state []byte) {
	s := sum(state)
	if old, ok := c.snapshots[c.place(h, index)]; ok && old != s {
		c.w.violate("log-agreement", "node %d has another state as of index %d: %s", h.id, index, state)
	}
	c.snapshots[c.place(h, index)] = s
}

// asked is a start that a node asked its kernel for. I4: the view that it has is
// a quorum of the configured nodes.
func (c *checker) asked(h *host, e lockspace.Start) {
	have, all := len(h.d.n.Members()), len(h.d.cfg.Nodes)
	if h.d.n.Witness() != nil { // it votes, and is with whatever was ordered
		have, all = have+1, all+1
	}
	if c.w.opt.Static {
		return // whoever left cleanly is not needed; the other invariants say whether he was
	}
	if have < all/2+1 && !c.alone(h.d.n.Members(), e.Lockspace) {
		c.w.violate("I4 quorum-before-start", "node %d starts %s/%d in a view of %d of %d nodes", h.id, e.Lockspace, e.Change, have, all)
	}
}

// alone: by the rules fewer than a quorum may go on, and nobody else is in the way.
func (c *checker) alone(members []membership.NodeID, name string) bool {
	if !c.w.plan.fewer() {
		return false
	}
	return !slices.ContainsFunc(c.w.hosts, func(o *host) bool {
		return o.on && !slices.Contains(members, o.id) && o.kern.space(name) != nil && o.kern.space(name).started
	})
}

// started is a control=1 at this moment.
func (c *checker) started(h *host, s *kspace) {
	c.w.note(s.change<<16 | uint64(h.id)<<8 | 5)
	c.sameMembers(h, s)
	for _, o := range c.w.hosts {
		if o == h || !o.on {
			continue
		}
		if os := o.kern.space(s.name); os != nil && os.started {
			c.against(h, s, o, os)
		}
	}
	c.zombies(h, s)
}

// against judges a start by what another kernel holds.
func (c *checker) against(h *host, s *kspace, o *host, os *kspace) {
	what := fmt.Sprintf("node %d starts %s/%d with %v while node %d (%s) ", h.id, s.name, s.change, show(s.members), o.id, o.boot)
	named := slices.ContainsFunc(s.members, func(m lockspace.Member) bool { return m.Incarnation.Node == o.id && m.Incarnation.Boot == o.boot })
	switch {
	case named && os.running && os.change != s.change:
		c.w.violate("I2 stop-before-start", "%sruns change %d and has not stopped", what, os.change)
	case named:
	case os.running && disjoint(s.members, os.members):
		c.w.violate("I1 one-primary", "%sruns change %d with %v", what, os.change, show(os.members))
	case os.mounted:
		c.w.violate("I3 fence-before-recover", "%sis alive and writes to the disk (it runs: %v)", what, os.running)
	case os.running:
		c.w.violate("I2 stop-before-start", "%sruns change %d and is not in it", what, os.change)
	}
}

func show(ms []lockspace.Member) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Incarnation.String())
	}
	return out
}

func disjoint(a, b []lockspace.Member) bool {
	return !slices.ContainsFunc(a, func(m lockspace.Member) bool {
		return slices.ContainsFunc(b, func(o lockspace.Member) bool { return o.Incarnation == m.Incarnation })
	})
}

// sameMembers is I5: all starts of a change name the same members.
func (c *checker) sameMembers(h *host, s *kspace) {
	key := s.name + "/" + itoa(s.change)
	if old, ok := c.changes[key]; ok && !slices.Equal(old, s.members) {
		c.w.violate("I5 same-members", "node %d starts %s with %v, another did with %v", h.id, key, show(s.members), show(old))
	}
	c.changes[key] = slices.Clone(s.members)
}

// zombies is I7: a kernel that holds a lockspace is never a member under
// another session than the one that it joined with.
func (c *checker) zombies(h *host, s *kspace) {
	for _, m := range s.members {
		o := c.w.host(m.Incarnation.Node)
		if !o.on || o.boot != m.Incarnation.Boot {
			continue
		}
		for _, os := range o.kern.spaces {
			if os.started && os.session != m.Incarnation.Session {
				c.w.violate("I7 no-zombie", "node %d starts %s/%d with %v, whose kernel holds %s of session %d",
					h.id, s.name, s.change, m.Incarnation, os.name, os.session)
			}
		}
	}
}

// recovered: a kernel that knew a member which crashed was told that it failed,
// else nobody replays its journal. One whose own mount waits replays none: those who
// have mounted do, and where there is nobody the first to mount looks at all journals.
func (c *checker) recovered(h *host, s *kspace, was []known, failed []membership.Incarnation) {
	for _, k := range was {
		i := k.member.Incarnation
		named := slices.ContainsFunc(s.members, func(m lockspace.Member) bool { return m.Incarnation == i })
		crashed := c.crashed[crash{s.name, i.Node, i.Boot}]
		switch {
		case named || crashed == nil:
		case slices.Contains(failed, i):
			crashed[h.boot] = true
		case s.mounted && !crashed[h.boot]:
			c.w.violate("journal-replay", "node %d recovered %s/%d without having been told that %v failed", h.id, s.name, s.change, i)
		}
	}
}

// mounted: a program begins to use a lockspace; it must be started, and nobody
// else may have gone on without it.
func (c *checker) mounted(h *host, s *kspace) {
	delete(c.crashed, crash{s.name, h.id, h.boot}) // who withdrew, and is back
	for _, o := range c.w.hosts {
		if o == h || !o.on {
			continue
		}
		os := o.kern.space(s.name)
		if os == nil || !os.running || os.change <= s.change {
			continue
		}
		if !slices.ContainsFunc(os.members, func(m lockspace.Member) bool { return m.Incarnation.Node == h.id && m.Incarnation.Boot == h.boot }) {
			c.w.violate("I3 fence-before-recover", "node %d mounts %s of change %d while node %d runs change %d without it",
				h.id, s.name, s.change, o.id, os.change)
		}
	}
}

// shot is a power cut by a fence agent. S12: it does not hit a later life of the
// victim that holds lockspaces already. And nobody is shot who was well.
func (c *checker) shot(d *daemon, v *host, job membership.FenceJob) {
	if v.boot == job.Victim.Boot {
		c.shotWell(d, v, job)
		return
	}
	if slices.ContainsFunc(v.kern.spaces, func(s *kspace) bool { return s.started }) {
		c.w.violate("stray-shot", "attempt %d against %v cuts %s, which holds lockspaces", job.Attempt, job.Victim, v.boot)
	}
}

// died is a power cut, whoever did it.
func (c *checker) died(h *host) {
	for _, s := range h.diedWith {
		if s.mounted {
			c.crashed[crash{s.name, h.id, h.boot}] = informed{}
		}
		c.forget(s.name)
	}
}

// withdrew: a file system gave up; its journal is as that of one that died.
func (c *checker) withdrew(h *host, s *kspace) { c.crashed[crash{s.name, h.id, h.boot}] = informed{} }

// forget drops the changes of a lockspace that no kernel has any more.
func (c *checker) forget(name string) {
	for _, h := range c.w.hosts {
		if h.on && h.kern != nil {
			if s := h.kern.space(name); s != nil && s.started {
				return
			}
		}
	}
	for key := range c.changes {
		if len(key) > len(name) && key[:len(name)] == name && key[len(name)] == '/' {
			delete(c.changes, key)
		}
	}
}

// missing says what is not yet as it should be; empty: everything runs (I8).
func (c *checker) missing() string {
	for _, h := range c.w.hosts {
		if !c.configured(h.id) {
			continue
		}
		if !h.on || h.d == nil || h.d.n == nil {
			return fmt.Sprintf("node %d has no daemon", h.id)
		}
		if !h.d.n.Member() {
			return fmt.Sprintf("node %d is no member", h.id)
		}
		for i, name := range c.w.plan.spaces {
			s := h.kern.space(name)
			switch {
			case h.wants[i] && (s == nil || !s.mounted || !s.running || !s.done):
				return fmt.Sprintf("%s does not run on node %d", name, h.id)
			case !h.wants[i] && s != nil:
				return fmt.Sprintf("%s is still on node %d", name, h.id)
			}
		}
	}
	return c.w.witnessMissing(c.w.healed != 0)
}

// states compares the replicated states of the nodes that have applied as much.
func (c *checker) states() {
	for _, h := range c.w.hosts {
		if h.d == nil || h.d.n == nil || h.d.busy {
			continue
		}
		b, err := h.d.n.State()
		if err != nil {
			c.w.violate("machine", "node %d: %v", h.id, err)
			return
		}
		c.state(h, h.d.group.Status().Applied, b)
	}
}
