package liveness

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// mdContext is struct xdp_md, as BPF_PROG_TEST_RUN takes it.
type mdContext struct{ Data, DataEnd, DataMeta, Ingress, RxQueue, Egress uint32 }

// sendBy is send, of a frame that came in by an interface of this network namespace. That
// of send comes in by loopback, which is interface 1.
func (r *rig) sendBy(index int, b []byte) (verdict uint32) {
	r.t.Helper()
	opt := ebpf.RunOptions{Data: b, DataOut: make([]byte, len(b)+64), Context: mdContext{DataEnd: uint32(len(b)), Ingress: uint32(index)}}
	verdict, err := r.program().Run(&opt)
	if err != nil {
		r.t.Fatal(err)
	}
	if verdict == pass && !bytes.Equal(opt.DataOut, b) {
		r.t.Error("it passed, and was changed")
	}
	return verdict
}

// A probe is answered on the interface that has its address, and the others pass it on as
// it is: their stack, or another interface's program, knows whose it is.
func TestAddressOfAnotherInterface(t *testing.T) {
	h := newHost(t)
	r := newRig(t)
	index := h.link("v0").Attrs().Index
	seq := uint64(1)
	for _, c := range []struct {
		home, by int
		answered bool
	}{{0, index, true}, {0, 1, true}, {index, index, true}, {index, 1, false}, {1, index, false}, {1, 1, true}, {nowhere, index, false}} {
		homes := map[[16]byte]home{}
		for _, a := range rigConfig().Links {
			homes[addrValue(a)] = home{ifindex: uint32(c.home)}
		}
		if err := r.own(rigConfig(), homes); err != nil {
			t.Fatal(err)
		}
		for name, f := range map[string]frame{"IPv4": v4(ask(seq)), "IPv6": v6(ask(seq))} {
			want, counter := uint32(pass), "address"
			if c.answered {
				want, counter = tx, "answered"
			}
			n := r.counts(func() {
				if got := r.sendBy(c.by, f.bytes()); got != want {
					t.Errorf("%s: %+v: verdict %d", name, c, got)
				}
			})
			if n[counter] != 1 {
				t.Errorf("%s: %+v: counted %v", name, c, n)
			}
		}
		seq += 2
	}
}

func (h *host) home(r *Reflector) ownValue {
	h.t.Helper()
	var v ownValue
	h.must(r.obj.Owns.Lookup(addrValue(ownV4.Addr()), &v))
	return v
}

// The program is told where its addresses are, and that one is nowhere. A restarted daemon
// knows it before it has looked.
func TestHomes(t *testing.T) {
	h := newHost(t)
	r := h.start(WantGeneric, 1)
	want := ownValue{Generic: 1, Ifindex: uint32(h.link("v0").Attrs().Index)}
	if got := h.home(r); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	h.must(r.Close())
	r = h.load(WantGeneric, 1)
	h.must(r.Configure(h.config()))
	if got := h.home(r); got != want {
		t.Errorf("restarted: %+v, want %+v", got, want)
	}
	h.address(true, "v0", "10.0.0.2/24")
	h.must(r.Maintain())
	if got := h.home(r); got != (ownValue{Ifindex: nowhere}) {
		t.Errorf("nowhere: %+v", got)
	}
	(&rig{r.obj, t}).refuses(t, v4(ask(1)), pass, "address")
	h.must(r.SetKeys([]probe.Key{testKey(1)}))
	if got := h.home(r); got != (ownValue{Ifindex: nowhere}) {
		t.Errorf("with other keys: %+v", got)
	}
}

// Slaves run a bond's program: what they see is to the bond.
func TestHomeOfManifold(t *testing.T) {
	for _, c := range []struct {
		kind, driver string
		want         home
	}{
		{"device", "ixgbe", home{ifindex: 3}}, {"vlan", "802.1Q VLAN Support", home{ifindex: 3}}, {"veth", "", home{ifindex: 3}},
		{"bond", "bonding", home{}}, {"device", "hv_netvsc", home{}}, {"team", "team", home{ifindex: 3}},
	} {
		if got := (place{index: 3, kind: c.kind}).home(Native, c.driver); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
		c.want = home{ifindex: 3, generic: true}
		if got := (place{index: 3, kind: c.kind}).home(Generic, c.driver); got != c.want {
			t.Errorf("%+v, in the stack: %+v", c, got)
		}
	}
}

// raw is a socket for whole frames of an interface.
func (h *host) raw(name string) (fd int) {
	h.t.Helper()
	all := int(uint16(unix.ETH_P_ALL)>>8 | uint16(unix.ETH_P_ALL)<<8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	h.must(err)
	h.t.Cleanup(func() { _ = unix.Close(fd) })
	h.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: h.link(name).Attrs().Index}))
	h.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	return fd
}

// answers reads how many authentic answers come within a second, until there is one.
func (h *host) answers(fd int) (n int) {
	h.t.Helper()
	b := make([]byte, 2048)
	for began := time.Now(); n == 0 && time.Since(began) < time.Second; {
		got, from, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		h.must(err)
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING || got < probe.Size {
			continue
		}
		if p, err := probe.Parse(b[got-probe.Size : got]); err == nil && p.Type == probe.TypeReply {
			n++
		}
	}
	return n
}

