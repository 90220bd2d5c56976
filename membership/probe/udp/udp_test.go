package udp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
	"github.com/quorate/quorate/tools/freeport"
)

func TestMain(m *testing.M) {
	if id, err := strconv.Atoi(os.Getenv(asNode)); err == nil {
		if err := beNode(id); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// rig hands out nodes that share loopback: on IPv4 each has addresses of its
// own, on IPv6 all have ::1 and ports of their own, below the ephemeral ones.
type rig struct {
	v6    bool
	ports map[membership.NodeID]int
}

func (r *rig) nodes(t *testing.T, n, links int) []membership.Node {
	t.Helper()
	r.ports = map[membership.NodeID]int{}
	if r.v6 && links > 1 {
		t.Skip("there is one IPv6 loopback address")
	}
	second := byte(1 + rand.IntN(250))
	var out []membership.Node
	for i := range n {
		node := membership.Node{ID: membership.NodeID(i + 1)}
		for l := range links {
			addr := netip.AddrFrom4([4]byte{127, second, byte(l), byte(i + 1)})
			if r.v6 {
				addr = netip.IPv6Loopback()
			}
			node.Addrs = append(node.Addrs, addr)
		}
		r.ports[node.ID] = freeport.On(t, node.Addrs...)
		out = append(out, node)
	}
	return out
}

func (r *rig) options(s probetest.Spec) Options {
	return Options{Self: s.Self, Nodes: s.Nodes, Interval: s.Interval, Keys: s.Keys, Instance: s.Instance, Ports: r.ports, Rate: 400}
}

func (r *rig) provider() probetest.Provider {
	return probetest.Provider{
		Nodes: r.nodes,
		New: func(t *testing.T, s probetest.Spec) probetest.Prober {
			p, err := New(r.options(s))
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Port: func(id membership.NodeID) uint16 { return uint16(r.ports[id]) },
		Rate: 400,
	}
}

func TestConformanceIPv4(t *testing.T) { probetest.Run(t, (&rig{}).provider()) }

func TestConformanceIPv6(t *testing.T) {
	c, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	_ = c.Close()
	probetest.Run(t, (&rig{v6: true}).provider())
}

func key() []probe.Key { return []probe.Key{probetest.Key(1)} }

// Every reason is counted under its own name. TestLongExchange has those of long probes.
func TestCounters(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	opt := r.options(probetest.Spec{Self: 1, Nodes: nodes, Interval: time.Second, Keys: key(), Instance: 10})
	p, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ask := probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Seq: 1, Prober: 20}
	var out [probe.Size]byte
	at := now()
	give := func(pkt probe.Packet, k probe.Key) {
		var b [probe.Size]byte
		pkt.Marshal(&b, k)
		p.receive(0, b[:], at, &out)
	}
	edit := func(f func(*probe.Packet)) probe.Packet {
		q := ask
		f(&q)
		return q
	}
	reply := func(f func(*probe.Packet)) probe.Packet {
		q := probe.Packet{Type: probe.TypeReply, Src: 2, Dst: 1, Prober: 10, Responder: 20, Seq: 1}
		f(&q)
		return q
	}
	var first probe.Packet
	n := p.table.Load().targets[0].first
	for range probe.Outstanding + 1 {
		p.ask(p.table.Load().targets[0], at, &out)
		if pkt, _ := probe.Parse(out[:]); pkt.Seq == n+1 {
			first = pkt
		}
	}
	same := func(*probe.Packet) {}
	p.receive(0, []byte("x"), at, &out)                            // form
	give(ask, probetest.Key(9))                                    // key_epoch
	give(ask, probe.NewKey(1, [16]byte{9}))                        // tag
	give(edit(func(q *probe.Packet) { q.Dst = 2 }), key()[0])      // destination
	give(edit(func(q *probe.Packet) { q.Src = 3 }), key()[0])      // source
	give(edit(func(q *probe.Packet) { q.Link = 1 }), key()[0])     // link
	give(reply(func(q *probe.Packet) { q.Prober = 11 }), key()[0]) // prober
	give(reply(same), key()[0])                                    // unlearnt
	p.SetEpoch(2, 20)
	give(reply(func(q *probe.Packet) { q.Responder = 21 }), key()[0])                      // instance
	give(reply(func(q *probe.Packet) { q.Seq = n + 99 }), key()[0])                        // unasked
	give(reply(func(q *probe.Packet) { q.Seq, q.Sent = first.Seq, first.Sent }), key()[0]) // late
	give(reply(func(q *probe.Packet) { q.Seq, q.Sent = n+17, at }), key()[0])              // accepted
	give(reply(func(q *probe.Packet) { q.Seq, q.Sent = n+17, at }), key()[0])              // old
	p.ask(p.table.Load().targets[0], at, &out)
	give(reply(func(q *probe.Packet) { q.Seq, q.Sent, q.Flags = n+18, at, probe.FlagKernel|probe.FlagNoDaemon }), key()[0]) // no_daemon
	for range opt.Rate + 1 {
		give(ask, key()[0]) // answered and, once, rate
		ask.Seq++
	}
	give(edit(func(q *probe.Packet) { q.Seq-- }), key()[0]) // replay
	got := p.Counters()
	want := map[string]uint64{"answered": uint64(opt.Rate), "sent": 0, "send_failed": 0, "long_sent": 0, "long_answered": 0, "long_accepted": 0, "hurries": 0, "held_up": 0}
	for name, n := range got {
		w, ok := want[name]
		if !ok {
			w = 1
		}
		if n != w {
			t.Errorf("%s: %d, want %d", name, n, w)
		}
	}
	if st := p.Status(); st.Peers[0].Learnt != 20 || st.Peers[0].Seen != 20 || st.Links[0].Open {
		t.Errorf("%+v", st)
	}
}

// Copies of a probe take no answers away from the peer that sent it, whichever run
// of the peer that was.
func TestReplaysUseNothingUp(t *testing.T) {
	r := &rig{}
	opt := r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 2, 1), Interval: time.Second, Keys: key(), Instance: 10})
	p, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	p.SetEpoch(2, 20)
	at := now()
	var out [probe.Size]byte
	asks := func(instance, seq uint64) bool {
		var b [probe.Size]byte
		(&probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Seq: seq, Prober: instance}).Marshal(&b, key()[0])
		return p.receive(0, b[:], at, &out) != nil
	}
	if !asks(20, 1) {
		t.Error("an honest probe is not answered")
	}
	for range 3 * opt.Rate {
		asks(20, 1) // replayed
		asks(19, 1) // and of an earlier run
	}
	for seq := range uint64(opt.Rate) - 1 {
		if !asks(20, 2+seq) {
			t.Fatalf("honest probe %d is not answered any more", 2+seq)
		}
	}
	p.SetEpoch(2, 20) // known already
	if asks(20, 2) {
		t.Error("a replay is answered")
	}
	at += membership.Mono(time.Second)
	p.SetEpoch(2, 21)
	if !asks(21, 1) {
		t.Error("the next run begins with 1 again, and is not answered")
	}
}

