package tcp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/commtest"
)

// twin is two nodes with several links, each of which can be cut without a word.
type twin struct {
	*rig
	t      *testing.T
	nodes  []membership.Node
	a, b   *commtest.Daemon // a dials
	ca, cb *Comm

	mu     sync.Mutex
	cables map[netip.Addr][]*cable // by the address that was dialled
	dials  int
}

// link gives nodes further addresses.
func link(nodes []membership.Node, links int) {
	for i := range nodes {
		for len(nodes[i].Addrs) < links {
			a := nodes[i].Addrs[len(nodes[i].Addrs)-1].As4()
			a[1]++
			nodes[i].Addrs = append(nodes[i].Addrs, netip.AddrFrom4(a))
		}
	}
}

func newTwin(t *testing.T, links int, edit func(a, b *Comm)) *twin {
	t.Helper()
	w := &twin{rig: &rig{}, t: t, cables: map[netip.Addr][]*cable{}}
	w.nodes = w.rig.nodes(t, 2)
	link(w.nodes, links)
	key := commtest.Secret(t)
	w.b, w.cb = w.start(t, commtest.Spec{Self: 2, Nodes: w.nodes, Secret: key, Instance: 22}, func(c *Comm) { edit(nil, c) })
	w.a, w.ca = w.start(t, commtest.Spec{Self: 1, Nodes: w.nodes, Secret: key, Instance: 11}, func(c *Comm) {
		c.dial = w.dial
		edit(c, nil)
	})
	w.a.Await(commtest.Connected, 2, 1)
	w.b.Await(commtest.Connected, 1, 1)
	return w
}

