package liveness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// An answer says whether a process waits for the probes.
func TestDaemonIsThere(t *testing.T) {
	r := newRig(t)
	h := newHost(t) // where the program looks for sockets
	for i, network := range []string{"udp4", "udp6"} {
		flags := func(seq uint64) uint8 {
			q := ask(seq)
			f := v4(q)
			if i == 1 {
				q.Link = 1
				f = v6(q)
			}
			return r.answer(f, q, testKey(1)).Flags
		}
		if got := flags(1); got != probe.FlagKernel|probe.FlagNoDaemon {
			t.Errorf("%s: flags %x without a daemon", network, got)
		}
		c, err := net.ListenUDP(network, &net.UDPAddr{Port: 21061})
		h.must(err)
		if got := flags(3); got != probe.FlagKernel {
			t.Errorf("%s: flags %x with a daemon", network, got)
		}
		h.must(c.Close())
		if got := flags(5); got != probe.FlagKernel|probe.FlagNoDaemon {
			t.Errorf("%s: flags %x after the daemon", network, got)
		}
	}
}

func TestRun(t *testing.T) {
	h := newHost(t)
	r := h.load(Auto, 1)
	h.must(r.Configure(h.config()))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.Run(ctx) // once
	h.mode(r, Native)
}

func TestSetters(t *testing.T) {
	h := newHost(t)
	r := h.start(WantGeneric, 5)
	h.must(r.Learn(1, 99, 98))
	if v := h.peer(r); v.Instance != 99 {
		t.Errorf("%+v", v)
	}
	h.must(r.Learn(9, 1, 1)) // nobody
	h.must(r.SetKeys([]probe.Key{testKey(8), testKey(9)}))
	keys, err := dump[uint32, keyValue](r.obj.Keys)
	if err != nil || len(keys) != 2 || keys[8] != keyOf(testKey(8)) || keys[9] != keyOf(testKey(9)) {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if v := h.peer(r); v.Instance != 99 {
		t.Errorf("with the keys came %+v", v)
	}
	r.Progress(123, 7)
	r.Progress(456, 8)
	if s := *r.obj.self; s.Progress != 2 || s.View != 8 || s.Ticked != 456 || s.Node != 2 || s.Epoch != 5 {
		t.Errorf("%+v", s)
	}
	if p, err := r.Peers(); err != nil || len(p) != 1 || p[0] != (PeerState{Node: 1}) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := r.Configure(Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
	if err := r.SetKeys(nil); err == nil {
		t.Error("no key was taken")
	}

	h.must(r.Close())
	h.must(r.Close())
	r.Progress(1, 1)
	_, err1 := r.Peers()
	_, err2 := r.Counters()
	for _, err := range []error{r.Learn(1, 1, 1), r.Configure(h.config()), err1, err2} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if r.Epoch() != 0 {
		t.Error("after Close there is an epoch")
	}
}

// Of two setters at a time neither undoes what the other one sets.
func TestSettersAtATime(t *testing.T) {
	h := newHost(t)
	r := h.start(WantGeneric, 5)
	for n := range uint32(50) {
		keys, c := []probe.Key{testKey(n + 10), testKey(n + 11)}, h.config()
		c.Keys = nil
		c.Peers[0].Node, c.Run = membership.NodeID(n+10), uint64(n+10)
		var wg sync.WaitGroup
		for _, set := range []func() error{
			func() error { return r.SetKeys(keys) },
			func() error { return r.Configure(c) },
			func() error { return r.Learn(c.Peers[0].Node, uint64(n), 1) },
		} {
			wg.Go(func() {
				if err := set(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		h.must(r.Maintain())
		have, err := dump[uint32, keyValue](r.obj.Keys)
		h.must(err)
		peers, err := dump[peerKey, peerValue](r.obj.Peers)
		h.must(err)
		p, known := peers[c.Peers[0].key()]
		if len(have) != 2 || have[n+10] != keyOf(keys[0]) || have[n+11] != keyOf(keys[1]) || !known || len(peers) != 1 || p.Instance != uint64(n) || r.obj.self.Run != c.Run {
			t.Fatalf("%d: keys %v, peers %+v, run %d", n, have, peers, r.obj.self.Run)
		}
	}
	c := h.config()
	c.Keys = []probe.Key{testKey(3)}
	h.must(r.Configure(c))
	if have, err := dump[uint32, keyValue](r.obj.Keys); err != nil || len(have) != 1 || have[3] != keyOf(testKey(3)) {
		t.Errorf("%v, %v", have, err)
	}
}

// What is wrong with an answer is told, whether it can be read or not.
func TestAnswerIsJudged(t *testing.T) {
	key := testKey(1)
	good := probe.Packet{Type: probe.TypeReply, Src: 2, Dst: 1, Seq: 4, Responder: 5, Flags: probe.FlagKernel}
	payload := func(change func(*probe.Packet)) []byte {
		p := good
		change(&p)
		return marshal(p, key)
	}
	for text, b := range map[string][]byte{
		"":                payload(func(*probe.Packet) {}),
		"its answer is {": payload(func(p *probe.Packet) { p.Flags = 0 }),
		"Seq:3":           payload(func(p *probe.Packet) { p.Seq = 3 }),
		"Responder:6":     payload(func(p *probe.Packet) { p.Responder = 6 }),
		"probe":           make([]byte, probe.Size),
	} {
		err := testAnswer(b, key, 4, 5)
		if got := fmt.Sprint(err); (err == nil) != (text == "") || !strings.Contains(got, text) && err != nil || strings.Contains(got, "%!") {
			t.Errorf("expected %q: %v", text, err)
		}
	}
	if err := testAnswer(marshal(good, testKey(2)), key, 4, 5); err == nil {
		t.Error("by a foreign key")
	}
}

// What a map refuses leaves the peers that are known in their places, and nobody learns of
// one that has gone.
func TestConfigureFails(t *testing.T) {
	h := newHost(t)
	r := h.load(Off, rigEpoch)
	h.must(r.Configure(rigConfig()))
	h.must(r.Learn(1, rigProber, rigPeerEpoch))
	(&rig{r.obj, t}).comes(reply(5), "heard")
	c := rigConfig()
	c.Peers = c.Peers[2:]
	for _, m := range []*ebpf.Map{r.obj.Owns, r.obj.States} { // the last to be filled, and one before the peers
		h.must(m.Close())
		if err := r.Configure(c); err == nil {
			t.Errorf("%s is closed, and was filled", m)
		}
		h.must(r.Learn(1, 1, 1))
		peers, err := dump[peerKey, peerValue](r.obj.Peers)
		h.must(err)
		if p, ok := peers[peerKey{1, 0}]; ok || len(peers) != 1 {
			t.Errorf("%s: node 1 came back: %+v of %d", m, p, len(peers))
		}
		c = rigConfig()
	}
	if got := slices.Collect(maps.Keys(*r.obj.slots.Load())); len(got) != 1 || got[0] != (peerKey{3, 0}) {
		t.Errorf("those have places whom no map has: %v", got)
	}
}

// By node and link, whatever the order of the map.
func TestPeersInOrder(t *testing.T) {
	h := newHost(t)
	r := h.load(Off, 1)
	c := h.config()
	c.Links = append(c.Links, netip.MustParseAddr("10.1.0.2"))
	for _, k := range []peerKey{{3, 1}, {1, 1}, {3, 0}, {1, 0}} {
		c.Peers = append(c.Peers, Peer{Node: membership.NodeID(k.Node), Link: int(k.Link), Addr: peerV4, Rate: 1, Trust: time.Second})
	}
	h.must(r.Configure(c))
	p, err := r.Peers()
	h.must(err)
	for i, want := range []peerKey{{1, 0}, {1, 1}, {3, 0}, {3, 1}} {
		if len(p) != 4 || p[i].Node != membership.NodeID(want.Node) || p[i].Link != int(want.Link) {
			t.Fatalf("%+v", p)
		}
	}
}

// FuzzFrames: whatever comes, only what is authentic is answered, and a frame that
// passes is as it was.
func FuzzFrames(f *testing.F) {
	needKernel(f)
	r := newRig(f)
	for _, x := range []frame{v4(ask(1)), v6(ask(1)), {from: peerV4, to: ownV4, vlan: 1, payload: v4(ask(3)).payload}, {from: peerV4, to: ownV4}} {
		f.Add(x.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 14 || len(b) > 3000 {
			return
		}
		verdict, out := (&rig{r.objects, t}).send(b)
		switch verdict {
		case tx:
			payload := b[max(len(b)-probe.Size, 0):]
			if !probe.Verify(payload, testKey(1)) && !probe.Verify(payload, testKey(2)) {
				t.Errorf("% x was answered", b)
			}
			if !probe.Verify(out[len(out)-probe.Size:], testKey(1)) && !probe.Verify(out[len(out)-probe.Size:], testKey(2)) || len(out) != len(b) {
				t.Errorf("% x got % x", b, out)
			}
		case pass, drop:
			if string(out) != string(b) {
				t.Errorf("% x became % x", b, out)
			}
		default:
			t.Errorf("verdict %d", verdict)
		}
	})
}
