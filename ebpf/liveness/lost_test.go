package liveness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

// inside runs f in a node's network namespace.
func (w *wire) inside(self membership.NodeID, f func(p pins) error) {
	w.t.Helper()
	w.thread(func() error {
		if err := unix.Setns(int(w.ns[self-1].Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f(pinsOf(filepath.Join(w.dir, fmt.Sprint(self)), "story"))
	})
}

// attachment is the number of what is attached for a node, as `bpftool link` has it.
func (w *wire) attachment(self membership.NodeID) (id link.ID) {
	w.t.Helper()
	w.inside(self, func(p pins) error {
		entries, err := os.ReadDir(p.dir)
		for _, e := range entries {
			if _, _, ok := parseLink(e.Name()); !ok {
				continue
			}
			l, err := link.LoadPinnedLink(filepath.Join(p.dir, e.Name()), nil)
			if err != nil {
				return err
			}
			defer l.Close()
			info, err := l.Info()
			if err != nil {
				return err
			}
			id = info.ID
		}
		return err
	})
	return id
}

// detach does what `bpftool link detach id ID` does, in a process that has no other hold of it.
func (w *wire) detach(id link.ID) {
	w.t.Helper()
	l, err := link.NewFromID(id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		w.t.Fatal(err)
	}
}

// replayed is the map of a node's replay windows, and the newest probe in it.
func (w *wire) replayed(self membership.NodeID) (id ebpf.MapID, newest uint64) {
	w.t.Helper()
	w.inside(self, func(p pins) error {
		m, err := ebpf.LoadPinnedMap(filepath.Join(p.maps(), bpfMapStates), nil)
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return err
		}
		id, _ = info.ID()
		var v stateValue
		err = m.Lookup(peerKey{Node: uint32(3 - self)}, &v)
		newest = v.Newest
		return err
	})
	return id, newest
}

// TestStoryTaken: the program is taken from a node's interface under probes, again and again,
// by somebody who knows nothing but its number. It is back within a second, with the maps that
// it had and all that they know; nobody is silent meanwhile, as the daemons answer.
func TestStoryTaken(t *testing.T) {
	for _, want := range []Want{WantGeneric, WantNative} {
		t.Run(string(want), func(t *testing.T) {
			for try := 1; !taken(t, want); try++ {
				if try == 5 {
					t.Skip("this machine does not run its processes often enough to tell that from silence")
				}
			}
		})
	}
}

// taken is false where a node was held up so long that nothing follows.
func taken(t *testing.T, want Want) bool {
	w := newWire(t, wireV4)
	a, b := w.start(1, want, 1, 20), w.start(2, want, 20, 1)
	defer a.kill()
	defer b.kill()
	a.await("node 2's kernel answers", kernelAnswers)
	b.await("node 1's kernel answers", kernelAnswers)
	b.await("its own is pinned", func(s storySay) bool { return len(s.Status) == 1 && s.Status[0].Mode == Mode(want) })
	var gap, late time.Duration
	for n := 1; n <= 5; n++ {
		was, id := b.say(), w.attachment(2)
		states, newest := w.replayed(2)
		at := boottime()
		w.detach(id)
		said := b.await("the loss is noticed", func(s storySay) bool {
			gap = max(gap, s.Now.Sub(s.Sample.Heard))
			return s.Status[0].Lost == n
		})
		late = max(late, said.Status[0].LostAt.Sub(at))
		if said.Status[0].Mode != Mode(want) || said.Status[0].Why != "" {
			t.Errorf("%+v", said.Status)
		}
		if got := w.attachment(2); got == id || got == 0 {
			t.Errorf("attachment %d became %d", id, got)
		}
		kernel := b.await("this kernel answers again", func(s storySay) bool { return s.Counter["answered"] > said.Counter["answered"]+10 })
		for reason, count := range was.Counter {
			if kernel.Counter[reason] < count {
				t.Errorf("%s was counted %d times, and then %d", reason, count, kernel.Counter[reason])
			}
		}
		if id, now := w.replayed(2); id != states || now <= newest {
			t.Errorf("replay windows: map %d, newest %d became %d, %d", states, newest, id, now)
		}
		a.await("its answers are heard", kernelAnswers)
	}
	x, y := a.say(), b.say()
	if max(x.Held, y.Held) > storySilent/4 {
		return false
	}
	t.Logf("noticed after %v at most; the longest silence was %v", late, gap)
	if x.Silent != 0 || gap > storySilent {
		t.Errorf("somebody was taken for silent, for up to %v: %+v, %+v", gap, x, y)
	}
	if late > every+slack/2 {
		t.Errorf("a loss was noticed after %v", late)
	}
	return true
}

// `ip link set dev X xdp off`, and another program, are refused as long as it is there.
func TestXDPOff(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 1)
	was := h.prog("v0")
	for _, flags := range []int{0, unix.XDP_FLAGS_DRV_MODE, unix.XDP_FLAGS_SKB_MODE} {
		if err := netlink.LinkSetXdpFdWithFlags(h.link("v0"), -1, flags); err == nil && flags != unix.XDP_FLAGS_SKB_MODE {
			t.Errorf("flags %d: nobody minds", flags)
		}
		if err := netlink.LinkSetXdpFdWithFlags(h.link("v0"), r.obj.Reflect.FD(), flags); err == nil {
			t.Errorf("flags %d: another one takes its place", flags)
		}
	}
	h.must(r.Maintain())
	if h.mode(r, Native); h.prog("v0") != was || r.Status()[0].Lost != 0 {
		t.Errorf("%+v", r.Status())
	}
}

