package liveness

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// answer checks every byte of an answer to a frame, and returns what it says.
func (r *rig) answer(f frame, p probe.Packet, k probe.Key) probe.Packet {
	r.t.Helper()
	in := f.bytes()
	verdict, out := r.send(in)
	if verdict != tx || len(out) != len(in) {
		r.t.Fatalf("verdict %d, %d bytes of %d", verdict, len(out), len(in))
	}
	payload := out[len(out)-probe.Size:]
	got, err := probe.Parse(payload)
	if err != nil || !probe.Verify(payload, k) {
		r.t.Fatalf("the answer is not authentic: %v, %+v", err, got)
	}
	// The headers are those that this side would send, from the other end.
	back := frame{from: f.to, to: f.from, vlan: f.vlan, payload: payload}
	want := back.bytes()
	copy(want[0:6], in[6:12])
	copy(want[6:12], in[0:6])
	hops(want, f.vlan, 64)
	if !bytes.Equal(out, want) {
		r.t.Fatalf("headers\n% x, want\n% x", out[:len(out)-probe.Size], want[:len(want)-probe.Size])
	}
	reply := p.Reply()
	if got.Src != reply.Src || got.Dst != reply.Dst || got.Seq != p.Seq || got.Prober != p.Prober || got.Sent != p.Sent ||
		got.Link != p.Link || got.Type != probe.TypeReply || got.Epoch != k.Epoch() || got.Flags&probe.FlagKernel == 0 || got.Responder != rigEpoch {
		r.t.Fatalf("answer %+v to %+v", got, p)
	}
	return got
}

// hops sets the hop limit of a frame, and IPv4's checksum for it.
func hops(b []byte, vlan int, n byte) {
	ip := b[14+4*vlan:]
	if ip[0]>>4 == 6 {
		ip[7] = n
		return
	}
	ip[8], ip[10], ip[11] = n, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^sum(ip[:20]))
}

