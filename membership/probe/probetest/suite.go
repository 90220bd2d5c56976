package probetest

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

const (
	// Patience is how long a test waits for what must happen.
	Patience = 20 * time.Second
	// Interval is how often the suite's probers probe.
	Interval = 10 * time.Millisecond
	// many is how many probes show that something does not happen.
	many = 20
)

// Prober is what the suite drives: the contract, and how it learns the
// instances that the Comm saw.
type Prober interface {
	membership.Prober
	SetEpoch(peer membership.NodeID, instance uint64)
}

// Spec is one daemon's prober as a test wants it.
type Spec struct {
	Self     membership.NodeID
	Nodes    []membership.Node
	Interval time.Duration
	Keys     []probe.Key
	Instance uint64
}

// Provider is what a provider's test gives the suite.
type Provider struct {
	// Nodes returns n nodes with so many links, whose addresses are this machine's.
	Nodes func(t *testing.T, n, links int) []membership.Node
	New   func(t *testing.T, s Spec) Prober
	// Port is the UDP port of a node.
	Port func(id membership.NodeID) uint16
	// Rate is how many probes of one peer may at most be answered in one burst;
	// 0 leaves that test out.
	Rate int
}

// Run runs the suite.
func Run(t *testing.T, p Provider) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Provider)
	}{
		{"both answer", testAnswer},
		{"snapshot is in order", testOrder},
		{"nothing counts before the instance is known", testUnlearnt},
		{"another instance does not count", testInstance},
		{"daemon stops making progress", testProgress},
		{"peer stops and returns", testReturn},
		{"silent peers hold nobody up", testSilent},
		{"links apart", testLinks},
		{"forged and replayed answers", testForged},
		{"answers out of order", testReordered},
		{"probes say what was heard", testHeard},
		{"a kernel without a daemon", testNoDaemon},
		{"what is answered", testProbes},
		{"overlapping keys", testKeys},
		{"rate of answers", testRate},
		{"replayed probes", testReplayed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, p) })
	}
}

// Key returns the suite's key of an epoch.
func Key(epoch uint32) probe.Key { return probe.NewKey(epoch, [16]byte{byte(epoch), 1, 2, 3}) }

// Daemon is a running prober.
type Daemon struct {
	Prober
	t    *testing.T
	stop func()
}

// Stop ends it and waits until all of it is gone. It may be called twice.
func (d *Daemon) Stop() { d.stop() }

// Start runs a prober until the test ends. Its instance is 10 times its node id
// unless given.
func Start(t *testing.T, p Provider, s Spec) *Daemon {
	t.Helper()
	if s.Interval == 0 {
		s.Interval = Interval
	}
	if s.Keys == nil {
		s.Keys = []probe.Key{Key(1)}
	}
	if s.Instance == 0 {
		s.Instance = instance(s.Self)
	}
	d := &Daemon{Prober: p.New(t, s), t: t}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run of node %d: %v", s.Self, err)
		}
	}()
	d.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(Patience):
			t.Errorf("node %d does not stop", s.Self)
		}
	}
	t.Cleanup(d.Stop)
	return d
}

func instance(id membership.NodeID) uint64 { return 10 * uint64(id) }

// Sample returns the newest sample of a peer and link.
func (d *Daemon) Sample(peer membership.NodeID, link int) membership.Sample {
	d.t.Helper()
	for _, s := range d.Snapshot() {
		if s.Peer == peer && s.Link == link {
			return s
		}
	}
	d.t.Fatalf("there is no sample of node %d link %d", peer, link)
	return membership.Sample{}
}

// Await waits until the sample of a peer's link is as wanted.
func (d *Daemon) Await(peer membership.NodeID, link int, what string, ok func(membership.Sample) bool) membership.Sample {
	d.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		s := d.Sample(peer, link)
		if ok(s) {
			return s
		}
		if time.Since(began) > Patience {
			d.t.Fatalf("waited in vain: %s; node %d link %d is %+v", what, peer, link, s)
		}
	}
}

// AwaitAnswers waits until so many more answers of a peer counted.
func (d *Daemon) AwaitAnswers(peer membership.NodeID, n uint64) membership.Sample {
	d.t.Helper()
	before := d.Sample(peer, 0).Answered
	return d.Await(peer, 0, "answers count", func(s membership.Sample) bool { return s.Answered >= before+n })
}

// AwaitProbes waits until so many more probes were sent to a peer.
func (d *Daemon) AwaitProbes(peer membership.NodeID, link int, n uint64) membership.Sample {
	d.t.Helper()
	before := d.Sample(peer, link).Sent
	return d.Await(peer, link, "probes are sent", func(s membership.Sample) bool { return s.Sent >= before+n })
}

// Wire is a node's place on the wire, played by the suite.
type Wire struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort
	self membership.NodeID
}

// Play takes the place of a node on a link, towards another.
func Play(t *testing.T, p Provider, self, to membership.Node, link int) *Wire {
	t.Helper()
	local := netip.AddrPortFrom(self.Addrs[link], p.Port(self.ID))
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Wire{t: t, conn: conn, to: netip.AddrPortFrom(to.Addrs[link], p.Port(to.ID)), self: self.ID}
}

// Send sends a packet with a key.
func (w *Wire) Send(p probe.Packet, k probe.Key) {
	w.t.Helper()
	var b [probe.Size]byte
	p.Marshal(&b, k)
	w.SendBytes(b[:])
}

// SendBytes sends a datagram.
func (w *Wire) SendBytes(b []byte) {
	w.t.Helper()
	if _, err := w.conn.WriteToUDPAddrPort(b, w.to); err != nil {
		w.t.Fatal(err)
	}
}

// Receive returns the next packet of a type, and its bytes.
func (w *Wire) Receive(kind probe.Type) (probe.Packet, []byte) {
	w.t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(Patience))
	b := make([]byte, probe.Size+1)
	for {
		n, err := w.conn.Read(b)
		if err != nil {
			w.t.Fatalf("no %v came: %v", kind, err)
		}
		if pkt, err := probe.Parse(b[:n]); err == nil && pkt.Type == kind {
			return pkt, b[:n]
		}
	}
}

// Ask sends a probe, again while a full buffer loses it, until it is answered.
func (w *Wire) Ask(p probe.Packet, k probe.Key) {
	w.t.Helper()
	b := make([]byte, probe.Size+1)
	for began := time.Now(); time.Since(began) < Patience; {
		w.Send(p, k)
		_ = w.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			n, err := w.conn.Read(b)
			if err != nil {
				break
			}
			if r, err := probe.Parse(b[:n]); err == nil && r.Type == probe.TypeReply {
				return
			}
		}
	}
	w.t.Fatal("a probe is never answered")
}

// Fresh throws away what waits to be received and returns the next probe.
func (w *Wire) Fresh() probe.Packet {
	w.t.Helper()
	raw, err := w.conn.SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	_ = w.conn.SetReadDeadline(time.Time{})
	b := make([]byte, probe.Size+1)
	err = raw.Read(func(fd uintptr) bool {
		for {
			if _, err := unix.Read(int(fd), b); err != nil && err != unix.EINTR {
				return true // nothing waits any more
			}
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	pkt, _ := w.Receive(probe.TypeProbe)
	return pkt
}

// Answer is the honest answer to a probe.
func Answer(pkt probe.Packet) probe.Packet {
	r := pkt.Reply()
	r.Responder = instance(pkt.Dst)
	r.Stamp = 1
	return r
}
