package sim

import (
	"time"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// network has a path from each node to each on every link, and one connection
// between the daemons of each pair, over whatever link works.
type network struct {
	w     *world
	r     *rng
	n     int
	cuts  [][]int // by link, then from*n+to: how many faults cut it
	ports []int   // from*n+to: how many faults close the DLM's port, and nothing else
	conns []*conn // by pair
	drop  float64 // of messages, for full queues
}

// conn is the connection of a pair.
type conn struct {
	a, b    *host
	gen     uint64
	up      [2]bool    // as each side sees it
	run     [2]*daemon // whose it is
	last    [2]time.Duration
	held    [2][][]byte // messages that wait for the path, by direction (0: a to b)
	broken  bool        // the path is cut: it will break
	dialing bool
}

func newNetwork(w *world) *network {
	n := &network{w: w, r: stream(w.opt.Seed, "network", 0), n: w.plan.nodes}
	if w.plan.witness {
		n.n++
	}
	for range w.plan.links {
		n.cuts = append(n.cuts, make([]int, n.n*n.n))
	}
	n.conns, n.ports = make([]*conn, n.n*n.n), make([]int, n.n*n.n)
	return n
}

func (n *network) conn(a, b membership.NodeID) (*conn, int) {
	side := 0
	if a > b {
		a, b, side = b, a, 1
	}
	i := n.place(a)*n.n + n.place(b)
	if n.conns[i] == nil {
		n.conns[i] = &conn{a: n.w.host(a), b: n.w.host(b)}
	}
	return n.conns[i], side
}

// cut adds (1) or takes away (-1) a cut of one direction. Link -1: all.
func (n *network) cut(link int, from, to membership.NodeID, by int) {
	for l := range n.cuts {
		if link < 0 || l == link {
			n.cuts[l][n.place(from)*n.n+n.place(to)] += by
		}
	}
}

// splitBy calls cut for every direction between those who are in and those who are not.
func (n *network) splitBy(in func(*host) bool, cut func(from, to *host)) {
	for _, a := range n.w.all() {
		for _, b := range n.w.all() {
			if in(a) != in(b) {
				cut(a, b)
			}
		}
	}
}

func (n *network) path(link int, from, to membership.NodeID) bool {
	return n.cuts[link][n.place(from)*n.n+n.place(to)] == 0
}

// anyPath says whether a packet gets through on some link.
func (n *network) anyPath(from, to membership.NodeID) bool {
	for l := range n.cuts {
		if n.path(l, from, to) {
			return true
		}
	}
	return false
}

// dlmPath: the DLM's TCP needs both directions of link 0, or with a stable address of
// any one; that its route follows takes no time here.
func (n *network) dlmPath(a, b membership.NodeID) bool {
	carries := false
	for l := range n.cuts {
		carries = carries || (l == 0 || n.w.plan.stable) && n.path(l, a, b) && n.path(l, b, a)
	}
	return carries && n.ports[n.place(a)*n.n+n.place(b)]+n.ports[n.place(b)*n.n+n.place(a)] == 0
}

// closePort adds (1) or takes away (-1) a closed port of the DLM.
func (n *network) closePort(from, to membership.NodeID, by int) {
	n.ports[n.place(from)*n.n+n.place(to)] += by
}

// changed looks at everything again after power, daemons or paths have changed.
func (n *network) changed() {
	n.w.probes.refresh()
	for a := range n.n {
		for b := a + 1; b < n.n; b++ {
			c, _ := n.conn(n.at(a), n.at(b))
			n.look(c)
		}
	}
}

func (c *conn) host(side int) *host {
	if side == 0 {
		return c.a
	}
	return c.b
}

// whole: both directions let packets through and both kernels answer.
func (n *network) whole(c *conn) bool {
	return n.anyPath(c.a.id, c.b.id) && n.anyPath(c.b.id, c.a.id) && c.a.on && c.b.on && c.a.frozen == 0 && c.b.frozen == 0
}

func (n *network) look(c *conn) {
	if strangers(c.a, c.b) {
		if c.up[0] || c.up[1] {
			n.close(c, "not configured any more")
		}
		return
	}
	whole := n.whole(c)
	if c.up[0] || c.up[1] {
		switch {
		case !whole && !c.broken:
			c.broken = true
			gen := c.gen
			n.w.after(n.r.Between(2500*time.Millisecond, 5500*time.Millisecond), func() {
				if c.gen == gen && c.broken {
					n.close(c, "timed out")
				}
			})
		case whole && c.broken:
			c.broken = false
			n.flush(c)
		}
	}
	if whole && !c.dialing && c.talks() && (!c.up[0] || !c.up[1]) {
		n.dial(c, n.r.Between(100*time.Millisecond, 1000*time.Millisecond))
	}
}

func (n *network) dial(c *conn, after time.Duration) {
	c.dialing = true
	n.w.after(after, func() {
		c.dialing = false
		if !n.whole(c) || !c.talks() || c.up[0] && c.up[1] || strangers(c.a, c.b) {
			return
		}
		if c.a.paused+c.b.paused > 0 {
			n.dial(c, 300*time.Millisecond) // nobody shakes hands
			return
		}
		n.close(c, "replaced by a new connection")
		if c.a.d == nil || c.b.d == nil {
			return // one died of the news
		}
		c.gen++
		c.broken, c.up, c.run = false, [2]bool{true, true}, [2]*daemon{c.a.d, c.b.d}
		c.held, c.last = [2][][]byte{}, [2]time.Duration{n.w.now, n.w.now}
		n.w.note(c.gen<<16 | uint64(c.a.id)<<8 | uint64(c.b.id))
		c.a.d.give(node.Connected{Peer: c.b.id})
		c.b.d.give(node.Connected{Peer: c.a.id})
	})
}

// close ends a connection on the sides that still have it.
func (n *network) close(c *conn, why string) {
	for side := range 2 {
		if !c.up[side] {
			continue
		}
		c.up[side] = false
		if h := c.host(side); h.d != nil && h.d == c.run[side] {
			h.d.give(node.Disconnected{Peer: c.host(1 - side).id, Err: why})
		}
	}
	c.held, c.broken = [2][][]byte{}, false
	c.gen++
	n.w.after(0, func() { n.look(c) })
}

// reset ends the connections of a daemon that died on a living kernel: those
// whom it can reach are told at once.
func (n *network) reset(id membership.NodeID) { n.each(id, true) }

// silent marks the connections of a host that lost its power: nobody is told.
func (n *network) silent(id membership.NodeID) { n.each(id, false) }

func (n *network) each(id membership.NodeID, tell bool) {
	for _, h := range n.w.all() {
		if h.id == id {
			continue
		}
		c, side := n.conn(id, h.id)
		c.up[side] = false
		if tell && n.anyPath(id, h.id) && c.up[1-side] {
			gen := c.gen
			n.w.after(n.r.Between(time.Millisecond, 5*time.Millisecond), func() {
				if c.gen == gen {
					n.close(c, "reset by peer")
				}
			})
		}
	}
}

// send carries a message in order, or loses it.
func (n *network) send(from, to membership.NodeID, data []byte) {
	if n.w.host(to) == nil || from == to {
		return
	}
	n.w.noteBytes(data)
	c, side := n.conn(from, to)
	if !c.up[side] || c.run[side] != n.w.host(from).d || n.r.Chance(n.drop) {
		return
	}
	if len(c.held[side]) > 0 || !n.anyPath(from, to) {
		c.held[side] = append(c.held[side], data)
		return
	}
	d := n.w.plan.delay/2 + n.r.Between(0, n.w.plan.delay)
	if n.r.Chance(n.w.plan.loss) {
		d += n.r.Between(40*time.Millisecond, 220*time.Millisecond)
	}
	n.deliver(c, side, data, d)
}

func (n *network) deliver(c *conn, side int, data []byte, d time.Duration) {
	at := max(n.w.now+d, c.last[side]+time.Microsecond)
	c.last[side] = at
	gen := c.gen
	n.w.at(at, func() {
		to, from := c.host(1-side), c.host(side)
		switch {
		case c.gen != gen || !c.up[1-side] || to.d == nil || to.d != c.run[1-side]:
		case len(c.held[side]) > 0 || !n.anyPath(from.id, to.id) || to.frozen > 0:
			c.held[side] = append(c.held[side], data)
		default:
			to.d.give(node.Received{From: from.id, Data: data})
		}
	})
}

// flush sends what waited, after the sender's TCP has tried again.
func (n *network) flush(c *conn) {
	gen := c.gen
	n.w.after(n.r.Between(10*time.Millisecond, 400*time.Millisecond), func() {
		if c.gen != gen || !n.whole(c) {
			return
		}
		for side := range 2 {
			held := c.held[side]
			c.held[side] = nil
			for _, data := range held {
				n.deliver(c, side, data, n.w.plan.delay)
			}
		}
	})
}