// Machines that read no word across its own size take it, too: User-Mode Linux is one by its
// own word.
func TestStrictAlignment(t *testing.T) {
	needKernel(t)
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	spec.Programs[bpfProgReflect].Flags |= unix.BPF_F_STRICT_ALIGNMENT
	spec.Programs[bpfProgReflectTimed].Flags |= unix.BPF_F_STRICT_ALIGNMENT
	o, err := loadSpec(spec, "", timersHere())
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnswers(t *testing.T) {
	r := newRig(t)
	seq := uint64(1)
	for _, vlan := range []int{0, 1} {
		for name, make := range map[string]func(probe.Packet) frame{"v4": v4, "v6": v6} {
			t.Run(fmt.Sprintf("%s vlan %d", name, vlan), func(t *testing.T) {
				r := &rig{r.objects, t}
				at := boottime()
				r.progress(at-membership.Mono(time.Second), 9)
				q := ask(seq)
				seq += 2
				if name == "v6" {
					q.Link = 1
				}
				f := make(q)
				f.vlan = vlan
				var got probe.Packet
				if n := r.counts(func() { got = r.answer(f, q, testKey(1)) }); !maps.Equal(n, map[string]uint64{"answered": 1}) {
					t.Errorf("counted %v", n)
				}
				if got.View != 9 || got.Progress != r.self.Progress || got.Age < time.Second || got.Age > 2*time.Second || got.Stamp < at || got.Stamp > boottime() {
					t.Errorf("%+v", got)
				}
				if got.Flags != probe.FlagKernel|probe.FlagNoDaemon {
					t.Errorf("flags %x: nobody has the port open here", got.Flags)
				}
			})
		}
	}
}

// The other key of a rotation is answered with itself.
func TestBothKeys(t *testing.T) {
	r := newRig(t)
	f := v4(ask(1))
	f.payload = marshal(ask(1), testKey(2))
	r.answer(f, ask(1), testKey(2))
	c := rigConfig()
	c.Keys = []probe.Key{testKey(2)}
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	r.refuses(t, v4(ask(3)), pass, "key_epoch")
	f.payload = marshal(ask(5), testKey(2))
	r.answer(f, ask(5), testKey(2))
}

// refuses checks that a frame comes to an end, and goes on as it came when it passes.
func (r *rig) refuses(t testing.TB, f frame, verdict uint32, reason string) {
	t.Helper()
	r.refusesBytes(t, f.bytes(), verdict, reason)
}

func (r *rig) refusesBytes(t testing.TB, in []byte, verdict uint32, reason string) {
	t.Helper()
	n := r.counts(func() {
		got, out := r.send(in)
		if got != verdict || !bytes.Equal(out, in) {
			t.Errorf("verdict %d, want %d; changed: %v", got, verdict, !bytes.Equal(out, in))
		}
	})
	if !maps.Equal(n, map[string]uint64{reason: 1}) {
		t.Errorf("counted %v, want %s", n, reason)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	edit := func(f func(*probe.Packet)) []byte {
		q := ask(1)
		f(&q)
		return marshal(q, testKey(1))
	}
	raw := func(at int, b byte) []byte {
		p := marshal(ask(1), testKey(1))
		p[at] = b
		return p
	}
	other := netip.MustParseAddrPort("10.0.0.9:21061")
	for _, c := range []struct {
		name    string
		change  func(*frame)
		verdict uint32
		reason  string
	}{
		{"magic", func(f *frame) { f.payload = raw(0, 'X') }, pass, "form"},
		{"version", func(f *frame) { f.payload = raw(4, 2) }, pass, "form"},
		{"type 0", func(f *frame) { f.payload = raw(5, 0) }, pass, "form"},
		{"type 3", func(f *frame) { f.payload = raw(5, 3) }, pass, "form"},
		{"key epoch", func(f *frame) { f.payload = marshal(ask(1), testKey(3)) }, pass, "key_epoch"},
		{"foreign key", func(f *frame) { f.payload = marshal(ask(1), probe.NewKey(1, [16]byte{9})) }, drop, "tag"},
		{"tag", func(f *frame) { f.payload = raw(95, 0xff) }, drop, "tag"},
		{"destination", func(f *frame) { f.payload = edit(func(q *probe.Packet) { q.Dst = 3 }) }, drop, "destination"},
		{"link", func(f *frame) { f.payload = edit(func(q *probe.Packet) { q.Link = 1 }) }, drop, "link"},
		{"source", func(f *frame) { f.payload = edit(func(q *probe.Packet) { q.Src = 9 }) }, pass, "source"},
		{"itself", func(f *frame) { f.payload = edit(func(q *probe.Packet) { q.Src = 2 }) }, pass, "source"},
		{"sequence 0", func(f *frame) { f.payload = edit(func(q *probe.Packet) { q.Seq = 0 }) }, drop, "replay"},
		{"spoofed address", func(f *frame) { f.from = other }, drop, "spoofed"},
		{"of another peer", func(f *frame) { f.payload = edit(func(q *probe.Packet) { q.Src = 3 }) }, drop, "spoofed"},
		{"from another port", func(f *frame) { f.from = netip.AddrPortFrom(f.from.Addr(), 1) }, pass, "port"},
		{"to another address", func(f *frame) { f.to = other }, pass, "address"},
		{"to another port", func(f *frame) { f.to = netip.AddrPortFrom(f.to.Addr(), 1) }, pass, "other"},
		{"more fragments", func(f *frame) { f.fragment = 0x2000 }, pass, "fragment"},
		{"a later fragment", func(f *frame) { f.fragment = 1 }, pass, "fragment"},
		{"options", func(f *frame) { f.options = 1 }, pass, "header"},
		{"two tags", func(f *frame) { f.vlan = 2 }, pass, "other"},
		{"tcp", func(f *frame) { f.next = 6 }, pass, "other"},
		{"trailer", func(f *frame) { f.trailer = 1 }, pass, "length"},
		{"longer", func(f *frame) { f.payload = append(f.payload, 0) }, pass, "length"},
		{"a long probe", func(f *frame) {
			q := ask(1)
			q.Type, q.Length, q.Answer = probe.TypeLong, 1400, 1400
			f.payload = append(marshal(q, testKey(1)), make([]byte, 1400-probe.Size)...)
		}, pass, "length"},
		{"a long probe that was cut", func(f *frame) {
			f.payload = edit(func(q *probe.Packet) { q.Type, q.Length, q.Answer = probe.TypeLong, 1400, 1400 })
		}, pass, "form"},
		{"ip length", func(f *frame) { f.total = 125 }, pass, "length"},
		{"udp length", func(f *frame) { f.length = 103 }, pass, "length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := v4(ask(1))
			c.change(&f)
			r.refuses(t, f, c.verdict, c.reason)
		})
	}
	for next, reason := range map[byte]string{
		6: "other", 58: "other", 59: "other", // TCP, ICMPv6, none
		0x80: "other", 43: "header", 44: "header", 51: "header", 60: "header", 135: "header",
	} {
		t.Run(fmt.Sprintf("IPv6 next header %d", next), func(t *testing.T) {
			f := v6(ask(1))
			f.next = next
			r.refuses(t, f, pass, reason)
		})
	}
	t.Run("IPv6 hop by hop", func(t *testing.T) {
		b := v6(ask(1)).bytes()
		b[14+6] = 0
		r.refusesBytes(t, b, pass, "header")
	})
	t.Run("IPv6 length", func(t *testing.T) {
		f := v6(ask(1))
		f.total = 103
		r.refuses(t, f, pass, "length")
	})
	t.Run("neither IP", func(t *testing.T) {
		b := v4(ask(1)).bytes()
		b[13] = 0x06
		r.refusesBytes(t, b, pass, "other")
	})
	t.Run("no epoch", func(t *testing.T) {
		r.self.Epoch = 0
		defer func() { r.self.Epoch = rigEpoch }()
		r.refuses(t, v4(ask(1)), pass, "unready")
	})
	r.answer(v4(ask(1)), ask(1), testKey(1)) // none of them used it up
}

// A frame that ends anywhere goes on to the stack as it came.
func TestTruncated(t *testing.T) {
	r := newRig(t)
	for name, f := range map[string]frame{"v4": v4(ask(1)), "v6": v6(ask(1)), "vlan": {from: peerV4, to: ownV4, vlan: 1, payload: v4(ask(1)).payload}} {
		whole := f.bytes()
		for n := 14; n < len(whole); n++ { // the kernel makes no shorter frame
			headers := len(whole) - probe.Size
			reason := "length"
			if n < headers {
				reason = "other"
			}
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) { r.refusesBytes(t, whole[:n], pass, reason) })
		}
	}
	q := ask(1)
	r.answer(v4(q), q, testKey(1))
}

