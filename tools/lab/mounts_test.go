package lab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountsBeneath(t *testing.T) {
	const info = `22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:22 / /c/root.new/root/dev rw shared:2 - devtmpfs udev rw
31 30 0:23 / /c/root.new/root/dev/pts rw shared:3 - devpts devpts rw
32 22 0:24 / /c/root.newer rw - tmpfs tmpfs rw
33 22 0:25 / /c/root.new/a\040b\134c rw - tmpfs tmpfs rw
34 22 0:26 / /c rw - tmpfs tmpfs rw
35 22 0:27 / /c/root.new rw - tmpfs tmpfs rw
36 22 0:28 / /c/root.new/root/dev rw - tmpfs tmpfs rw
short
`
	want := []string{"/c/root.new/root/dev/pts", "/c/root.new/root/dev", "/c/root.new/root/dev", `/c/root.new/a b\c`, "/c/root.new"}
	if got := mountsBeneath(info, "/c/root.new"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for in, want := range map[string]string{`a\04`: `a\04`, `a\999b`: `a\999b`, `\040`: " ", "": ""} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// mountAt mounts something for a test; without the right to, the test is skipped.
func mountAt(t *testing.T, source, dir, kind string, flags uintptr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, dir, kind, flags, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
	})
}

func touch(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.WriteFile(n, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// leftBehind makes what a killed build leaves: the host's folders mounted in the one that
// is to be removed, and a file system that cannot be written.
func leftBehind(t *testing.T, tmp string) (devices []string) {
	t.Helper()
	host := filepath.Join(t.TempDir(), "a b")
	mountAt(t, "tmpfs", host, "tmpfs", 0)
	if err := unix.Mount("", host, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	mountAt(t, "tmpfs", filepath.Join(host, "pts"), "tmpfs", 0)
	devices = []string{filepath.Join(host, "null"), filepath.Join(host, "pts", "ptmx")}
	touch(t, devices...)
	dev := filepath.Join(tmp, "root", "dev")
	mountAt(t, host, dev, "", unix.MS_BIND|unix.MS_REC)
	proc := filepath.Join(tmp, "root", "proc")
	mountAt(t, "tmpfs", proc, "tmpfs", 0)
	mountAt(t, "tmpfs", filepath.Join(proc, "hidden"), "tmpfs", 0)
	mountAt(t, "tmpfs", proc, "tmpfs", 0) // above the other
	touch(t, filepath.Join(proc, "fs"))
	if err := unix.Mount("", proc, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return devices
}

// A build that was killed left mounts: they go, and what they show stays where it is.
func TestWholeAfterAKilledBuild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root-1")
	tmp := dir + ".new"
	devices := leftBehind(t, tmp)
	stay := func() {
		t.Helper()
		for _, d := range devices {
			if !exists(d) {
				t.Errorf("%s is gone", d)
			}
		}
	}
	err := whole(dir, func(got string) error {
		es, err := os.ReadDir(got)
		if got != tmp || len(es) != 0 || err != nil {
			t.Errorf("%s: %v, %v", got, es, err)
		}
		devices = append(devices, leftBehind(t, got)...)
		return os.ErrDeadlineExceeded
	})
	if err != os.ErrDeadlineExceeded || exists(tmp) {
		t.Errorf("a build that failed: %v", err)
	}
	stay()
	err = whole(dir, func(tmp string) error { touch(t, filepath.Join(tmp, "ready")); return nil })
	if err != nil || !exists(filepath.Join(dir, "ready")) || exists(tmp) {
		t.Errorf("a build that went well: %v", err)
	}
	stay()
}

// What stays mounted is named, and nothing beneath it is touched.
func TestDetachThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root.new")
	devices := leftBehind(t, dir)
	tries := 0
	err := detach(dir, func(string, int) error { tries++; return unix.EPERM })
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), `pts is mounted in `) || tries == 0 {
		t.Errorf("%d tries: %v", tries, err)
	}
	for _, d := range devices {
		if !exists(d) {
			t.Errorf("%s is gone", d)
		}
	}
	if err := detach(filepath.Join(dir, "not", "there"), nil); err != nil {
		t.Error(err)
	}
}
