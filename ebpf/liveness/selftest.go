package liveness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// ErrSelfTest says that the program does not do on this kernel what it has to.
var ErrSelfTest = errors.New("the program does not answer as it should on this kernel")

// The verdicts: a frame goes no further, or back (linux/bpf.h).
const (
	xdpDrop = 1
	xdpTX   = 3
)

// selfTest has the kernel run the program, with maps of its own, on a probe and on an
// answer. With timers it has one run down, too. Nothing is sent.
func selfTest(timers bool) (err error) {
	o, err := loadObjects("", timers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	const epoch, port = 4711, 1
	key := probe.NewKey(1, [16]byte{1, 2, 3})
	peer, own := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddr("192.0.2.2")
	c := Config{Self: 2, Port: port, Links: []netip.Addr{own}, Keys: []probe.Key{key}, Run: 99, Interval: time.Second, Silent: time.Millisecond,
		Peers: []Peer{{Node: 1, Addr: peer, Rate: 100, Trust: time.Second}}}
	if err := o.configure(c, map[membership.NodeID]identity{1: {77, 66}}, nil); err != nil {
		return err
	}
	o.self.Epoch = epoch
	q := probe.Packet{Type: probe.TypeProbe, Src: 1, Dst: 2, Seq: 1, Prober: 77, Sent: 88}
	opt := ebpf.RunOptions{Data: testFrame(q, key, peer, own), DataOut: make([]byte, 256)}
	verdict, err := o.program().Run(&opt)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSelfTest, err)
	}
	out := opt.DataOut
	if verdict != xdpTX || len(out) != len(opt.Data) {
		return fmt.Errorf("%w: verdict %d on a probe, with %d bytes of %d", ErrSelfTest, verdict, len(out), len(opt.Data))
	}
	if err := testAnswer(out[len(out)-probe.Size:], key, q.Seq, epoch); err != nil {
		return fmt.Errorf("%w: %w", ErrSelfTest, err)
	}
	before := boottime()
	a := probe.Packet{Type: probe.TypeReply, Src: 1, Dst: 2, Seq: 3, Prober: c.Run, Sent: before, Responder: 66}
	if verdict, err = o.program().Run(&ebpf.RunOptions{Data: testFrame(a, key, peer, own)}); err != nil {
		return fmt.Errorf("%w: %w", ErrSelfTest, err)
	}
	if verdict != xdpDrop {
		return fmt.Errorf("%w: verdict %d on an answer", ErrSelfTest, verdict)
	}
	got, after := o.last(peerKey{Node: 1}), boottime()
	if got.Seq != a.Seq || got.At < before.Add(-sameClock) || got.At > after.Add(sameClock) {
		return fmt.Errorf("%w: stamp %+v, expected from %d to %d: is this a time namespace?", ErrSelfTest, got, before, after)
	}
	if timers {
		return o.testTimer(got.At)
	}
	return nil
}

// testAnswer judges what a probe has become.
func testAnswer(payload []byte, key probe.Key, seq, epoch uint64) error {
	r, err := probe.Parse(payload)
	if err != nil {
		return err
	}
	if !probe.Verify(payload, key) || r.Seq != seq || r.Responder != epoch || r.Flags&probe.FlagKernel == 0 {
		return fmt.Errorf("its answer is %+v", r)
	}
	return nil
}

// sameClock is how exact two ways to read one clock are.
const sameClock = 10 * time.Millisecond

// timerPatience is for how long the self-test waits for a timer of a millisecond.
const timerPatience = time.Second

func (o *objects) testTimer(at membership.Mono) (err error) {
	rd, err := ringbuf.NewReader(o.Silences)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	rd.SetDeadline(time.Now().Add(timerPatience))
	rec, err := rd.Read()
	if err != nil {
		return fmt.Errorf("a timer of 1ms: %w", err)
	}
	if v, ok := parseSilence(rec.RawSample); !ok || membership.Mono(v.At) != at || v.Node != 1 {
		return fmt.Errorf("%w: a timer says % x", ErrSelfTest, rec.RawSample)
	}
	return nil
}

// testFrame is a probe on the wire, by IPv4.
func testFrame(q probe.Packet, key probe.Key, from netip.AddrPort, to netip.Addr) []byte {
	var payload [probe.Size]byte
	q.Marshal(&payload, key)
	be := binary.BigEndian
	b := append(make([]byte, 12), 8, 0, 0x45, 0)
	b = be.AppendUint16(b, 20+8+probe.Size)
	b = append(b, 0, 0, 0, 0, 64, 17, 0, 0)
	b = append(append(b, from.Addr().AsSlice()...), to.AsSlice()...)
	b = be.AppendUint16(be.AppendUint16(b, from.Port()), from.Port())
	b = be.AppendUint16(be.AppendUint16(b, 8+probe.Size), 0)
	return append(b, payload[:]...)
}