// Who took it away and put another one there is respected.
func TestTakenForAnother(t *testing.T) {
	h := newHost(t)
	var told []Change
	h.tell = func(c Change) { told = append(told, c) }
	r := h.start(Auto, 1)
	l, err := link.NewFromID(h.linkID(Native))
	h.must(err)
	defer l.Close()
	h.must(l.Detach())
	other := foreign(h)
	h.must(r.Maintain())
	h.must(r.Maintain())
	s := r.Status()[0]
	if s.Mode != None || s.Lost != 1 || s.Why == "" {
		t.Errorf("%+v", s)
	}
	h.must(other.Close())
	h.must(r.Maintain())
	h.mode(r, Native)
	if len(told) != 3 || told[0].Was != None || told[0].Mode != Native || told[0].Taken || told[1].Was != Native || told[1].Mode != None || !told[1].Taken || told[2].Taken || told[2].Mode != Native || told[2].Lost != 1 {
		t.Errorf("%+v", told)
	}
}

// Pins that somebody removes are made again: what answers does so when the daemon has ended,
// and the next one takes it over.
func TestPinsAreMadeAgain(t *testing.T) {
	h := newHost(t)
	a := h.start(Auto, 11)
	h.must(a.Learn(1, 77, 66))
	was := h.prog("v0")
	p := pinsOf(h.root, "a.b")
	for name, path := range map[string]string{"all": h.root, "the maps": p.maps(), "one": filepath.Join(p.maps(), bpfMapSelf), "the attachment": p.link(Native, h.link("v0").Attrs().Index)} {
		h.must(removeAll(path))
		h.must(a.Maintain())
		h.mode(a, Native)
		if s := a.Status()[0]; h.prog("v0") != was || s.Lost != 0 || s.Why != "" {
			t.Errorf("%s: %+v", name, s)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.must(removeAll(h.root))
	h.must(a.Maintain())
	h.must(a.Close())
	if h.prog("v0") != was {
		t.Fatal("nothing answers when the daemon has ended")
	}
	b := h.load(Auto, 22)
	h.must(b.Configure(h.config()))
	h.must(b.Maintain())
	h.mode(b, Native)
	if v := h.peer(b); b.Epoch() != 11 || v.Instance != 77 {
		t.Errorf("epoch %d, %+v", b.Epoch(), v)
	}
	h.must(b.Remove())
}

// So is the file system that they are in mounted again; where that cannot be, what is
// attached answers as before.
func TestTheirFileSystemIsUnmounted(t *testing.T) {
	needKernel(t)
	runtime.LockOSThread() // and never unlocked, as newHost does
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	r := h.start(Auto, 1)
	pin := pinsOf(h.root, "a.b").link(Native, h.link("v0").Attrs().Index)
	h.must(removeAll(h.root)) // others have it mounted still, and nobody comes by here again
	h.must(unix.Unmount(bpfMount, unix.MNT_DETACH))
	h.must(r.Maintain())
	h.mode(r, Native)
	if _, err := os.Stat(pin); err != nil {
		t.Error(err)
	}
	h.must(unix.Unmount(bpfMount, unix.MNT_DETACH))
	h.must(unix.Mount("tmpfs", filepath.Dir(bpfMount), "tmpfs", 0, "")) // it has no folder for that
	if err := r.Maintain(); err == nil {
		t.Error("nobody is told")
	}
	h.mode(r, Native)
	h.must(unix.Unmount(filepath.Dir(bpfMount), unix.MNT_DETACH))
	h.must(r.Maintain())
	h.must(r.Remove())
}

// What somebody does to the maps is undone: else nothing would be answered any more, and the
// interface be blamed for it.
func TestMapsAreFilledAgain(t *testing.T) {
	h := newHost(t)
	r := h.start(Auto, 11)
	h.must(r.Learn(1, 77, 66))
	content := func() (all [3]any) {
		keys, err := dump[uint32, keyValue](r.obj.Keys)
		h.must(err)
		peers, err := dump[peerKey, peerValue](r.obj.Peers)
		h.must(err)
		owns, err := dump[[16]byte, ownValue](r.obj.Owns)
		h.must(err)
		return [3]any{keys, peers, owns}
	}
	was := content()
	one := peerKey{1, 0}
	for name, harm := range map[string]func(){
		"keys": func() {
			for k := range was[0].(map[uint32]keyValue) {
				h.must(r.obj.Keys.Delete(k))
			}
		},
		"no peer": func() { h.must(r.obj.Peers.Delete(one)); h.must(r.obj.States.Delete(one)) },
		"a peer of nobody": func() {
			h.must(r.obj.Peers.Put(peerKey{9, 0}, peerValue{}))
			h.must(r.obj.States.Put(peerKey{9, 0}, newState()))
		},
		"another place": func() {
			v := h.peer(r)
			v.Slot = 1 << 30
			h.must(r.obj.Peers.Put(one, v))
		},
		"another node":  func() { r.obj.self.Node = 9 },
		"another epoch": func() { r.obj.self.Epoch = 9 },
		"addresses": func() {
			for k := range was[2].(map[[16]byte]ownValue) {
				h.must(r.obj.Owns.Delete(k))
			}
		},
	} {
		harm()
		h.must(r.Maintain())
		h.mode(r, Native)
		states, err := r.obj.states()
		h.must(err)
		if now := content(); !reflect.DeepEqual(now, was) || len(states) != 1 || r.obj.self.Node != uint32(h.config().Self) || r.Epoch() != 11 {
			t.Errorf("%s: %+v became %+v, states %+v", name, was, now, states)
		}
	}
}

func TestChanges(t *testing.T) {
	eth := func(m Mode, lost int) []LinkStatus { return []LinkStatus{{Interface: "eth0", Mode: m, Lost: lost}} }
	for _, c := range []struct {
		name     string
		old, now []LinkStatus
		want     []Change
	}{
		{"nothing", nil, nil, nil},
		{"first", nil, eth(Native, 0), []Change{{LinkStatus: eth(Native, 0)[0]}}},
		{"first, and none", nil, eth(None, 0), []Change{{LinkStatus: eth(None, 0)[0]}}},
		{"as before", eth(Native, 2), eth(Native, 2), nil},
		{"none as before", eth(None, 0), eth(None, 0), nil},
		{"taken", eth(Native, 2), eth(Native, 3), []Change{{eth(Native, 3)[0], Native, true}}},
		{"another mode", eth(Native, 2), eth(Generic, 2), []Change{{eth(Generic, 2)[0], Native, false}}},
		{"a new interface", eth(Native, 2), eth(Native, 0), nil},
		{"fewer links", eth(Native, 2), nil, nil},
	} {
		if got := changes(c.old, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
