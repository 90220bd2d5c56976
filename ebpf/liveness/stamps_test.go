package liveness

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// reply is an honest answer of node 1 to a probe that this node sends now.
func reply(seq uint64) probe.Packet {
	return probe.Packet{Type: probe.TypeReply, Src: 1, Dst: 2, Seq: seq, Prober: rigRun, Sent: boottime(), Responder: rigPeerEpoch, Age: 7 * time.Second, Stamp: 8, View: 9}
}

func (r *rig) heard() probe.Arrival { return r.last(peerKey{Node: 1}) }

// comes has the program see an answer. It takes in what it stamps, and leaves the rest to the daemon.
func (r *rig) comes(p probe.Packet, reason string) {
	r.t.Helper()
	r.refusesBytes(r.t, v4(p).bytes(), verdictOn(reason), reason)
}

func verdictOn(reason string) uint32 {
	if reason == dropHeard.String() {
		return drop
	}
	return pass
}

func TestStamps(t *testing.T) {
	r := newRig(t)
	if a := r.heard(); a != (probe.Arrival{}) {
		t.Errorf("nothing has come: %+v", a)
	}
	var was, newest uint64
	for _, seq := range []uint64{4, 5, 9} {
		before := boottime()
		r.comes(reply(seq), "heard")
		a := r.heard()
		if a.At < before || a.At > boottime() {
			t.Errorf("%d: %+v", seq, a)
		}
		was = was<<(seq-newest) | 1
		newest = seq
		if want := (probe.Arrival{Seq: seq, At: a.At, Answered: was, Epoch: rigPeerEpoch, Age: 7 * time.Second, Stamp: 8, View: 9}); a != want {
			t.Errorf("%+v, want %+v", a, want)
		}
	}
	q := reply(10)
	q.Age = 1 << 62
	q.Flags = probe.FlagKernel
	q.Link = 1
	r.refuses(t, v6(q), drop, "heard")
	if a := r.last(peerKey{1, 1}); a.Seq != 10 || a.Age != 1<<62 || !a.Kernel || a.Answered != 1 {
		t.Errorf("link 1: %+v", a)
	}
	if a := r.heard(); a.Seq != 9 {
		t.Errorf("an answer on link 1 was stamped on link 0: %+v", a)
	}
	if s := r.state(1, 0); s.Replied < r.heard().At || s.Asked != 0 {
		t.Errorf("%+v", s)
	}
}

// What the daemon would not count is not stamped, and goes to it all the same where it
// could know better.
func TestStampsNothingElse(t *testing.T) {
	r := newRig(t)
	r.comes(reply(5), "heard")
	was := r.heard()
	late := probe.Outstanding * time.Second
	for _, c := range []struct {
		name    string
		change  func(*probe.Packet)
		verdict uint32
		reason  string
	}{
		{"the same again", func(p *probe.Packet) { p.Seq = 5 }, pass, "reply"},
		{"an older one", func(p *probe.Packet) { p.Seq = 4 }, pass, "reply"},
		{"sequence 0", func(p *probe.Packet) { p.Seq = 0 }, pass, "reply"},
		{"to another run", func(p *probe.Packet) { p.Prober = rigRun + 1 }, pass, "reply"},
		{"to no run", func(p *probe.Packet) { p.Prober = 0 }, pass, "reply"},
		{"of another epoch", func(p *probe.Packet) { p.Responder = rigPeerEpoch + 1 }, pass, "reply"},
		{"of no epoch", func(p *probe.Packet) { p.Responder = 0 }, pass, "reply"},
		{"held back", func(p *probe.Packet) { p.Sent = p.Sent.Add(-late - time.Second) }, pass, "reply"},
		{"to a probe of the future", func(p *probe.Packet) { p.Sent = p.Sent.Add(late + time.Second) }, pass, "reply"},
		{"to a probe at no time", func(p *probe.Packet) { p.Sent = 0 }, pass, "reply"},
		{"to a probe at the end of time", func(p *probe.Packet) { p.Sent = -1 }, pass, "reply"},
		{"for another node", func(p *probe.Packet) { p.Dst = 3 }, drop, "destination"},
		{"of another link", func(p *probe.Packet) { p.Link = 1 }, drop, "link"},
		{"of an unknown node", func(p *probe.Packet) { p.Src = 9 }, pass, "source"},
		{"of another peer's address", func(p *probe.Packet) { p.Src = 3 }, drop, "spoofed"},
		{"a probe", func(p *probe.Packet) { p.Type = probe.TypeProbe; p.Seq, p.Prober = 0, rigProber }, drop, "replay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := reply(6)
			c.change(&p)
			r.refuses(t, v4(p), c.verdict, c.reason)
			if a := r.heard(); a != was {
				t.Errorf("%+v was stamped", a)
			}
		})
	}
	for name, key := range map[string]probe.Key{"key": probe.NewKey(1, [16]byte{9}), "epoch": testKey(3)} {
		t.Run("foreign "+name, func(t *testing.T) {
			f := v4(reply(6))
			f.payload = marshal(reply(6), key)
			if r.send(f.bytes()); r.heard() != was {
				t.Errorf("%+v was stamped", r.heard())
			}
		})
	}
	t.Run("every bit", func(t *testing.T) {
		for bit := range probe.Size * 8 {
			f := v4(reply(6))
			f.payload[bit/8] ^= 1 << (bit % 8)
			if r.send(f.bytes()); r.heard() != was {
				t.Fatalf("with bit %d changed %+v was stamped", bit, r.heard())
			}
		}
	})
	r.comes(reply(6), "heard") // none of them stood in its way
}

