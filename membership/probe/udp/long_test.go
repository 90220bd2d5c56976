package udp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/tools/wires"
)

// longs are two Probers that hand each other long datagrams without a network.
type longs struct {
	p   [2]*Prober
	out [probe.MaxLong]byte
	in  [probe.MaxLong]byte
}

func newLongs(t *testing.T) *longs {
	t.Helper()
	x := &longs{}
	nodes := []membership.Node{
		{ID: 1, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		{ID: 2, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}},
	}
	for i := range x.p {
		var err error
		x.p[i], err = New(Options{Self: nodes[i].ID, Nodes: nodes, Interval: time.Second, Keys: key(), Instance: uint64(i + 1)})
		if err != nil {
			t.Fatal(err)
		}
	}
	x.p[0].SetEpoch(2, 2)
	x.p[1].SetEpoch(1, 1)
	return x
}

// ask writes the first probe of a round to out.
func (x *longs) ask(at membership.Mono) []byte {
	a := x.p[0].table.Load().targets[0]
	a.longs.Begin(1472)
	return x.out[:x.p[0].askLong(a, 0, at, &x.out)]
}

func (x *longs) want(t *testing.T, p int, name string, n uint64) {
	t.Helper()
	if got := x.p[p].Counters()[name]; got != n {
		t.Errorf("%s: %d, want %d: %v", name, got, n, x.p[p].Counters())
	}
}

func TestLongExchange(t *testing.T) {
	x := newLongs(t)
	at := now()
	b := x.ask(at)
	to, n := x.p[1].receiveLong(0, b, at, &x.in)
	if to == nil || n != 1472 || len(b) != 1472 {
		t.Fatalf("%d bytes are answered with %d, to %v", len(b), n, to)
	}
	if again, _ := x.p[1].receiveLong(0, b, at, &x.in); again != nil {
		t.Error("a copy is answered")
	}
	x.want(t, 1, "replay", 1)
	x.p[0].receiveLong(0, x.in[:n], at.Add(time.Millisecond), &x.out)
	x.want(t, 0, "long_accepted", 1)
	x.p[0].receiveLong(0, x.in[:n], at.Add(time.Millisecond), &x.out)
	x.want(t, 0, "old", 1)
	if s := x.p[0].Snapshot()[0]; s.Heard != 0 || s.Answered != 0 || s.Sent != 0 {
		t.Errorf("it is taken for a sign of life: %+v", s)
	}

	b = x.ask(at)
	for _, cut := range [][]byte{b[:1471], b[:probe.MinLong], append(b[:1472:1472], 0)} {
		if to, _ := x.p[1].receiveLong(0, cut, at, &x.in); to != nil {
			t.Errorf("%d of 1472 bytes are answered", len(cut))
		}
	}
	x.want(t, 1, "form", 3)
	b[22]-- // the length of the answer
	if to, _ := x.p[1].receiveLong(0, b, at, &x.in); to != nil {
		t.Error("a changed one is answered")
	}
	x.want(t, 1, "tag", 1)
	x.want(t, 1, "long_answered", 1)
	x.want(t, 1, "answered", 0)
}

// Long and short probes have one rate of answers.
func TestLongRate(t *testing.T) {
	x := newLongs(t)
	at := now()
	for range 250 {
		x.p[1].receiveLong(0, x.ask(at), at, &x.in)
	}
	x.want(t, 1, "long_answered", 200)
	x.want(t, 1, "rate", 50)
}

func TestLongDoesNotAllocate(t *testing.T) {
	x := newLongs(t)
	at := now()
	if n := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Second)
		_, n := x.p[1].receiveLong(0, x.ask(at), at, &x.in)
		x.p[0].receiveLong(0, x.in[:n], at, &x.out)
	}); n != 0 {
		t.Errorf("%v allocations a round trip", n)
	}
	x.want(t, 0, "long_accepted", 1001)
}

// asNode has a process of the test binary be a Prober: the id of its node.
const asNode = "QUORATE_TEST_NODE"

// holeNodes have IPv4 on one link and IPv6 on the other.
func holeNodes() []membership.Node {
	nodes := []membership.Node{{ID: 1}, {ID: 2}}
	for i := range nodes {
		nodes[i].Addrs = []netip.Addr{wires.Addr(i+1, 0), wires.Addr6(i+1, 1)}
	}
	return nodes
}

// beNode tells its reports until its standard input ends.
func beNode(id int) error {
	p, err := New(Options{Self: membership.NodeID(id), Nodes: holeNodes(), Interval: 5 * time.Millisecond, Keys: key(), Instance: uint64(id)})
	if err != nil {
		return err
	}
	p.SetEpoch(membership.NodeID(3-id), uint64(3-id))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		for out := json.NewEncoder(os.Stdout); out.Encode(p.Links()) == nil; time.Sleep(20 * time.Millisecond) {
			p.Progress(0)
		}
	}()
	return p.Run(ctx)
}

// holeNode is such a process.
type holeNode struct {
	mu    sync.Mutex
	links []membership.LinkReport
}

func (h *holeNode) link(i int) (r membership.LinkReport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i < len(h.links) {
		r = h.links[i]
	}
	return r
}

func startNode(t *testing.T, w *wires.Wires, id int) *holeNode {
	t.Helper()
	h := &holeNode{}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr = append(os.Environ(), fmt.Sprint(asNode, "=", id)), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Do(id, cmd.Start); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for dec := json.NewDecoder(out); ; {
			var links []membership.LinkReport
			if dec.Decode(&links) != nil {
				return
			}
			h.mu.Lock()
			h.links = links
			h.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestBlackHole: of two links one loses packets of more than 1400 bytes without a word. Both
// ends say so of that link and go on hearing each other on it, and when it is mended, or
// the interfaces are told, they say so no more.
func TestBlackHole(t *testing.T) {
	w := wires.New(t, 2, 2)
	p := []*holeNode{startNode(t, w, 1), startNode(t, w, 2)}
	both := func(what string, link int, so func(membership.LinkReport) bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !so(p[0].link(link)) || !so(p[1].link(link)); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("link %d: %s: not within 30s: %+v, %+v", link, what, p[0].link(link), p[1].link(link))
			}
		}
	}
	interfaces := func(link, mtu int) {
		t.Helper()
		for i := range p {
			if err := w.Do(i+1, func() error { return mtuHere(wires.Interface(link), mtu) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	well := func(mtu int) func(membership.LinkReport) bool {
		return func(r membership.LinkReport) bool { return r.MTU == mtu && r.Long.Size == 0 }
	}
	lossy := func(r membership.LinkReport) bool { return r.MTU == 1500 && r.Long.Size == 1500 }
	for link := range 2 {
		both("is tried", link, well(1500))
		w.SetMTU(2, link, 1400)
		both("shows", link, lossy)
		r, other := p[0].link(link), p[0].link(1-link)
		if !r.Long.There || r.Lost*4 > r.Probes || now().Sub(r.Heard) > time.Second || other.Long.Size != 0 {
			t.Errorf("link %d: %+v, and the other %+v", link, r, other)
		}
		interfaces(link, 1400)
		both("with interfaces that know", link, well(1400))
		interfaces(link, 1500)
		both("with interfaces that do not", link, lossy)
		w.SetMTU(2, link, 1500)
		both("is mended", link, well(1500))
	}
}

func mtuHere(name string, mtu int) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetMTU(l, mtu)
}
