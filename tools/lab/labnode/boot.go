package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// enterRoot makes the host's root file system the node's, under a writable layer,
// with the lab's folder (the root so far) at shareDir. No program is run for it:
// in an emulated kernel each costs a tenth of a second.
func enterRoot(p params) error {
	const root, lower, trees = "/mnt/root", "/mnt/lower", "/mnt/trees"
	if err := unix.Mount("layer", "/mnt", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	up, work, err := p.layer("/mnt")
	if err != nil {
		return err
	}
	for _, d := range []string{root, lower, trees, up + shareDir, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(p.mountFromHost(p.root, lower), p.mountFromHost(p.trees, trees)); err != nil {
		return err
	}
	if !p.emulated() {
		if err := loadFrom(trees, "overlay"); err != nil {
			return err
		}
	}
	layers := "lowerdir=" + lower + ",upperdir=" + up + ",workdir=" + work
	if err := unix.Mount("root", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return errors.Join(
		unix.Mount("/", root+shareDir, "", unix.MS_BIND, ""),
		unix.Mount(trees, root+moduleDir, "", unix.MS_MOVE, ""),
		unix.Mount("/proc", root+"/proc", "", unix.MS_MOVE, ""),
		os.Chdir(root),
		unix.Mount(".", "/", "", unix.MS_MOVE, ""),
		unix.Chroot("."), os.Chdir("/"))
}

// layer is where the writable layer of the root is, below at: in memory, or with
// systemd on the node's own disk, so that what is installed stays installed.
func (p params) layer(at string) (up, work string, err error) {
	if !p.systemd {
		return at + "/up", at + "/work", nil
	}
	dev, err := p.stateNumber()
	if err != nil {
		return "", "", err
	}
	disk, own := at+"/state", at+"/own"
	err = errors.Join(unix.Mknod(disk, unix.S_IFBLK|0o600, int(dev)), os.Mkdir(own, 0o755))
	if err == nil {
		err = unix.Mount(disk, own, "ext4", 0, "")
	}
	if err != nil {
		return "", "", fmt.Errorf("the node's own disk: %w", err)
	}
	return own + "/up", own + "/work", nil
}

// mountFromHost mounts a folder of the host, or the disk with that serial.
func (p params) mountFromHost(from, at string) error {
	if !p.emulated() {
		if err := unix.Mount("host", at, "hostfs", unix.MS_RDONLY, from); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		return nil
	}
	dev, err := diskNumber(from)
	if err != nil {
		return err
	}
	node := "/dev/" + from
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(dev)); err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	if err := unix.Mount(node, at, "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("disk %s: %w", from, err)
	}
	return nil
}

// moduleDir is where the modules of all kernels are, in the root of a node.
const moduleDir = "/usr/lib/modules"

// loadModule loads a kernel module and what it needs.
func loadModule(name string) error { return loadFrom(moduleDir, name) }

func loadFrom(trees, name string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir := filepath.Join(trees, unix.ByteSliceToString(u.Release[:]))
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	defer f.Close()
	files := moduleFiles(bufio.NewScanner(f), name)
	if len(files) == 0 {
		return fmt.Errorf("no module %s in %s", name, dir)
	}
	for _, m := range files {
		if err := insert(filepath.Join(dir, m)); err != nil {
			return fmt.Errorf("module %s: %w", m, err)
		}
	}
	return nil
}

// moduleFiles finds a module in modules.dep. What it needs comes first.
func moduleFiles(dep *bufio.Scanner, name string) (files []string) {
	for dep.Scan() {
		file, needs, _ := strings.Cut(dep.Text(), ":")
		base := strings.TrimSuffix(filepath.Base(file), ".ko")
		if strings.ReplaceAll(base, "-", "_") != strings.ReplaceAll(name, "-", "_") {
			continue
		}
		for need := range strings.FieldsSeq(needs) {
			files = append([]string{need}, files...)
		}
		return append(files, file)
	}
	return nil
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// network gives the first interface the first cluster link, the second the
// management network and the others the further cluster links.
func network(p params) error {
	if err := ifUp("lo", [4]byte{127, 0, 0, 1}, [4]byte{255}); err != nil {
		return err
	}
	mask := [4]byte{255, 255, 255, 0}
	for i, a := range p.addrs() {
		if p.systemd && i != management {
			continue // those are ifupdown's
		}
		if err := ifUp(p.interfaceName(i), a, mask); err != nil {
			return err
		}
	}
	return nil
}

// addrs are the addresses of the node's interfaces, in their order.
func (p params) addrs() [][4]byte {
	host := byte(10 + p.node)
	addrs := [][4]byte{{10, 77, 0, host}, {10, 78, 0, host}}
	for l := 1; l < p.links; l++ {
		addrs = append(addrs, [4]byte{10, 77, byte(l), host})
	}
	return addrs
}

// management is the number of the interface to the management network.
const management = 1

func (p params) interfaceName(i int) string {
	if p.emulated() {
		return fmt.Sprint("eth", i)
	}
	return fmt.Sprint("vec", i)
}

func ifUp(name string, addr, mask [4]byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	set := func(what uint, a [4]byte) {
		if err == nil {
			if err = ifr.SetInet4Addr(a[:]); err == nil {
				err = unix.IoctlIfreq(s, what, ifr)
			}
		}
	}
	set(unix.SIOCSIFADDR, addr)
	set(unix.SIOCSIFNETMASK, mask)
	if err == nil {
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}