// The epoch of answers outlives the runs of a daemon: the next run's probes begin anew, and
// answers go on to count.
func TestEpochOfManyRuns(t *testing.T) {
	r := &rig{}
	opt := r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 2, 1), Interval: time.Second, Keys: key(), Instance: 10})
	opt.Epoch = 99
	p, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	at := now()
	var out [probe.Size]byte
	ask := func(instance, seq uint64) bool {
		var b [probe.Size]byte
		(&probe.Packet{Type: probe.TypeProbe, Src: 2, Dst: 1, Seq: seq, Prober: instance}).Marshal(&b, key()[0])
		return p.receive(0, b[:], at, &out) != nil
	}
	heard := func(epoch uint64) bool {
		var b [probe.Size]byte
		p.ask(p.table.Load().targets[0], at, &out)
		q, _ := probe.Parse(out[:])
		a := q.Reply()
		a.Responder = epoch
		a.Marshal(&b, key()[0])
		before := p.Snapshot()[0].Answered
		p.receive(0, b[:], at, &out)
		return p.Snapshot()[0].Answered > before
	}
	p.Learn(2, 20, 77)
	if !ask(20, 5) || ask(20, 5) || !heard(77) || heard(20) {
		t.Error("the first run")
	}
	if ask(20, 6); probeOf(t, out).Responder != 99 {
		t.Errorf("its own answers are of epoch %d", probeOf(t, out).Responder)
	}
	p.Learn(2, 21, 77)
	if !ask(21, 5) || ask(21, 5) || !heard(77) {
		t.Error("the next run")
	}
}

