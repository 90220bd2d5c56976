package udp

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
)

// stamped is what a kernel has taken in of node 2's answers on link 0.
type stamped struct{ probe.Arrival }

func (s *stamped) Last(peer membership.NodeID, link int) probe.Arrival {
	if peer != 2 || link != 0 {
		return probe.Arrival{}
	}
	return s.Arrival
}

// reader is a prober that nothing runs: its probes are asked for, and what was answered is
// read when the test says so.
type reader struct {
	t      *testing.T
	p      *Prober
	kernel stamped
	out    [probe.Size]byte
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{t: t}
	rig := &rig{}
	opt := rig.options(probetest.Spec{Self: 1, Nodes: rig.nodes(t, 3, 2), Interval: time.Second, Keys: key(), Instance: 10})
	opt.Arrivals = &r.kernel
	var err error
	if r.p, err = New(opt); err != nil {
		t.Fatal(err)
	}
	r.p.clock = func() membership.Mono { return after(24 * time.Hour) }
	r.p.Learn(2, 20, 21)
	return r
}

// ask sends a probe.
func (r *reader) ask(at membership.Mono) probe.Packet {
	r.p.ask(r.p.table.Load().index[2][0], at, &r.out)
	q, err := probe.Parse(r.out[:])
	if err != nil {
		r.t.Fatal(err)
	}
	return q
}

// read has the prober read the answer to a probe.
func (r *reader) read(q probe.Packet, age time.Duration, at membership.Mono) {
	a := q.Reply()
	a.Responder, a.Age = 21, age
	var b [probe.Size]byte
	a.Marshal(&b, key()[0])
	r.p.receive(0, b[:], at, &r.out)
}

func (r *reader) sample() membership.Sample { return r.p.Snapshot()[0] }

const at0 = membership.Mono(time.Hour)

func after(d time.Duration) membership.Mono { return at0.Add(d) }

// takes has the kernel take in the answer to a probe, at a time.
func (r *reader) takes(q probe.Packet, at membership.Mono, age time.Duration) {
	was := r.kernel.Arrival
	answered := uint64(1)
	if ahead := q.Seq - was.Seq; was.Seq != 0 {
		answered |= was.Answered << ahead
	}
	r.kernel.Arrival = probe.Arrival{Seq: q.Seq, At: at, Answered: answered, Epoch: 21, Age: age, Stamp: membership.Mono(q.Seq) + 1000, View: q.Seq + 2000, Kernel: true}
}

// A reader that has not run for longer than anybody waits: the answers that the kernel took
// in meanwhile count, and when it runs again they are as old as they are.
func TestStarvedReader(t *testing.T) {
	const ms = time.Millisecond
	r := newReader(t)
	if s := r.sample(); s.Heard != 0 {
		t.Errorf("before any answer: %+v", s)
	}
	for i := range 5 {
		sent := after(time.Duration(i) * time.Second)
		q := r.ask(sent)
		r.takes(q, sent.Add(3*ms), time.Duration(i)*ms)
		s, l := r.sample(), r.p.Links()[0]
		if s.Heard != sent.Add(3*ms) || s.DaemonAge != time.Duration(i)*ms || s.Answered != uint64(i+1) || s.RTT != 3*ms || s.View != q.Seq+2000 {
			t.Errorf("%d: %+v", i, s)
		}
		if l.Heard != s.Heard || l.ByKernel != s.Heard || !l.Kernel || l.Probes != i+1 || l.Lost != 0 || l.P99 != 3*ms {
			t.Errorf("%d: %+v", i, l)
		}
		if again := r.sample(); again != s {
			t.Errorf("%d: it counts twice: %+v", i, again)
		}
	}
	if n := r.p.Counters()["accepted"]; n != 5 {
		t.Errorf("%d answers", n)
	}
	for _, s := range r.p.Snapshot()[1:] {
		if s.Heard != 0 || s.Answered != 0 {
			t.Errorf("another's answers: %+v", s)
		}
	}
}

