package grouptest

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/quorate/quorate/membership"
)

// Checker holds the promises against what the groups do.
type Checker struct {
	Err       error // the first broken promise
	Delivered int   // entries, counted once for each node and life
	Highest   uint64
	Votes     int // that were seen
	// Forced: half of the nodes went on without the others. No majority has what they
	// order, and terms are of one generation.
	Forced bool

	sim     *Sim
	byIndex map[uint64]ordered
	leaders map[uint64]membership.NodeID
	votes   map[poll]uint64 // for whom
}

// poll is what a node votes in once, whatever it lost in between.
type poll struct {
	node membership.NodeID
	term uint64
}

// vote: no node votes for two candidates in one term.
func (c *Checker) vote(n *Node, e membership.GroupSend) {
	if c.sim.provider.Vote == nil {
		return
	}
	term, candidate, ok := c.sim.provider.Vote(e.Data)
	if !ok {
		return
	}
	p := poll{n.ID, term}
	if was, ok := c.votes[p]; ok && was != candidate {
		c.fail("node %d votes for %x in term %d, and did for %x", n.ID, candidate, term, was)
	}
	c.votes[p] = candidate
	c.Votes++
}

// ordered is what the first node that delivered an index got, and the state
// of the consumers after it.
type ordered struct {
	term  uint64
	data  string
	after state
}

// state is the consumers' state: a sum over all entries in order.
type state struct {
	count, last, sum uint64
}

func (s state) add(index uint64, data []byte) state {
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.sum)
	binary.BigEndian.PutUint64(b[8:], index)
	h.Write(b[:])
	h.Write(data)
	return state{s.count + 1, index, h.Sum64()}
}

func (s state) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.count)
	b = binary.BigEndian.AppendUint64(b, s.last)
	return binary.BigEndian.AppendUint64(b, s.sum)
}

func decodeState(b []byte) (state, error) {
	switch len(b) {
	case 0:
		return state{}, nil
	case 24:
		return state{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, nil
	}
	return state{}, fmt.Errorf("a state of %d bytes", len(b))
}

func (c *Checker) fail(format string, v ...any) {
	if c.Err == nil {
		c.Err = fmt.Errorf("at %v: %s", c.sim.Now, fmt.Sprintf(format, v...))
	}
}

func (c *Checker) deliver(n *Node, e membership.GroupDeliver) {
	if e.Index <= n.Last {
		c.fail("node %d delivers %d after %d", n.ID, e.Index, n.Last)
		return
	}
	n.Last = e.Index
	n.state = n.state.add(e.Index, e.Data)
	c.Delivered++
	was, ok := c.byIndex[e.Index]
	if !ok {
		if e.Index < c.Highest {
			c.fail("node %d delivers %d, which others skipped", n.ID, e.Index)
		}
		c.byIndex[e.Index] = ordered{e.Term, string(e.Data), n.state}
		c.Highest = e.Index
		c.durable(n, e)
		return
	}
	if was.term != e.Term || was.data != string(e.Data) {
		c.fail("node %d delivers %d as %q of term %d; it was %q of term %d", n.ID, e.Index, e.Data, e.Term, was.data, was.term)
	}
	if was.after != n.state {
		c.fail("node %d is in another state after %d: entries are missing before it", n.ID, e.Index)
	}
}

// durable: what is delivered for the first time is on the disks of a majority of the
// voters, as the node that delivers it knew them before this step or knows them now.
func (c *Checker) durable(by *Node, e membership.GroupDeliver) {
	if c.sim.provider.Holds == nil || c.Forced || len(c.byIndex)%8 != 0 {
		return
	}
	disks := func(voters []membership.NodeID) (n int) {
		for _, id := range voters {
			if c.sim.provider.Holds(c.sim.Node(id).Disk, e.Index, e.Term) {
				n++
			}
		}
		return n
	}
	now := by.Group.Status().Voters
	if was, is := disks(by.voters), disks(now); was*2 <= len(by.voters) && is*2 <= len(now) {
		c.fail("entry %d is delivered and on the disks of %d of the voters %v, of %d of %v", e.Index, is, now, was, by.voters)
	}
}

func (c *Checker) restore(n *Node, e membership.GroupRestore) {
	st, err := decodeState(e.State)
	if err != nil {
		c.fail("node %d is restored to %v", n.ID, err)
		return
	}
	if e.Index < n.Last || st.last > e.Index {
		c.fail("node %d, at %d, is restored to %d (state of %d)", n.ID, n.Last, e.Index, st.last)
	}
	if was, ok := c.byIndex[st.last]; st.last != 0 && (!ok || was.after != st) {
		c.fail("node %d is restored to a state that never was, %d", n.ID, e.Index)
	}
	for i := st.last + 1; i <= e.Index; i++ {
		if _, ok := c.byIndex[i]; ok {
			c.fail("node %d is restored to %d with the state of %d: entry %d is missing", n.ID, e.Index, st.last, i)
			return
		}
	}
	n.state, n.Last = st, e.Index
}

func (c *Checker) status(n *Node, st membership.GroupStatus) {
	n.voters = st.Voters
	if st.Leader != n.ID || st.Term == 0 || c.Forced || c.sim.provider.Holds == nil {
		return
	}
	if was, ok := c.leaders[st.Term]; ok && was != n.ID {
		c.fail("nodes %d and %d both lead in term %d", was, n.ID, st.Term)
	}
	c.leaders[st.Term] = n.ID
}

// Agreed says whether all nodes that live are at the same, newest state.
func (c *Checker) Agreed() bool {
	for _, n := range c.sim.Nodes {
		if !n.Alive || n.state.last != c.Highest {
			return false
		}
	}
	return true
}
