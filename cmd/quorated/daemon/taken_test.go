package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/cmd/quorated/control"
	xdp "github.com/quorate/quorate/ebpf/liveness"
	"github.com/quorate/quorate/membership"
)

// bpf is the system call of that name.
func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (uintptr, error) {
	r, _, e := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
	if e != 0 {
		return 0, os.NewSyscallError("bpf", e)
	}
	return r, nil
}

// detach does what `bpftool link detach pinned PATH` does.
func detach(path string) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	get := struct {
		path        unsafe.Pointer
		fd, flags   uint32
		unused, end uint32
	}{path: unsafe.Pointer(name)}
	fd, err := bpf(unix.BPF_OBJ_GET, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(int(fd)) }()
	link := uint32(fd)
	_, err = bpf(unix.BPF_LINK_DETACH, unsafe.Pointer(&link), unsafe.Sizeof(link))
	return err
}

// pinnedWired are nodes whose kernels answer from the stack.
func pinnedWired(t *testing.T, nodes int) (y *wired, root string) {
	t.Helper()
	root = needPins(t)
	t.Cleanup(func() {
		if out, err := exec.Command("rm", "-rf", root).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Setenv(asPins, root)
	y = newWired(t, nodes, `reflector = "generic"`)
	y.calm()
	return y, root
}

// reflecting waits until what answers on both links of a node is as expected.
func (y *wired) reflecting(id membership.NodeID, what string, is func(control.Reflector) bool) {
	y.t.Helper()
	var last control.Response
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		r, err := y.ask(id, control.Request{Command: "links"})
		if last = r; err == nil && len(r.Links.Reflectors) == 2 && !slices.ContainsFunc(r.Links.Reflectors, func(x control.Reflector) bool { return !is(x) }) {
			return
		}
	}
	y.t.Fatalf("node %d: not seen: %s: %+v", id, what, last.Links)
}

// TestReflectorIsTaken: somebody takes the program from all interfaces of all nodes at once,
// three times. Each node says so and attaches it again, and nobody is suspected.
func TestReflectorIsTaken(t *testing.T) {
	y, root := pinnedWired(t, 3)
	before := y.calm()
	for n := 1; n <= 3; n++ {
		for id := range y.procs {
			y.reflecting(id, "the kernel answers", func(x control.Reflector) bool { return x.Mode == "generic" && x.Taken == n-1 })
		}
		all, err := filepath.Glob(filepath.Join(root, "tank@*", "generic-*"))
		if err != nil || len(all) != 6 {
			t.Fatalf("%v, %v", all, err)
		}
		for _, path := range all {
			if err := detach(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for id := range y.procs {
		y.reflecting(id, "the kernel answers again", func(x control.Reflector) bool { return x.Mode == "generic" && x.Taken == 3 && x.Why == "" })
		s := y.until(id, "it is noted", func(s control.Status) bool {
			return slices.ContainsFunc(s.Notes, func(n string) bool {
				return strings.Contains(n, "(eth1): somebody takes the program that answers probes")
			})
		})
		if s.Level != control.OK || s.View != before.View || s.Leader != before.Leader {
			t.Errorf("node %d: %+v", id, s)
		}
		texts := map[string]int{}
		for _, e := range y.told(id, membership.KindReflector) {
			texts[e.Text]++
		}
		for _, link := range []string{"link 0 (eth0)", "link 1 (eth1)"} {
			if got := texts[link+": the program that answers probes was taken from its interface; it is attached again, generic"]; got != 3 || texts[link+": the kernel answers probes, generic"] != 1 {
				t.Errorf("node %d told: %v", id, texts)
			}
		}
		if y.pauses(id) > 0 {
			t.Logf("node %d stood still", id)
		} else if more := y.told(id, membership.KindSuspect, membership.KindConvicted, membership.KindEvicted); len(more) > 0 {
			t.Errorf("node %d told: %+v", id, more)
		}
	}
}

func TestReflectorText(t *testing.T) {
	eth := func(m xdp.Mode, why string) xdp.LinkStatus {
		return xdp.LinkStatus{Link: 1, Interface: "eth1", Mode: m, Why: why}
	}
	for _, c := range []struct {
		change xdp.Change
		want   string
	}{
		{xdp.Change{LinkStatus: eth(xdp.Native, "")}, "link 1 (eth1): the kernel answers probes, native"},
		{xdp.Change{LinkStatus: eth(xdp.Generic, "native: x"), Was: xdp.Native}, "link 1 (eth1): the kernel answers probes, generic: native: x"},
		{xdp.Change{LinkStatus: eth(xdp.None, "x")}, "link 1 (eth1): the daemon answers probes: x"},
		{xdp.Change{LinkStatus: xdp.LinkStatus{Link: 2, Why: "no interface has the address"}}, "link 2: the daemon answers probes: no interface has the address"},
		{xdp.Change{LinkStatus: eth(xdp.Native, ""), Was: xdp.Native, Taken: true}, "link 1 (eth1): the program that answers probes was taken from its interface; it is attached again, native"},
		{xdp.Change{LinkStatus: eth(xdp.None, "x"), Was: xdp.Native, Taken: true}, "link 1 (eth1): the program that answers probes was taken from its interface; the daemon answers: x"},
	} {
		if got := reflectorText(c.change); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
