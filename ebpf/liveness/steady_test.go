package liveness

import (
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What attaches and detaches may take a link down: none of what follows does.

// steady checks that it is the same program, by the same attachment.
func (h *host) steady(f func()) {
	h.t.Helper()
	was, at := h.prog("v0"), h.linkID(Native)
	f()
	if id := h.prog("v0"); id != was || id == 0 {
		h.t.Fatalf("program %d became %d", was, id)
	}
	if id := h.linkID(Native); id != at {
		h.t.Fatalf("attachment %d became %d", at, id)
	}
}

func (h *host) address(del bool, name, addr string) {
	h.t.Helper()
	ip, err := netlink.ParseAddr(addr)
	h.must(err)
	change := netlink.AddrAdd
	if del {
		change = netlink.AddrDel
	}
	h.must(change(h.link(name), ip))
}

// A kernel that cannot be asked says nothing of what is there.
func TestInterfaceCannotBeAskedFor(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	h.steady(func() {
		for _, err := range []error{unix.EMFILE, unix.ENOBUFS} {
			r.opt.linkByIndex = func(int) (netlink.Link, error) { return nil, err }
			if err := r.Maintain(); err == nil {
				t.Error("nobody is told")
			}
			h.mode(r, Native)
		}
		h.address(true, "v0", "10.0.0.2/24")
		r.ifaces[h.link("v0").Attrs().Index].missed = 1
		if err := r.Maintain(); err == nil {
			t.Error("nobody is told")
		}
		h.address(false, "v0", "10.0.0.2/24")
	})
	r.opt.linkByIndex = netlink.LinkByIndex
	h.must(r.Maintain())
	h.mode(r, Native)
}

// An address that is missing for a moment.
func TestAddressIsMissing(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	i := r.ifaces[h.link("v0").Attrs().Index]
	i.faults[Generic] = fault{"kept", never}
	h.steady(func() {
		for range 2 {
			h.address(true, "v0", "10.0.0.2/24")
			h.must(r.Maintain())
			h.must(r.Maintain())
			if s := r.Status()[0]; s.Mode != None || s.Why != "no interface has the address" {
				t.Errorf("%+v", s)
			}
			h.address(false, "v0", "10.0.0.2/24")
			h.must(r.Maintain())
			h.mode(r, Native)
		}
	})
	h.address(true, "v0", "10.0.0.2/24")
	h.must(r.Maintain())
	i.missed = boottime().Add(-absence)
	h.must(r.Maintain())
	if id := h.prog("v0"); id != 0 {
		t.Errorf("program %d stayed", id)
	}
	h.address(false, "v0", "10.0.0.2/24")
	h.must(r.Maintain())
	h.mode(r, Native)
	if got := r.ifaces[i.index].faults[Generic].why; got != "kept" {
		t.Errorf("what was tried is forgotten: %q", got)
	}
}

// An address that is on another interface is not missing.
func TestAddressHasMoved(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	h.address(true, "v0", "10.0.0.2/24")
	h.veth("v1", "10.0.0.2/24")
	h.must(r.Maintain())
	if s := r.Status()[0]; s.Interface != "v1" || s.Mode != Native || h.prog("v0") != 0 || h.prog("v1") == 0 {
		t.Errorf("%+v, programs %d and %d", s, h.prog("v0"), h.prog("v1"))
	}
	h.must(netlink.LinkDel(h.link("v0")))
	h.must(r.Maintain())
	if len(r.ifaces) != 1 {
		t.Errorf("%d interfaces", len(r.ifaces))
	}
}

// So does a restarted daemon wait that finds an interface without its address.
func TestAddressIsMissingAtStart(t *testing.T) {
	h := newHost(t)
	h.must(h.start(Auto, 1).Close())
	at := h.linkID(Native)
	h.address(true, "v0", "10.0.0.2/24")
	r := h.start(Auto, 1)
	if id := h.linkID(Native); id != at {
		t.Errorf("attachment %d became %d", at, id)
	}
	h.address(false, "v0", "10.0.0.2/24")
	h.must(r.Maintain())
	if h.mode(r, Native); h.linkID(Native) != at {
		t.Errorf("attachment %d became %d", at, h.linkID(Native))
	}
}

// mute is an attachment of which the kernel says nothing.
type mute struct {
	link.Link
	err error
}

func (m mute) Info() (*link.Info, error) { return nil, m.err }

// An attachment that cannot be asked for is none that was taken.
func TestAttachmentCannotBeAskedFor(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	i := r.ifaces[h.link("v0").Attrs().Index]
	is := i.att
	h.steady(func() {
		i.att = mute{is, unix.EMFILE}
		h.must(r.Maintain())
		if i.lost != 0 {
			t.Errorf("lost %d times", i.lost)
		}
		h.mode(r, Native)
	})
	i.att = is
}

// Peers hear the daemon alone while the address is away: that says nothing of the program.
func TestNobodyHearsWhatHasNoAddress(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	r.ifaces[h.link("v0").Attrs().Index].since = 1
	h.steady(func() {
		h.address(true, "v0", "10.0.0.2/24")
		h.must(r.Maintain())
		h.address(false, "v0", "10.0.0.2/24")
		s := newState()
		s.AckedUser = uint64(boottime())
		h.must(r.obj.States.Put(peerKey{1, 0}, s))
		h.must(r.Maintain())
		h.mode(r, Native)
	})
}