// dial connects on link 0 before any other, however slow the machine.
func (w *twin) dial(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	early := w.dials == 0 && r.Addr() != w.nodes[1].Addrs[0]
	w.mu.Unlock()
	if early {
		return nil, errors.New("link 0 comes first")
	}
	conn, err := dialTCP(ctx, l, r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials++
	c := &cable{Conn: conn}
	w.t.Cleanup(func() { _ = conn.Close() })
	w.cables[r.Addr()] = append(w.cables[r.Addr()], c)
	return c, nil
}

func (w *twin) cut(links ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range links {
		for _, c := range w.cables[w.nodes[1].Addrs[l]] {
			c.cut.Store(true)
		}
	}
}

func (w *twin) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// at waits until both ends use one link and keep a spare on another; -1: on none.
func (w *twin) at(use, spare int) {
	w.t.Helper()
	for i, c := range []*Comm{w.ca, w.cb} {
		peer := w.nodes[1-i]
		eventually(w.t, "the connection and its spare are where they belong", func() bool {
			st := c.Status().Peers[0]
			where := func(l int) netip.Addr {
				if l < 0 {
					return netip.Addr{}
				}
				return peer.Addrs[l]
			}
			return st.Connected && st.Addr.Addr() == where(use) && st.Spare.Addr() == where(spare)
		})
	}
}

// pump sends numbers from each end until stop, and checks that the other gets each at
// most once, in order, and those of one connection without a gap.
func (w *twin) pump() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, d := range []struct {
		from *commtest.Daemon
		to   membership.NodeID
	}{{w.a, 2}, {w.b, 1}} {
		wg.Go(func() {
			for n := uint64(1); ctx.Err() == nil; n++ {
				for !d.from.Send(d.to, binary.BigEndian.AppendUint64(nil, n)) && ctx.Err() == nil {
					time.Sleep(100 * time.Microsecond)
				}
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	return func() {
		w.t.Helper()
		cancel()
		wg.Wait()
		for _, d := range []*commtest.Daemon{w.a, w.b} {
			last, begun, n := uint64(0), false, 0
			for _, c := range d.Calls() {
				switch {
				case c.Kind == commtest.Connected:
					begun = false
				case c.Kind == commtest.Message && len(c.Data) == 8:
					is := binary.BigEndian.Uint64(c.Data)
					if is <= last || begun && is != last+1 {
						w.t.Errorf("%d came after %d", is, last)
					}
					last, begun, n = is, true, n+1
				}
			}
			if n < 10 {
				w.t.Errorf("only %d numbers came", n)
			}
		}
	}
}

func both(*Comm, *Comm) {}

// The link of the connection carries nothing any more and says nothing of it: whoever
// notices, the spare takes its place at once, without a new connection being made.
func TestMoveToTheSpare(t *testing.T) {
	for who, silent := range map[string]func(w *twin){
		"the dialler":  func(w *twin) { w.ca.Avoid(2, []int{0}) },
		"the listener": func(w *twin) { w.cb.Avoid(1, []int{0}) },
		"both": func(w *twin) {
			w.cb.Avoid(1, []int{0})
			w.ca.Avoid(2, []int{0})
		},
	} {
		t.Run(who, func(t *testing.T) {
			w := newTwin(t, 2, both)
			w.at(0, 1)
			stop := w.pump()
			eventually(t, "numbers come", func() bool { return w.a.Count(commtest.Message, 2) > 20 && w.b.Count(commtest.Message, 1) > 20 })
			dials := w.dialled()
			w.cut(0)
			began := time.Now()
			silent(w)
			w.a.Await(commtest.Connected, 2, 2)
			w.b.Await(commtest.Connected, 1, 2)
			took := time.Since(began)
			had := w.b.Count(commtest.Message, 1)
			eventually(t, "numbers come again", func() bool { return w.b.Count(commtest.Message, 1) > had+20 })
			stop()
			if took > useTimeout {
				t.Errorf("it took %v", took)
			}
			if who == "the dialler" && w.dialled() != dials { // one that was asked goes on with the old link as a spare's
				t.Errorf("%d connections were made for it", w.dialled()-dials)
			}
			if at := w.ca.Status().Peers[0].Addr.Addr(); at != w.nodes[1].Addrs[1] {
				t.Errorf("connected to %v", at)
			}
			for _, d := range []*commtest.Daemon{w.a, w.b} {
				for _, c := range d.Calls() {
					if c.Kind == commtest.Disconnected && !errors.Is(c.Err, ErrMoved) {
						t.Errorf("the old one ended with %v", c.Err)
					}
				}
			}
		})
	}
}

// It stays where it is when the link carries again, and goes back when the other one
// goes silent.
func TestMoveThereAndBack(t *testing.T) {
	w := newTwin(t, 2, both)
	w.at(0, 1)
	w.cut(0)
	w.ca.Avoid(2, []int{0})
	w.cb.Avoid(1, []int{0})
	w.at(1, -1)
	w.ca.Avoid(2, nil)
	w.cb.Avoid(1, nil)
	w.at(1, 0)
	w.cut(1)
	w.ca.Avoid(2, []int{1})
	w.at(0, -1)
	w.a.Await(commtest.Connected, 2, 3) // told after it is seen in the status
	if n := w.a.Count(commtest.Connected, 2); n != 3 {
		t.Errorf("connected %d times", n)
	}
}

// A peer that is silent everywhere is not left for another link.
func TestSilentEverywhere(t *testing.T) {
	w := newTwin(t, 2, both)
	w.at(0, 1)
	w.ca.Avoid(2, []int{0, 1})
	w.cb.Avoid(1, []int{0, 1})
	w.ca.Avoid(99, []int{0})
	w.a.Send(2, []byte("still here"))
	w.b.AwaitMessage(1, []byte("still here"))
	if n := w.a.Count(commtest.Disconnected, 2) + w.b.Count(commtest.Disconnected, 1); n != 0 {
		t.Errorf("%d ends", n)
	}
}

// The spare went with the link, which nobody knew: the connection is made anew, over
// the link that is not known to be silent.
func TestDeadSpare(t *testing.T) {
	w := newTwin(t, 2, both)
	w.at(0, 1)
	w.cut(0, 1)
	w.ca.Avoid(2, []int{0})
	w.a.Await(commtest.Connected, 2, 2)
	w.b.Await(commtest.Connected, 1, 2)
	if at := w.ca.Status().Peers[0].Addr.Addr(); at != w.nodes[1].Addrs[1] {
		t.Errorf("connected to %v", at)
	}
}

// A listener of before spares has none; a connection is made at once.
func TestOlderListener(t *testing.T) {
	w := newTwin(t, 2, func(_, b *Comm) {
		if b != nil {
			b.feature = spareFeature - 1
		}
	})
	w.at(0, -1)
	if _, wanted := w.ca.nodes.Load().peers[2].spareLink(); wanted {
		t.Error("a spare is wanted")
	}
	w.cut(0)
	w.ca.Avoid(2, []int{0})
	w.at(1, -1)
}

// The spare leaves a silent link, too, and stays when one before it carries again.
func TestSpareMoves(t *testing.T) {
	w := newTwin(t, 3, both)
	w.at(0, 1)
	w.ca.Avoid(2, []int{1})
	w.at(0, 2)
	w.ca.Avoid(2, nil)
	w.a.Send(2, []byte("word"))
	w.b.AwaitMessage(1, []byte("word"))
	w.at(0, 2)
	if n := w.a.Count(commtest.Disconnected, 2); n != 0 {
		t.Errorf("%d ends", n)
	}
}

// Who was silent on the link of the connection and could not be had on another is
// moved as soon as that can be.
func TestMoveWhenThereIsASpare(t *testing.T) {
	for _, listener := range []bool{false, true} {
		var mu sync.Mutex
		open := false
		w := newTwin(t, 2, func(a, _ *Comm) {
			if a == nil {
				return
			}
			dial := a.dial
			a.dial = func(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if !open && r.Addr() != a.nodes.Load().peers[2].node.Addrs[0] {
					return nil, errors.New("no route")
				}
				return dial(ctx, l, r)
			}
		})
		if listener {
			w.cb.Avoid(1, []int{0})
		} else {
			w.ca.Avoid(2, []int{0})
			w.a.Await(commtest.Connected, 2, 2) // in vain: on the same link
		}
		mu.Lock()
		open = true
		mu.Unlock()
		eventually(t, "it is on the other link", func() bool {
			st := w.ca.Status().Peers[0]
			return st.Connected && st.Addr.Addr() == w.nodes[1].Addrs[1]
		})
	}
}

// What ends a connection on purpose ends its spare; and one that misbehaves is ended alone.
func TestSpareEnds(t *testing.T) {
	w := newTwin(t, 2, both)
	w.at(0, 1)
	spare := func(c *Comm, id membership.NodeID) *session {
		p, _ := c.peer(id)
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.spare
	}
	ended := func(s *session, why error) {
		t.Helper()
		eventually(t, "the spare ends", s.ended)
		if !errors.Is(s.reason(), why) {
			t.Errorf("it ended with %v, not %v", s.reason(), why)
		}
	}
	another := func(c *Comm, id membership.NodeID, s *session) {
		t.Helper()
		eventually(t, "another one is made", func() bool { n := spare(c, id); return n != nil && n != s })
	}
	for _, x := range []struct {
		says, hears *Comm
		to, from    membership.NodeID
	}{{w.ca, w.cb, 2, 1}, {w.cb, w.ca, 1, 2}} {
		s := spare(x.hears, x.from)
		if err := spare(x.says, x.to).write(frameMessage, []byte("too early")); err != nil {
			t.Fatal(err)
		}
		ended(s, ErrGarbage)
		another(x.hears, x.from, s)
		w.at(0, 1)
	}
	if n := w.a.Count(commtest.Disconnected, 2) + w.b.Count(commtest.Disconnected, 1); n != 0 {
		t.Errorf("%d ends of the connection itself", n)
	}
	s := spare(w.ca, 2)
	w.ca.Drop(2, errors.New("on purpose"))
	ended(s, ErrDropped)
	another(w.ca, 2, s)
	w.at(0, 1)
	s = spare(w.ca, 2)
	moved := slices.Clone(w.nodes)
	moved[1].Addrs = slices.Clone(moved[1].Addrs)
	slices.Reverse(moved[1].Addrs)
	if err := w.ca.SetNodes(moved); err != nil {
		t.Fatal(err)
	}
	ended(s, ErrUnconfigured)
}

// The spare of a node that is configured no more says so, whoever closes it first.
func TestSpareOfANodeThatIsConfiguredNoMore(t *testing.T) {
	w := newTwin(t, 2, both)
	w.at(0, 1)
	p, _ := w.ca.peer(2)
	p.mu.Lock()
	s := p.spare
	p.mu.Unlock()
	p.quit()
	eventually(t, "the spare ends", s.ended)
	if !errors.Is(s.reason(), ErrUnconfigured) {
		t.Errorf("it ended with %v, not %v", s.reason(), ErrUnconfigured)
	}
}

// A peer whose daemon was started anew is connected with, not with what is left of the
// old one.
func TestSpareOfAnotherLife(t *testing.T) {
	w := newTwin(t, 2, both)
	w.at(0, 1)
	w.cut(0, 1) // nothing tells the dialler of the end
	w.b.Stop()
	again, _ := w.start(t, commtest.Spec{Self: 2, Nodes: w.nodes, Secret: w.ca.opt.Secret, Instance: 23}, nil)
	w.ca.Avoid(2, []int{0})
	w.a.Await(commtest.Connected, 2, 2)
	again.Await(commtest.Connected, 1, 1)
	if in, ok := w.ca.Instance(2); !ok || in != 23 {
		t.Errorf("instance %d, %v", in, ok)
	}
}
