package dlm

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func uevent(parts ...string) []byte { return []byte(strings.Join(parts, "\x00") + "\x00") }

func TestParseUevent(t *testing.T) {
	b := uevent("online@/kernel/dlm/gfs", "ACTION=online", "DEVPATH=/kernel/dlm/gfs", "SUBSYSTEM=dlm", "LOCKSPACE=gfs", "SEQNUM=7")
	u, err := ParseUevent(b)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := u.event().(Online); !ok || e.Lockspace != "gfs" {
		t.Errorf("event %#v", u.event())
	}
	for name, b := range map[string][]byte{
		"empty": nil, "no end": b[:len(b)-1], "long": append(make([]byte, maxUevent), 0),
		"no variable": uevent("add@/x", "ACTION=add", "DEVPATH=/x", "junk"),
		"no key":      uevent("add@/x", "ACTION=add", "DEVPATH=/x", "=v"),
		"header lies": uevent("online@/x", "ACTION=offline", "DEVPATH=/x"),
		"udev's own":  uevent("libudev", "\xfe\xed\xca\xfe"),
	} {
		if _, err := ParseUevent(b); !errors.Is(err, ErrParse) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// LOCKSPACE is the kernel's own last word; what a writer of `uevent` in sysfs
// could add stands before it.
func TestUeventEvents(t *testing.T) {
	for want, env := range map[Event][]string{
		Offline{Lockspace: "gfs", ReleaseRecover: true}: {"offline", "SUBSYSTEM=dlm", "RELEASE_RECOVER=1", "LOCKSPACE=gfs"},
		Offline{Lockspace: "gfs"}:                       {"offline", "SUBSYSTEM=dlm", "RELEASE_RECOVER=0", "LOCKSPACE=gfs"},
		Added{Lockspace: "a/b"}:                         {"add", "SUBSYSTEM=dlm", "LOCKSPACE=x", "LOCKSPACE=a/b"},
		Removed{Lockspace: "gfs"}:                       {"remove", "SUBSYSTEM=dlm", "LOCKSPACE=gfs"},
		Journal{Table: "dir", JID: 1}:                   {"change", "SUBSYSTEM=gfs2", "JID=1", "RECOVERY=Failed"},
		Mounted{Table: "lab:x", JID: -1}:                {"online", "SUBSYSTEM=gfs2", "LOCKTABLE=lab:x"},
	} {
		parts := append([]string{env[0] + "@/fs/gfs2/dir", "ACTION=" + env[0], "DEVPATH=/fs/gfs2/dir"}, env[1:]...)
		u, err := ParseUevent(uevent(parts...))
		if err != nil {
			t.Fatal(err)
		}
		if got := u.event(); got != want {
			t.Errorf("%v: %#v, want %#v", env, got, want)
		}
	}
	for _, env := range [][]string{
		{"online", "SUBSYSTEM=dlm"}, {"bind", "SUBSYSTEM=dlm", "LOCKSPACE=x"}, {"add", "SUBSYSTEM=misc"}, {"change", "SUBSYSTEM=gfs2"}, {"bind", "SUBSYSTEM=gfs2"},
	} {
		u, err := ParseUevent(uevent(append([]string{env[0] + "@/d", "ACTION=" + env[0], "DEVPATH=/d"}, env[1:]...)...))
		if err != nil {
			t.Fatal(err)
		}
		if e := u.event(); e != nil {
			t.Errorf("%v: %#v", env, e)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for text, want := range map[string]uint32{"ff\n": 0xff, "55\n": 0x55, "0\n": 0} {
		if got, err := ParseStatus([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %#x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0x40", "-1", "123456789"} {
		if _, err := ParseStatus([]byte(text)); !errors.Is(err, ErrParse) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseMisc(t *testing.T) {
	text := []byte(" 58 dlm_plock\n 59 dlm-monitor\nx bad\n")
	if n, err := ParseMisc(text, "dlm-monitor"); err != nil || n != 59 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ParseMisc(text, "bad"); !errors.Is(err, ErrParse) {
		t.Error(err)
	}
	if _, err := ParseMisc(text, "dlm-control"); !errors.Is(err, ErrModule) {
		t.Error(err)
	}
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	misc := filepath.Join(dir, "misc")
	r := realDevices{dir: dir, misc: misc}
	if _, err := r.Monitor(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(misc, []byte("1 other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Plock(); !errors.Is(err, ErrModule) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dlm-monitor"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := r.Monitor()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestPlockRefusal(t *testing.T) {
	op := func(kind, flags byte) []byte {
		b := make([]byte, plockLen)
		binary.NativeEndian.PutUint32(b, 1)
		b[plockOp], b[plockFlags], b[40] = kind, flags, 9
		return b
	}
	for kind, want := range map[byte]syscall.Errno{1: syscall.ENOSYS, 2: syscall.ENOSYS, 3: syscall.ENOSYS, 4: syscall.ENOENT} {
		reply, ok := PlockRefusal(op(kind, 0))
		if got := syscall.Errno(-int32(binary.NativeEndian.Uint32(reply[plockResult:]))); !ok || got != want || reply[40] != 9 {
			t.Errorf("op %d: %v, %v", kind, got, ok)
		}
	}
	if _, ok := PlockRefusal(op(2, flagClose)); ok {
		t.Error("an unlock by close was answered")
	}
	if _, ok := PlockRefusal(make([]byte, plockLen)); ok {
		t.Error("another version was answered")
	}
}

// diagMessage is an inet_diag_msg.
func diagMessage(family, state byte, to netip.AddrPort) []byte {
	b := make([]byte, diagMsgLen)
	b[0], b[1] = family, state
	binary.BigEndian.PutUint16(b[6:], to.Port())
	copy(b[24:], to.Addr().AsSlice())
	return b
}

func TestParseDiag(t *testing.T) {
	for _, s := range []string{"10.0.0.2:21064", "[fd00::2]:21064"} {
		to := netip.MustParseAddrPort(s)
		family := byte(unix.AF_INET)
		if to.Addr().Is6() {
			family = unix.AF_INET6
		}
		_, got, state, ok := ParseDiag(diagMessage(family, tcpSynSent, to))
		if !ok || got != to || state != tcpSynSent {
			t.Errorf("%s: %s, %d, %v", to, got, state, ok)
		}
	}
	if _, _, _, ok := ParseDiag(make([]byte, diagMsgLen)); ok {
		t.Error("no family")
	}
	if _, _, _, ok := ParseDiag(make([]byte, diagMsgLen-1)); ok {
		t.Error("short")
	}
}

func netlinkMessage(kind uint16, body []byte) []byte {
	b := make([]byte, nlHeader, nlHeader+len(body))
	binary.NativeEndian.PutUint32(b, uint32(nlHeader+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	return append(b, body...)
}

func TestWalkNetlink(t *testing.T) {
	data := netlinkMessage(sockDiagByFamily, make([]byte, diagMsgLen))
	n := 0
	count := func([]byte) { n++ }
	if done, err := walkNetlink(append(append(data, data...), netlinkMessage(unix.NLMSG_DONE, nil)...), count); !done || err != nil || n != 2 {
		t.Errorf("%v, %v, %d", done, err, n)
	}
	if done, err := walkNetlink(data, count); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	errno := func(e syscall.Errno) []byte {
		return netlinkMessage(unix.NLMSG_ERROR, binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))))
	}
	if done, err := walkNetlink(errno(unix.EOPNOTSUPP), nil); !done || !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("%v, %v", done, err)
	}
	if done, err := walkNetlink(errno(0), nil); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	for _, b := range [][]byte{netlinkMessage(unix.NLMSG_ERROR, nil), append([]byte{200}, make([]byte, 15)...)} {
		if done, err := walkNetlink(b, nil); !done || !errors.Is(err, ErrParse) {
			t.Errorf("%v, %v", done, err)
		}
	}
}

func TestQueueLimit(t *testing.T) {
	w := newWorkers()
	gate := make(chan struct{})
	for range queueLimit {
		if err := w.post("k", "wait", func() { <-gate }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.post("k", "one more", func() {}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	ran := make(chan struct{})
	w.must("k", "what the kernel said", func() { close(ran) })
	if w.join(1) {
		t.Error("joined with work to do")
	}
	close(gate)
	<-ran
	w.close()
	if !w.join(closeLimit) || len(w.busy()) != 0 {
		t.Error("not empty")
	}
	if err := w.post("k", "late", func() {}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add(uevent("online@/kernel/dlm/gfs", "ACTION=online", "DEVPATH=/kernel/dlm/gfs", "SUBSYSTEM=dlm", "LOCKSPACE=gfs"))
	f.Add(uevent("change@/fs/gfs2/a:b", "ACTION=change", "DEVPATH=/fs/gfs2/a:b", "SUBSYSTEM=gfs2", "JID=1", "RECOVERY=Done"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := ParseUevent(b)
		if err != nil {
			return
		}
		if u.Action == "" || u.Env["ACTION"] != u.Action {
			t.Fatal("no action")
		}
		_ = u.event()
	})
}

func FuzzSockDiag(f *testing.F) {
	f.Add(netlinkMessage(sockDiagByFamily, diagMessage(unix.AF_INET, tcpSynSent, netip.MustParseAddrPort("10.0.0.2:21064"))))
	f.Add(netlinkMessage(unix.NLMSG_ERROR, make([]byte, 4)))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = walkNetlink(b, func(m []byte) { ParseDiag(m) })
	})
}

func FuzzPlockRefusal(f *testing.F) {
	f.Add(make([]byte, plockLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if reply, ok := PlockRefusal(b); ok && len(reply) != plockLen {
			t.Fatal("the answer has another length")
		}
	})
}
