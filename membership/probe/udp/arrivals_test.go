package udp

import (
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/probetest"
)

// stamped is a kernel's stamp of node 2 on link 0.
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

// A reader that has not run for longer than anybody waits: the answers that lie unread in
// its socket count by the kernel's stamp, and those who ask see no silence. When it reads
// them they are as old as they are.
func TestStarvedReader(t *testing.T) {
	const ms = time.Millisecond
	r := newReader(t)
	if s := r.sample(); s.Heard != 0 {
		t.Errorf("before any answer: %+v", s)
	}
	var asked []probe.Packet
	for i := range 5 {
		sent := after(time.Duration(i) * time.Second)
		asked = append(asked, r.ask(sent))
		r.kernel.Arrival = probe.Arrival{Seq: asked[i].Seq, At: sent.Add(3 * ms), Age: time.Duration(i) * ms}
		if s := r.sample(); s.Heard != sent.Add(3*ms) || s.DaemonAge != time.Duration(i)*ms || s.Answered != 0 || r.p.Links()[0].Heard != s.Heard {
			t.Errorf("%d: %+v", i, s)
		}
	}
	read := after(time.Minute)
	for i, q := range asked {
		r.read(q, time.Duration(i)*ms, read)
		s := r.sample()
		if s.Heard != after(4*time.Second+3*ms) || s.DaemonAge != 4*ms || s.Answered != uint64(i+1) {
			t.Errorf("%d was read: %+v", i, s)
		}
	}
	if s := r.sample(); s.RTT != 3*ms {
		t.Errorf("the round trip has the reader's delay: %v", s.RTT)
	}
	if l := r.p.Links()[0]; l.Probes != 5 || l.Lost != 0 || l.P50 != 3*ms || l.P99 != 3*ms {
		t.Errorf("round trips have the reader's delay: %+v", l)
	}
	for _, s := range r.p.Snapshot()[1:] {
		if s.Heard != 0 {
			t.Errorf("a stamp of another: %+v", s)
		}
	}
}

// Of answers that had waited only the newest one's arrival is known; one that was read before
// the newest came in was not late.
func TestRoundTripsOfABacklog(t *testing.T) {
	const ms = time.Millisecond
	r := newReader(t)
	first, second, third := r.ask(at0), r.ask(after(time.Second)), r.ask(after(2*time.Second))
	r.kernel.Arrival = probe.Arrival{Seq: third.Seq, At: after(2*time.Second + 9*ms)}
	r.read(first, 0, after(3*time.Second))
	s, l := r.sample(), r.p.Links()[0]
	if s.RTT != 0 || s.Answered != 1 || s.Heard != r.kernel.At || l.Probes != 1 || l.Lost != 0 || l.P50 != 0 || l.P99 != 0 {
		t.Errorf("%+v, %+v", s, l)
	}
	r.read(second, 0, after(time.Second+7*ms))
	if s, l := r.sample(), r.p.Links()[0]; s.RTT != 7*ms || l.P50 != 7*ms || l.Probes != 2 {
		t.Errorf("%+v, %+v", s, l)
	}
	r.read(third, 0, after(3*time.Second))
	if s, l := r.sample(), r.p.Links()[0]; s.RTT != 9*ms || l.P50 != 7*ms || l.P99 != 9*ms || l.Probes != 3 || l.Lost != 0 {
		t.Errorf("%+v, %+v", s, l)
	}
}

// What was read late is not heard late: a peer that died meanwhile is silent at once.
func TestOldSilenceIsOld(t *testing.T) {
	r := newReader(t)
	q := r.ask(at0)
	r.kernel.Arrival = probe.Arrival{Seq: q.Seq, At: after(time.Millisecond)}
	r.read(q, 0, after(10*time.Second))
	if s := r.sample(); s.Heard != after(time.Millisecond) || s.RTT != time.Millisecond {
		t.Errorf("%+v", s)
	}
}

// What the kernel has not stamped, as it was in a frame that it leaves alone or on a link
// that it does not see, counts when it is read.
func TestUnstampedAnswers(t *testing.T) {
	r := newReader(t)
	q := r.ask(at0)
	r.kernel.Arrival = probe.Arrival{Seq: q.Seq, At: after(time.Millisecond), Age: 5}
	r.read(q, 5, after(time.Second))
	q = r.ask(after(2 * time.Second))
	r.read(q, 6, after(3*time.Second))
	if s := r.sample(); s.Heard != after(3*time.Second) || s.DaemonAge != 6 || s.RTT != time.Second || s.Answered != 2 {
		t.Errorf("%+v", s)
	}
	r.kernel.Arrival = probe.Arrival{} // its maps have gone
	if s := r.sample(); s.Heard != after(3*time.Second) {
		t.Errorf("Heard went back: %+v", s)
	}
}

// A stamp of a time that is yet to be, as whoever writes to the kernel's map may leave, is none:
// a peer that is dead would be heard, and one that answers would not be.
func TestAStampThatIsYetToBe(t *testing.T) {
	r := newReader(t)
	now := after(time.Second)
	r.p.clock = func() membership.Mono { return now }
	q := r.ask(at0)
	r.kernel.Arrival = probe.Arrival{Seq: 1 << 40, At: now + 1}
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

// The path of a packet makes no garbage with stamps either.
func TestNoGarbageWithStamps(t *testing.T) {
	r := newReader(t)
	at := at0
	buf := make([]membership.Sample, 0, 8)
	var reply probe.Packet
	var b [probe.Size]byte
	tgt := r.p.table.Load().index[2][0]
	if n := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Second)
		r.p.ask(tgt, at, &r.out)
		q, _ := probe.Parse(r.out[:])
		reply = q.Reply()
		reply.Responder = 21
		reply.Marshal(&b, (*r.p.keys.Load())[0])
		r.kernel.Arrival = probe.Arrival{Seq: q.Seq, At: at.Add(1)}
		r.p.receive(0, b[:], at.Add(2), &r.out)
		buf = r.p.AppendSnapshot(buf[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s := r.sample(); s.Answered != 1001 || s.Heard != at.Add(1) {
		t.Errorf("%+v", s)
	}
}
