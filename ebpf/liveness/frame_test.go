package liveness

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// What XDP programs return (linux/bpf.h).
const (
	drop = 1
	pass = 2
	tx   = 3
)

// needKernel ends a test that has no kernel to try on: root, and bpf(2). With CI=true
// that is a failure: what was not run has not passed.
func needKernel(t testing.TB) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "needs root: programs are given to the kernel"
	} else if err := rlimit.RemoveMemlock(); err != nil {
		why = err.Error()
	} else if m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}); err != nil {
		why = "this kernel takes no maps: " + err.Error()
	} else {
		_ = m.Close()
	}
	switch {
	case why == "":
	case os.Getenv("CI") == "true":
		t.Fatal(why)
	default:
		t.Skip(why)
	}
}

// frame is a datagram on the wire. What is not set is as a peer sends it.
type frame struct {
	from, to   netip.AddrPort
	vlan       int // tags
	payload    []byte
	length     int // of UDP, what its header says; 0: as it is
	total      int // of IP, the same
	fragment   uint16
	options    int  // words of IPv4 options
	next       byte // of IPv6 (0: UDP), or the protocol of IPv4
	trailer    int  // bytes behind the datagram
	partial    bool // the checksum is left to a device
	noChecksum bool
}

func ethernet(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }

func (f frame) bytes() []byte {
	be := binary.BigEndian
	a, b := ethernet(1), ethernet(2)
	out := append(append([]byte{}, a[:]...), b[:]...)
	for range f.vlan {
		out = be.AppendUint16(be.AppendUint16(out, 0x8100), 7)
	}
	length, proto := 8+len(f.payload), byte(17)
	if f.length != 0 {
		length = f.length
	}
	if f.next != 0 {
		proto = f.next
	}
	udp := be.AppendUint16(be.AppendUint16(nil, f.from.Port()), f.to.Port())
	udp = append(be.AppendUint16(be.AppendUint16(udp, uint16(length)), 0), f.payload...)
	pseudo := append(f.from.Addr().AsSlice(), f.to.Addr().AsSlice()...)
	pseudo = be.AppendUint32(be.AppendUint32(pseudo, uint32(length)), uint32(proto))
	switch {
	case f.noChecksum:
	case f.partial:
		be.PutUint16(udp[6:], sum(pseudo))
	default:
		be.PutUint16(udp[6:], ^sum(append(pseudo, udp...)))
	}
	if f.from.Addr().Is4() {
		total := 20 + 4*f.options + 8 + len(f.payload)
		if f.total != 0 {
			total = f.total
		}
		ip := []byte{0x45 + byte(f.options), 0xc0}
		ip = be.AppendUint16(be.AppendUint16(be.AppendUint16(ip, uint16(total)), 0x1234), f.fragment)
		ip = append(append(append(ip, 3, proto, 0, 0), f.from.Addr().AsSlice()...), f.to.Addr().AsSlice()...)
		for range f.options {
			ip = append(ip, 1, 1, 1, 1)
		}
		be.PutUint16(ip[10:], ^sum(ip))
		out = append(be.AppendUint16(out, 0x0800), ip...)
	} else {
		total := 8 + len(f.payload)
		if f.total != 0 {
			total = f.total
		}
		ip := be.AppendUint16([]byte{0x6c, 0, 0, 0}, uint16(total))
		ip = append(append(append(ip, proto, 3), f.from.Addr().AsSlice()...), f.to.Addr().AsSlice()...)
		out = append(be.AppendUint16(out, 0x86dd), ip...)
	}
	return append(append(out, udp...), make([]byte, f.trailer)...)
}

// sum is the ones' complement sum of 16 bit words.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// The rig: node 2 with two links, and node 1, who asks.
var (
	ownV4  = netip.MustParseAddrPort("10.0.0.2:21061")
	ownV6  = netip.MustParseAddrPort("[fd00::2]:21061")
	peerV4 = netip.MustParseAddrPort("10.0.0.1:21061")
	peerV6 = netip.MustParseAddrPort("[fd00::1]:21061")
)

const (
	rigEpoch  = 0x1122334455667788
	rigProber = 77
	// of the answers of node 1, and of this node's prober
	rigPeerEpoch = 66
	rigRun       = 99
)

func testKey(epoch uint32) probe.Key {
	return probe.NewKey(epoch, [16]byte{byte(epoch), 1, 2, 3, 250, 5})
}

func rigConfig() Config {
	return Config{
		Self: 2, Port: 21061, Links: []netip.Addr{ownV4.Addr(), ownV6.Addr()},
		Peers: []Peer{
			{Node: 1, Link: 0, Addr: peerV4, Rate: 200, Trust: 3600e9},
			{Node: 1, Link: 1, Addr: peerV6, Rate: 200, Trust: 3600e9},
			{Node: 3, Link: 0, Addr: netip.MustParseAddrPort("10.0.0.3:21061"), Rate: 200, Trust: 3600e9},
		},
		Keys: []probe.Key{testKey(1), testKey(2)},
		Run:  rigRun, Interval: time.Second,
	}
}

var timersOnce = sync.OnceValue(func() error { return selfTest(true) })

// timersHere says whether this kernel has timers for programs.
func timersHere() bool { return timersOnce() == nil }

// rig is the program with maps of its own.
type rig struct {
	*objects
	t testing.TB
}

func newRig(t testing.TB) *rig {
	t.Helper()
	needKernel(t)
	o, err := loadObjects("", timersHere())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{o, t}
	r.configure(rigConfig(), map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	o.self.Epoch = rigEpoch
	return r
}

func (r *rig) configure(c Config, learnt map[membership.NodeID]identity) {
	r.t.Helper()
	if err := r.objects.configure(c, learnt, nil); err != nil {
		r.t.Fatal(err)
	}
}

// send has the program judge a frame, and returns what it made of it.
func (r *rig) send(b []byte) (verdict uint32, out []byte) {
	r.t.Helper()
	out = make([]byte, len(b)+64)
	opt := ebpf.RunOptions{Data: b, DataOut: out}
	verdict, err := r.program().Run(&opt)
	if err != nil {
		r.t.Fatal(err)
	}
	return verdict, opt.DataOut
}

// counts returns by how much the counters grow meanwhile, those that do.
// until waits for something to be counted.
func (r *rig) until(what string) {
	r.t.Helper()
	var n map[string]uint64
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var err error
		if n, err = r.counters(); err != nil {
			r.t.Fatal(err)
		}
		if n[what] > 0 {
			return
		}
	}
	r.t.Errorf("no %s: %v", what, n)
}

func (r *rig) counts(f func()) map[string]uint64 {
	r.t.Helper()
	before, err := r.counters()
	if err != nil {
		r.t.Fatal(err)
	}
	f()
	after, err := r.counters()
	if err != nil {
		r.t.Fatal(err)
	}
	for k := range after {
		if after[k] -= before[k]; after[k] == 0 {
			delete(after, k)
		}
	}
	return after
}

// ask is an honest probe on link 0, with an odd sequence.
func ask(seq uint64) probe.Packet {
	return probe.Packet{Type: probe.TypeProbe, Src: 1, Dst: 2, Seq: seq, Prober: rigProber, Sent: 88}
}

func marshal(p probe.Packet, k probe.Key) []byte {
	var b [probe.Size]byte
	p.Marshal(&b, k)
	return b[:]
}

func v4(p probe.Packet) frame { return frame{from: peerV4, to: ownV4, payload: marshal(p, testKey(1))} }

func v6(p probe.Packet) frame {
	p.Link = 1
	return frame{from: peerV6, to: ownV6, payload: marshal(p, testKey(1))}
}