func probeOf(t *testing.T, b [probe.Size]byte) probe.Packet {
	t.Helper()
	p, err := probe.Parse(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPacketPathDoesNotAllocate(t *testing.T) {
	ask, answer, judge := exchange(t)
	if n := testing.AllocsPerRun(1000, func() { ask(); answer(); judge() }); n != 0 {
		t.Errorf("%v allocations a round trip", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = now() }); n != 0 {
		t.Errorf("%v allocations to read the clock", n)
	}
}

func BenchmarkExchange(b *testing.B) {
	ask, answer, judge := exchange(b)
	b.ReportAllocs()
	for b.Loop() {
		ask()
		answer()
		judge()
	}
}

// exchange is a probe, its answer and the judgement, without the sockets.
func exchange(t testing.TB) (ask, answer, judge func()) {
	nodes := []membership.Node{
		{ID: 1, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		{ID: 2, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}},
	}
	var p [2]*Prober
	for i := range p {
		var err error
		p[i], err = New(Options{Self: nodes[i].ID, Nodes: nodes, Interval: time.Second, Keys: key(), Instance: uint64(i + 1), Rate: 1e9})
		if err != nil {
			t.Fatal(err)
		}
	}
	p[0].SetEpoch(2, 2)
	var q, r [probe.Size]byte
	at := now()
	return func() { at++; p[0].ask(p[0].table.Load().targets[0], at, &q) },
		func() {
			if p[1].receive(0, q[:], at, &r) == nil {
				t.Fatal("not answered")
			}
		},
		func() {
			before := p[0].drops[accepted].Load()
			p[0].receive(0, r[:], at, &q)
			if p[0].drops[accepted].Load() != before+1 {
				t.Fatal("not accepted")
			}
		}
}

// A missing address is no reason to stop: the other link works, status says
// what is wrong, and the socket is opened when it can be.
func TestAddressComesLater(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 3)
	nodes[0].Addrs[1] = netip.MustParseAddr("192.0.2.254")
	taken, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(nodes[0].Addrs[2], uint16(r.ports[1]))))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	prov := r.provider()
	a := probetest.Start(t, prov, probetest.Spec{Self: 1, Nodes: nodes})
	b := probetest.Start(t, prov, probetest.Spec{Self: 2, Nodes: nodes})
	a.SetEpoch(2, 20)
	b.SetEpoch(1, 10)
	a.AwaitAnswers(2, 3)
	st := a.Prober.(*Prober).Status()
	text := strings.Join(st.Warnings, "\n")
	if !strings.Contains(text, "link 1") || !strings.Contains(text, ErrAddr.Error()) || !strings.Contains(text, "another program") {
		t.Errorf("warnings: %s", text)
	}
	if !st.Links[0].Open || st.Links[1].Open || st.Links[2].Open {
		t.Errorf("%+v", st.Links)
	}
	_ = taken.Close()
	a.Await(2, 2, "link 2 is heard", func(s membership.Sample) bool { return s.Answered > 0 })
	if text := strings.Join(a.Prober.(*Prober).Status().Warnings, "\n"); strings.Contains(text, "link 2") {
		t.Errorf("still a warning: %s", text)
	}
	if s := a.Sample(2, 1); s.Heard != 0 || s.Sent != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSocketErrors(t *testing.T) {
	if _, _, err := openSocket(netip.MustParseAddrPort("192.0.2.254:1")); !errors.Is(err, ErrAddr) {
		t.Error(err)
	}
	if _, _, err := openSocket(netip.MustParseAddrPort("[fe80::1%none0]:1")); !errors.Is(err, ErrAddr) {
		t.Error(err)
	}
	if zone, err := zoneOf(netip.MustParseAddr("fe80::1%7")); zone != 7 || err != nil {
		t.Error(zone, err)
	}
	if zone, err := zoneOf(netip.MustParseAddr("fe80::1%lo")); zone == 0 || err != nil {
		t.Error(zone, err)
	}
}

// A sender that is always a little late still sends, and never sleeps through.
func TestHurriedSender(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 8, 1)
	a := probetest.Start(t, r.provider(), probetest.Spec{Self: 1, Nodes: nodes, Interval: MinInterval})
	for _, n := range nodes[1:] {
		a.AwaitProbes(n.ID, 0, 100)
	}
}

func TestFollowing(t *testing.T) {
	for _, c := range []struct{ due, at, want membership.Mono }{
		{100, 100, 110}, {100, 109, 110}, {100, 110, 120}, {100, 155, 160}, {100, 95, 110},
	} {
		if got := following(c.due, c.at, 10, 0); got != c.want {
			t.Errorf("following(%d, %d) = %d, want %d", c.due, c.at, got, c.want)
		}
	}
}

func TestBucket(t *testing.T) {
	b := bucket{rate: 10, level: int64(time.Second), last: 0}
	burst := func(at membership.Mono) (n int) {
		for b.take(at) {
			n++
		}
		return n
	}
	sec := membership.Mono(time.Second)
	if n := burst(0); n != 10 {
		t.Errorf("at first %d", n)
	}
	if n := burst(sec / 2); n != 5 {
		t.Errorf("after half a second %d", n)
	}
	if n := burst(100 * sec); n != 10 {
		t.Errorf("after long %d", n)
	}
	if b.take(50 * sec) {
		t.Error("a clock that goes back gives credit")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, edit := range map[string]func(*Options){
		"3 (self)":    func(o *Options) { o.Self = 3 },
		"0 addresses": func(o *Options) { o.Nodes[0].Addrs = nil },
		"interval":    func(o *Options) { o.Interval = time.Microsecond },
		"no key":      func(o *Options) { o.Keys = nil },
		"is no key":   func(o *Options) { o.Keys = []probe.Key{{}} },
		"instance":    func(o *Options) { o.Instance = 0 },
	} {
		r := &rig{}
		opt := r.options(probetest.Spec{Self: 1, Nodes: r.nodes(t, 2, 1), Interval: time.Second, Keys: key(), Instance: 1})
		edit(&opt)
		if _, err := New(opt); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "is ")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Ends of different families are left out, and status says so.
func TestFamiliesDiffer(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 2, 1)
	nodes[1].Addrs[0] = netip.IPv6Loopback()
	p, err := New(r.options(probetest.Spec{Self: 1, Nodes: nodes, Interval: time.Second, Keys: key(), Instance: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Snapshot()) != 0 || !strings.Contains(strings.Join(p.Status().Warnings, ""), "IPv4") {
		t.Errorf("%+v %+v", p.Snapshot(), p.Status())
	}
}