// An interface and a VLAN above it are two networks, though a device that takes the tag off
// shows the frames of one to the program of the other: each is answered on its own.
func TestVLANAboveAnAddress(t *testing.T) {
	h := newHost(t)
	vlan := func(on, name, addr string) {
		t.Helper()
		a := netlink.NewLinkAttrs()
		a.Name, a.ParentIndex = name, h.link(on).Attrs().Index
		if err := netlink.LinkAdd(&netlink.Vlan{LinkAttrs: a, VlanId: 7}); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this kernel has no VLANs (8021q): ", err)
		} else {
			h.must(err)
		}
		h.must(netlink.LinkSetUp(h.link(name)))
		if addr != "" {
			h.address(false, name, addr)
		}
	}
	h.address(true, "v0", "10.0.0.2/24")
	h.address(false, "v0", "10.1.0.2/24")
	h.must(netlink.LinkSetUp(h.link("v0p")))
	vlan("v0", "v0.7", "10.0.0.2/24") // link 0, where node 1 asks
	vlan("v0p", "v0p.7", "")
	r := h.load(Auto, rigEpoch)
	c := rigConfig()
	c.Links[1] = netip.MustParseAddr("10.1.0.2")
	c.Peers = []Peer{c.Peers[0], {Node: 1, Link: 1, Addr: netip.MustParseAddrPort("10.1.0.1:21061"), Rate: 200, Trust: time.Hour}}
	h.must(r.Configure(c))
	h.must(r.Learn(1, rigProber, rigPeerEpoch))
	h.must(r.Maintain())
	s := r.Status()
	if s[0].Interface != "v0.7" || s[0].Parent != "v0" || s[0].Mode != Generic || s[1].Interface != "v0" || s[1].Parent != "" || s[1].Mode != Native {
		t.Fatalf("%+v", s)
	}
	below, above := h.raw("v0p"), h.raw("v0p.7")
	prog := &rig{r.obj, t}
	for seq := uint64(1); seq <= 6; seq++ { // the even ones are the daemon's until answers are known to arrive
		n := prog.counts(func() {
			_, err := unix.Write(above, v4(ask(seq)).bytes())
			h.must(err)
			if got := h.answers(above); got != int(seq%2) {
				t.Errorf("probe %d on the VLAN: %d answers", seq, got)
			}
		})
		want := "answered"
		if seq%2 == 0 {
			want = "trial"
		}
		if n["address"] != 1 || n[want] != 1 || n["replay"] != 0 {
			t.Errorf("probe %d on the VLAN: counted %v", seq, n)
		}
	}
	q := ask(1)
	q.Link = 1
	f := frame{from: netip.MustParseAddrPort("10.1.0.1:21061"), to: netip.MustParseAddrPort("10.1.0.2:21061"), payload: marshal(q, testKey(1))}
	n := prog.counts(func() {
		_, err := unix.Write(below, f.bytes())
		h.must(err)
		prog.until("answered") // which is lost: the other end has no program
	})
	if n["answered"] != 1 || n["address"] != 0 {
		t.Errorf("a probe below the VLAN: counted %v", n)
	}
	peers, err := r.Peers()
	h.must(err)
	if len(peers) != 2 || peers[0].Answers != 3 || peers[1].Answers != 1 || peers[0].Node != membership.NodeID(1) {
		t.Errorf("%+v", peers)
	}
}

// What is for a bond comes in by its slaves, which run its program.
func TestBond(t *testing.T) {
	h := newHost(t)
	h.must(netlink.LinkSetUp(h.link("v0p")))
	h.must(netlink.LinkSetDown(h.link("v0")))
	h.address(true, "v0", "10.0.0.2/24")
	a := netlink.NewLinkAttrs()
	a.Name = "bond"
	bond := netlink.NewLinkBond(a)
	bond.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
	if err := netlink.LinkAdd(bond); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no bonds: ", err)
	} else {
		h.must(err)
	}
	h.must(netlink.LinkSetMaster(h.link("v0"), h.link("bond")))
	h.must(netlink.LinkSetUp(h.link("v0")))
	h.must(netlink.LinkSetUp(h.link("bond")))
	h.address(false, "bond", "10.0.0.2/24")
	for _, want := range []Want{WantNative, WantGeneric} {
		r := h.start(want, rigEpoch)
		if s := r.Status()[0]; s.Mode != Mode(want) || s.Interface != "bond" {
			t.Fatalf("%+v", s)
		}
		prog := &rig{r.obj, t}
		n := prog.counts(func() {
			_, err := unix.Write(h.raw("v0p"), v4(ask(1)).bytes())
			h.must(err)
			prog.until("answered")
		})
		if n["answered"] != 1 || n["address"] != 0 {
			t.Errorf("%s: counted %v", want, n)
		}
		h.must(r.Remove())
	}
}