// A probe says what was heard last: that is looked at before it is made.
func TestProbesSayWhatTheKernelTook(t *testing.T) {
	r := newReader(t)
	x := r.p.table.Load().index[2][0]
	x.link.fd.Store(1 << 20) // none: it is made, and the kernel does not take it
	x.due = at0
	turn := func(at membership.Mono) probe.Packet {
		t.Helper()
		x.due = at
		r.p.sendDue(&sender{tab: &table{targets: []*target{x}, interval: time.Second}}, at, 0)
		q, err := probe.Parse(x.link.out.probes[0][:])
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := turn(at0)
	if q.Stamp != 0 || q.Flags != 0 || q.Sent != at0 {
		t.Errorf("%+v", q)
	}
	r.takes(q, after(time.Millisecond), 0)
	if q = turn(after(time.Second)); q.Stamp != membership.Mono(q.Seq-1)+1000 || q.Flags != probe.FlagKernel {
		t.Errorf("%+v", q)
	}
	if c := r.p.Counters(); c["sent"] != 0 || c["send_failed"] != 2 {
		t.Errorf("%v", c)
	}
}

// Of answers that came between two looks only the newest one's arrival is known; what is
// missing among them is lost, and what an earlier look has counted is counted once.
func TestAnswersBetweenLooks(t *testing.T) {
	const ms = time.Millisecond
	r := newReader(t)
	var asked []probe.Packet
	ask := func(n int) {
		for range n {
			asked = append(asked, r.ask(after(time.Duration(len(asked))*ms)))
		}
	}
	ask(7)
	r.takes(asked[0], after(1*ms), 0)
	r.takes(asked[1], after(2*ms), 0)
	r.takes(asked[3], after(9*ms), 0)
	s, l := r.sample(), r.p.Links()[0]
	if s.RTT != 6*ms || s.Answered != 3 || s.Heard != after(9*ms) || l.P50 != 6*ms || l.P99 != 6*ms {
		t.Errorf("%+v, %+v", s, l)
	}
	r.takes(asked[4], after(10*ms), 0)
	r.takes(asked[6], after(10*ms), 0)
	if s, l := r.sample(), r.p.Links()[0]; s.Answered != 5 || s.RTT != 4*ms || l.Probes != 7 || l.Lost != 2 {
		t.Errorf("%+v, %+v", s, l)
	}
	ask(63)
	for _, q := range asked[7:] {
		r.takes(q, after(80*ms), 0)
	}
	if s, l := r.sample(), r.p.Links()[0]; s.Answered != 5+63 || l.Probes != 60 || l.Lost != 0 {
		t.Errorf("%+v, %+v", s, l)
	}
}

// What the kernel took in long after it was asked for has no round trip.
func TestAnUnknownRoundTrip(t *testing.T) {
	r := newReader(t)
	q := r.ask(at0)
	for i := range 100 {
		r.ask(after(time.Duration(i)))
	}
	r.takes(q, after(time.Hour), 0)
	if s, l := r.sample(), r.p.Links()[0]; s.Answered != 1 || s.RTT != 0 || s.Heard != after(time.Hour) || l.P50 != 0 {
		t.Errorf("%+v, %+v", s, l)
	}
}

// What was never asked is heard, since the kernel says so, and answers no probe; of another
// epoch than the one learnt nothing counts.
func TestWhoseAnswersTheKernelTook(t *testing.T) {
	r := newReader(t)
	q := r.ask(at0)
	q.Seq++
	r.takes(q, after(1), 0)
	if s := r.sample(); s.Heard != after(1) || s.Answered != 0 {
		t.Errorf("never asked: %+v", s)
	}
	q.Seq--
	r.p.Learn(2, 22, 23)
	r.kernel.Arrival = probe.Arrival{}
	r.takes(q, after(2), 0)
	if s := r.sample(); s.Heard != after(1) || s.Answered != 0 {
		t.Errorf("of an epoch that is not this peer's any more: %+v", s)
	}
	r.p.Learn(2, 0, 0)
	r.kernel.Epoch = 0
	if s := r.sample(); s.Heard != after(1) || s.Answered != 0 {
		t.Errorf("of nobody's: %+v", s)
	}
}

// What the kernel leaves, as it was in a frame that it could not judge or on a link that it does not
// see, counts when it is read.
func TestAnswersThatTheKernelLeaves(t *testing.T) {
	r := newReader(t)
	q := r.ask(at0)
	r.takes(q, after(time.Millisecond), 5)
	r.read(q, 5, after(time.Second)) // a copy
	if s := r.sample(); s.Heard != after(time.Millisecond) || s.Answered != 1 {
		t.Errorf("%+v", s)
	}
	older := r.ask(after(2 * time.Second))
	q = r.ask(after(3 * time.Second))
	r.takes(q, after(4*time.Second), 5)
	r.read(older, 5, after(5*time.Second)) // held back: a newer one came
	if s := r.sample(); s.Heard != after(4*time.Second) || s.Answered != 2 {
		t.Errorf("%+v", s)
	}
	q = r.ask(after(6 * time.Second))
	r.read(q, 6, after(7*time.Second))
	if s := r.sample(); s.Heard != after(7*time.Second) || s.DaemonAge != 6 || s.RTT != time.Second || s.Answered != 3 {
		t.Errorf("%+v", s)
	}
	r.kernel.Arrival = probe.Arrival{} // its maps have gone
	if s := r.sample(); s.Heard != after(7*time.Second) {
		t.Errorf("Heard went back: %+v", s)
	}
}

// A kernel whose daemon has ended is no peer that is heard, until it has one again.
func TestTheKernelTookTheNextDaemonsAnswer(t *testing.T) {
	r := newReader(t)
	q := r.ask(at0)
	a := q.Reply()
	a.Responder, a.Flags = 21, probe.FlagKernel|probe.FlagNoDaemon
	var b [probe.Size]byte
	a.Marshal(&b, key()[0])
	r.p.receive(0, b[:], after(1), &r.out)
	if l := r.p.Links()[0]; !l.NoDaemon || l.Heard != 0 {
		t.Errorf("%+v", l)
	}
	if s := r.sample(); s.Alive != after(1) || s.Heard != 0 {
		t.Errorf("%+v", s)
	}
	r.takes(r.ask(after(2)), after(3), 0)
	if l := r.p.Links()[0]; l.NoDaemon || l.Heard != after(3) {
		t.Errorf("%+v", l)
	}
}

// A stamp of a time that is yet to be, as whoever writes to the kernel's map may leave, is none:
// a peer that is dead would be heard, and one that answers would not be.
func TestAStampThatIsYetToBe(t *testing.T) {
	r := newReader(t)
	now := after(time.Second)
	r.p.clock = func() membership.Mono { return now }
	q := r.ask(at0)
	r.kernel.Arrival = probe.Arrival{Seq: 1 << 40, At: now + 1, Epoch: 21}
	if s := r.sample(); s.Heard != 0 || r.p.Links()[0].Heard != 0 {
		t.Errorf("%+v", s)
	}
	r.read(q, 0, after(time.Millisecond))
	if s := r.sample(); s.Heard != after(time.Millisecond) || r.p.Links()[0].Heard != s.Heard {
		t.Errorf("%+v", s)
	}
	now++
	if s := r.sample(); s.Heard != now {
		t.Errorf("it has come: %+v", s)
	}
}

// The path of a packet makes no garbage with what the kernel takes in either.
func TestNoGarbageWithStamps(t *testing.T) {
	r := newReader(t)
	at := at0
	buf := make([]membership.Sample, 0, 8)
	tab := r.p.table.Load()
	send := &sender{tab: tab}
	for _, l := range r.p.links {
		l.fd.Store(1 << 20)
	}
	if n := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Second)
		for _, x := range tab.targets {
			x.due, x.turn = at, 0
		}
		r.p.sendDue(send, at, 0)
		r.kernel.Arrival = probe.Arrival{Seq: tab.targets[0].window.Sent(), At: at.Add(1), Answered: 1, Epoch: 21}
		buf = r.p.AppendSnapshot(buf[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s := r.sample(); s.Answered != 1001 || s.Heard != at.Add(1) {
		t.Errorf("%+v", s)
	}
}
