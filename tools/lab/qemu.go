package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// qemuProgram needs no KVM: every instruction is emulated.
const qemuProgram = "qemu-system-x86_64"

// qemu runs nodes as emulated PCs with Debian's full kernel.
type qemu struct {
	k    *Kernel
	root string // image of the root file system
}

func (q *qemu) kernel() *Kernel { return q.k }

func (q *qemu) initrd(l *Lab) string { return filepath.Join(l.dir, q.k.Name+".initrd") }

func (q *qemu) prepare(l *Lab) error {
	return initramfs(q.initrd(l), q.k.path("boot.cpio"), l.shareDir())
}

func (q *qemu) command(n *Node, nonce string) *exec.Cmd {
	words := []string{"console=ttyS0", "loglevel=5", "panic=-1", "net.ifnames=0", "mitigations=off", "rdinit=/labnode"}
	words = append(words, n.words("root", "modules", nonce)...)
	args := []string{
		"-name", n.Name(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1", "-m", fmt.Sprint(n.mem(q.k)),
		"-kernel", q.k.program(), "-initrd", q.initrd(n.lab), "-append", strings.Join(words, " "),
		"-chardev", "file,id=console,append=on,path=" + n.ConsoleLog(), "-serial", "chardev:console",
		"-qmp", "unix:" + n.monitor() + ",server=on,wait=off",
	}
	args = append(args, disk("shared", n.lab.SharedDisk(), false)...)
	args = append(args, disk("state", n.StateDisk(), false)...)
	args = append(args, disk("root", q.root, true)...)
	args = append(args, disk("modules", q.k.path("modules.ext4"), true)...)
	for d, tap := range n.taps() {
		args = append(args,
			"-netdev", fmt.Sprintf("tap,id=%s,ifname=%s,script=no,downscript=no,vhost=off", netdev(d), tap),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=%s,mac=%s,romfile=", netdev(d), mac(n.id, d)))
	}
	c := exec.Command(qemuProgram, args...)
	c.Stdout, c.Stderr = n.console, n.console
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c
}

// netdev is the emulator's name of the host's end of a node's d-th interface.
func netdev(d int) string { return fmt.Sprintf("n%d", d) }

// disk is a virtio disk that labnode knows by its serial.
//
// All nodes write to one file of the host, the shared disk, emulated ones and
// User-Mode Linux side by side. That is coherent although no cache is bypassed
// (a tmpfs need not know O_DIRECT): an emulator keeps no data of a raw image, so
// a write is in the host's page cache before the guest hears that it is done,
// and every read of every node is from there. A cache mode only says when the
// emulator calls fsync: as in User-Mode Linux, when the guest says flush.
//
// aio=threads, since the threads are in the node's cgroup: when that is frozen,
// no write is under way. One that the kernel does on behalf of the emulator
// (native or io_uring) might be.
func disk(serial, file string, readonly bool) []string {
	drive := "if=none,format=raw,cache=writeback,aio=threads,file.locking=off,id=" + serial + ",file=" + file
	if readonly {
		drive += ",readonly=on"
	}
	return []string{"-drive", drive, "-device", "virtio-blk-pci,share-rw=on,drive=" + serial + ",serial=" + serial}
}