// Every bit of a probe is authenticated, and none that is changed is answered.
func TestEveryBit(t *testing.T) {
	r := newRig(t)
	for bit := range probe.Size * 8 {
		f := v4(ask(1))
		f.payload[bit/8] ^= 1 << (bit % 8)
		if verdict, _ := r.send(f.bytes()); verdict == tx {
			t.Errorf("bit %d", bit)
		}
	}
	r.answer(v4(ask(1)), ask(1), testKey(1))
}

// seqs sends probes of an instance and returns those that were answered, those that
// were passed, and nothing of those that were dropped.
func (r *rig) seqs(prober uint64, seqs ...uint64) (answered, passed []uint64) {
	r.t.Helper()
	for _, s := range seqs {
		q := ask(s)
		q.Prober = prober
		switch verdict, _ := r.send(v4(q).bytes()); verdict {
		case tx:
			answered = append(answered, s)
		case pass:
			passed = append(passed, s)
		}
	}
	return answered, passed
}

// trusted has the peer say that it hears this kernel, so that all is answered here.
func (r *rig) trusted(prober, seq uint64) {
	r.t.Helper()
	q := ask(seq)
	q.Prober, q.Stamp, q.Flags = prober, boottime(), probe.FlagKernel
	if verdict, _ := r.send(v4(q).bytes()); verdict != tx {
		r.t.Fatalf("verdict %d", verdict)
	}
}

func (r *rig) state(node membership.NodeID, link int) PeerState {
	r.t.Helper()
	all, err := r.states()
	if err != nil {
		r.t.Fatal(err)
	}
	k := peerKey{uint32(node), uint32(link)}
	v, ok := all[k]
	if !ok {
		r.t.Fatalf("there is no state of node %d link %d", node, link)
	}
	return k.state(v)
}