// Which of the newest 64 probes were answered is known, those before are forgotten.
func TestAnswered(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ seq, want uint64 }{
		{10, 1}, {11, 3}, {14, 0b11001}, {73, 1<<63 | 1<<62 | 1<<59 | 1}, {74, 1<<63 | 1<<60 | 3}, {138, 1}, {139, 3}, {203, 1}, {1 << 40, 1},
	} {
		r.comes(reply(c.seq), "heard")
		if a := r.heard(); a.Seq != c.seq || a.Answered != c.want {
			t.Errorf("%d: %b, want %b", a.Seq, a.Answered, c.want)
		}
	}
}

// A kernel that has no daemon any more is not heard, and its answer is used up.
func TestNoStampWithoutDaemon(t *testing.T) {
	r := newRig(t)
	p := reply(5)
	p.Flags = probe.FlagKernel | probe.FlagNoDaemon
	r.comes(p, "reply")
	r.comes(reply(5), "reply")
	if a := r.heard(); a != (probe.Arrival{}) {
		t.Errorf("%+v", a)
	}
	r.comes(reply(6), "heard")
	if a := r.heard(); a.Answered != 1 {
		t.Errorf("%+v", a)
	}
}

// What is not known yet is nobody's answer; a new run of this node's begins with nothing,
// and a peer's next epoch goes on.
func TestStampsOfWhom(t *testing.T) {
	r := newRig(t)
	c := rigConfig()
	r.configure(c, nil)
	r.comes(reply(5), "reply")
	r.configure(c, map[membership.NodeID]identity{1: {Instance: rigProber}})
	r.comes(reply(5), "reply")
	c.Run = 0
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	r.comes(reply(5), "reply")
	c.Run = rigRun
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	r.comes(reply(5), "heard")
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, 67}})
	if a := r.heard(); a.Seq != 5 {
		t.Errorf("%+v", a)
	}
	r.comes(reply(6), "reply")
	p := reply(6)
	p.Responder = 67
	r.comes(p, "heard")
	c.Run = 100
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, 67}})
	if a := r.heard(); a != (probe.Arrival{}) {
		t.Errorf("a stamp of an earlier run: %+v", a)
	}
	p.Seq, p.Prober = 1, 100
	r.comes(p, "heard")
	if a := r.heard(); a.Seq != 1 || a.Answered != 1 {
		t.Errorf("%+v", a)
	}
}

// Who stays keeps its place, and who comes into one that was somebody's finds it empty.
func TestSlots(t *testing.T) {
	r := newRig(t)
	r.comes(reply(5), "heard")
	was := *r.slots.Load()
	c := rigConfig()
	c.Peers = slices.Insert(c.Peers[:2:2], 0, Peer{Node: 4, Addr: netip.MustParseAddrPort("10.0.0.4:21061"), Rate: 1})
	r.configure(c, map[membership.NodeID]identity{1: {rigProber, rigPeerEpoch}})
	is := *r.slots.Load()
	if is[peerKey{1, 0}] != was[peerKey{1, 0}] || is[peerKey{1, 1}] != was[peerKey{1, 1}] || is[peerKey{4, 0}] != was[peerKey{3, 0}] || len(is) != 3 {
		t.Errorf("%v became %v", was, is)
	}
	if a := r.heard(); a.Seq != 5 {
		t.Errorf("%+v", a)
	}
	c.Peers = c.Peers[:1]
	c.Peers = append(c.Peers, rigConfig().Peers[2], rigConfig().Peers[1])
	r.configure(c, nil)
	if a := r.last(peerKey{3, 0}); a != (probe.Arrival{}) {
		t.Errorf("node 3 has node 1's stamp: %+v", a)
	}
	all := map[uint32]bool{}
	for _, s := range *r.slots.Load() {
		all[s] = true
	}
	if len(all) != 3 || !maps.Equal(all, map[uint32]bool{0: true, 1: true, 2: true}) {
		t.Errorf("%v", *r.slots.Load())
	}
}

// Where new peers came into a map and those whose places they have did not go, one moves.
func TestSlotsOfBoth(t *testing.T) {
	have := map[peerKey]peerValue{{1, 0}: {Slot: 0}, {2, 0}: {Slot: 1}, {3, 0}: {Slot: 1}}
	out := slots(have, []Peer{{Node: 3}, {Node: 2}, {Node: 1}})
	if !maps.Equal(out, slotTable{{1, 0}: 0, {3, 0}: 1, {2, 0}: 2}) {
		t.Errorf("%v", out)
	}
}

func TestSlotsOfAll(t *testing.T) {
	have, want := map[peerKey]peerValue{}, []Peer{}
	for i := range uint32(maxPeers) {
		have[peerKey{i + 1, 0}] = peerValue{Slot: maxPeers - 1 - i}
		want = append(want, Peer{Node: membership.NodeID(i + 2)})
	}
	out, seen := slots(have, want), map[uint32]bool{}
	for _, s := range out {
		seen[s] = true
	}
	if len(out) != maxPeers || len(seen) != maxPeers || out[peerKey{maxPeers + 1, 0}] != maxPeers-1 || out[peerKey{2, 0}] != maxPeers-2 {
		t.Errorf("%d peers have %d places", len(out), len(seen))
	}
}
