package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

// uml runs nodes as User-Mode Linux.
type uml struct {
	k    *Kernel
	root string // folder with the root file system
}

func (u *uml) kernel() *Kernel { return u.k }

// prepare makes the program that stands in for User-Mode Linux when it reboots: labnode,
// by the name that it exits for. It is static, as it runs with the kernel's environment,
// which may name a C library that no program of the host's works with.
func (u *uml) prepare(l *Lab) error {
	return os.Symlink(filepath.Join(l.shareDir(), "labnode"), u.standIn(l))
}

func (u *uml) standIn(l *Lab) string { return filepath.Join(l.dir, wire.Reboot+u.k.Name) }

func (u *uml) command(n *Node, nonce string) *exec.Cmd {
	args := []string{
		fmt.Sprintf("mem=%dM", n.mem(u.k)),
		"umid=" + n.Name(), "uml_dir=" + filepath.Join(n.lab.dir, "uml") + "/",
		"rootfstype=hostfs", "rootflags=" + n.lab.shareDir(), "ro", "init=/labnode",
		"con=null", "con0=fd:0,fd:1", "quiet", "net.ifnames=0",
		"pty.legacy_count=0", // 256 old terminals would be a third of the time to boot
		"ubd0c=" + n.lab.SharedDisk(), "ubd1=" + n.StateDisk(),
	}
	if u.k.spec.args != "" {
		args = append(args, u.k.spec.args)
	}
	for d, tap := range n.taps() {
		args = append(args, fmt.Sprintf("vec%d:transport=tap,ifname=%s,depth=128,gro=1,mac=%s", d, tap, mac(n.id, d)))
	}
	args = append(args, n.words(u.root, u.k.path("lib/modules"), nonce)...)
	c := exec.Command(u.k.program(), args...)
	if n.lab.cfg.Systemd {
		// To reboot, User-Mode Linux executes its own name. With the descriptors that it
		// leaves open to itself, its interfaces would not come up.
		c.Args[0] = u.standIn(n.lab)
	}
	c.Dir = u.k.Dir // its loader may be named from there
	// The guest's memory is a file in TMPDIR that must be mappable for execution.
	c.Env = append(os.Environ(), "TMPDIR=/dev/shm")
	if libc := u.k.path("libc"); exists(libc) {
		c.Env = append(c.Env, "LD_LIBRARY_PATH="+libc)
	}
	c.Stdout, c.Stderr = n.console, n.console
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c
}