// The same sequences as of the daemon's own test are answered once, and overtaken ones still are.
func TestReplays(t *testing.T) {
	r := newRig(t)
	r.trusted(rigProber, 1)
	var want probe.Replays
	want.Fresh(1)
	seqs := []uint64{7, 7, 9, 7, 8, 9, 10, 1, 75, 10, 12, 11, 11, 1000, 75, 936, 937, 937, 1 << 63, 1<<63 - 63, 1<<63 - 64, 1001, 0}
	var fresh []uint64
	for _, s := range seqs {
		if want.Fresh(s) {
			fresh = append(fresh, s)
		}
	}
	if got, passed := r.seqs(rigProber, seqs...); !slices.Equal(got, fresh) || passed != nil {
		t.Errorf("answered %v and passed %v, want %v", got, passed, fresh)
	}
	// Its next run begins with 1 again.
	r.configure(rigConfig(), map[membership.NodeID]identity{1: {78, rigPeerEpoch}})
	if got, _ := r.seqs(78, 1, 1, 2); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("the next run: answered %v", got)
	}
	// Those of a run that is not known may be copies: they have a rate, and no window.
	if got, _ := r.seqs(79, 1, 1); !slices.Equal(got, []uint64{1, 1}) {
		t.Errorf("an unknown run: answered %v", got)
	}
}

func TestRate(t *testing.T) {
	r := newRig(t)
	r.trusted(rigProber, 1)
	began := time.Now()
	answered := 1
	var rated uint64
	for i := range uint64(1000) {
		q := ask(2 + i)
		n := r.counts(func() {
			if verdict, _ := r.send(v4(q).bytes()); verdict == tx {
				answered++
			}
		})
		rated += n["rate"]
	}
	limit := 200 + int(200*time.Since(began).Seconds()) + 1
	if answered < 200 || answered > limit || rated != uint64(1001-answered) {
		t.Errorf("%d answers, expected 200 to %d; %d were over the rate", answered, limit, rated)
	}
	// Its own copies of another run, and other peers, have rates of their own.
	if got, _ := r.seqs(5, 3); len(got) != 1 {
		t.Error("another run has no rate of its own")
	}
	q := ask(1)
	q.Src = 3
	f := v4(q)
	f.from = netip.MustParseAddrPort("10.0.0.3:21061")
	r.answer(f, q, testKey(1))
	// Copies use nothing up.
	r = newRig(t)
	r.trusted(rigProber, 1)
	for range 1000 {
		r.seqs(rigProber, 1)
	}
	if got, _ := r.seqs(rigProber, 2, 3, 4); len(got) != 3 {
		t.Errorf("after a thousand copies: %v", got)
	}
}

// Until the peer has said that it hears this kernel every other probe is the daemon's, and
// again when it has not said so for long.
func TestTrial(t *testing.T) {
	r := newRig(t)
	if got, passed := r.seqs(rigProber, 1, 2, 3, 4); !slices.Equal(got, []uint64{1, 3}) || !slices.Equal(passed, []uint64{2, 4}) {
		t.Errorf("unproven: %v and %v", got, passed)
	}
	say := func(seq uint64, stamp membership.Mono, flags uint8, prober uint64) {
		q := ask(seq)
		q.Stamp, q.Flags, q.Prober = stamp, flags, prober
		r.send(v4(q).bytes())
	}
	at := boottime()
	say(5, at, 0, rigProber)                                           // hears the daemon
	say(7, at+membership.Mono(time.Hour), probe.FlagKernel, rigProber) // this kernel has not said that yet
	say(9, at, probe.FlagKernel, 1234)                                 // not the run that is known
	if got, _ := r.seqs(rigProber, 10); got != nil {
		t.Error("what proves nothing was believed")
	}
	if s := r.state(1, 0); s.AckedUser != at || s.Acked != 0 {
		t.Errorf("%+v", s)
	}
	say(11, at, probe.FlagKernel, rigProber)
	if got, passed := r.seqs(rigProber, 12, 13, 14); len(got) != 3 || passed != nil {
		t.Errorf("proven: %v and %v", got, passed)
	}
	if s := r.state(1, 0); s.Acked != at || s.Answers < 5 || s.Asked < at {
		t.Errorf("%+v", s)
	}
	c := rigConfig()
	c.Peers[0].Trust = 1
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	if got, passed := r.seqs(rigProber, 15, 16, 17); !slices.Equal(got, []uint64{15, 17}) || !slices.Equal(passed, []uint64{16}) {
		t.Errorf("not heard for long: %v and %v", got, passed)
	}
	// A peer that asks seldom heard what it was answered last, however long ago that is.
	for seq, newest := uint64(18), r.newestAnswer(); seq < 24; seq, newest = seq+1, r.newestAnswer() {
		say(seq, newest, probe.FlagKernel, rigProber)
		if r.newestAnswer() == newest {
			t.Errorf("%d was left to the daemon", seq)
		}
	}
	if got, _ := r.seqs(rigProber, 24, 25, 26, 28); !slices.Equal(got, []uint64{24, 25}) {
		t.Errorf("neither of the last two was heard: %v", got)
	}
}

func (r *rig) newestAnswer() membership.Mono {
	r.t.Helper()
	all, err := r.states()
	if err != nil {
		r.t.Fatal(err)
	}
	return membership.Mono(all[peerKey{Node: 1}].NewestAnswer)
}

// A checksum that a device has still to finish stays so on the stack's hook, whose
// buffer is marked, and is made whole on the driver's.
func TestChecksumLeftToDevice(t *testing.T) {
	r := newRig(t)
	for i, f := range []frame{v4(ask(1)), v6(ask(1))} {
		f.partial = true
		in := f.bytes()
		l4 := len(in) - probe.Size - 8
		_, out := r.send(in)
		back := frame{from: f.to, to: f.from, payload: out[l4+8:]}.bytes()
		if !bytes.Equal(out[l4:], back[l4:]) {
			t.Errorf("%d, driver: UDP is % x, want % x", i, out[l4:l4+8], back[l4:l4+8])
		}
	}
	if err := r.own(rigConfig(), map[[16]byte]home{addrValue(ownV4.Addr()): {generic: true}, addrValue(ownV6.Addr()): {generic: true}}); err != nil {
		t.Fatal(err)
	}
	for i, f := range []frame{v4(ask(3)), v6(ask(3))} {
		f.partial = true
		in := f.bytes()
		l4 := len(in) - probe.Size - 8
		if _, out := r.send(in); !bytes.Equal(out[l4+6:l4+8], in[l4+6:l4+8]) {
			t.Errorf("%d, stack: the sum is % x, want % x", i, out[l4+6:l4+8], in[l4+6:l4+8])
		}
		q := ask(5)
		q.Link = uint8(i)
		f.partial, f.payload = false, marshal(q, testKey(1))
		r.answer(f, q, testKey(1))
	}
}

func TestNoChecksum(t *testing.T) {
	r := newRig(t)
	f := v4(ask(1))
	f.noChecksum = true
	r.answer(f, ask(1), testKey(1))
}

// The maps in Go are those in C.
func TestLayout(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]int{
		bpfMapSelf: {4, binary.Size(selfValue{})}, bpfMapOwns: {16, binary.Size(ownValue{})}, bpfMapKeys: {4, binary.Size(keyValue{})},
		bpfMapPeers: {binary.Size(peerKey{}), binary.Size(peerValue{})}, bpfMapStates: {binary.Size(peerKey{}), binary.Size(stateValue{})},
		bpfMapCounters: {4, 8},
	} {
		m := spec.Maps[name]
		if int(m.KeySize) != want[0] || int(m.ValueSize) != want[1] {
			t.Errorf("%s: %d and %d bytes, want %v", name, m.KeySize, m.ValueSize, want)
		}
	}
	if n := spec.Maps[bpfMapCounters].MaxEntries; n != uint32(reasons) {
		t.Errorf("%d counters, %d reasons", n, reasons)
	}
	for name, n := range map[string]int{bpfMapOwns: maxLinks, bpfMapPeers: maxPeers, bpfMapStates: maxPeers, bpfMapKeys: maxKeys} {
		if got := spec.Maps[name].MaxEntries; got != uint32(n) {
			t.Errorf("%s takes %d, want %d", name, got, n)
		}
	}
}
