package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// backend makes the process that is a node. The lab does the rest the same way
// for all of them: networks, disks, cgroups, and labnode inside.
type backend interface {
	version() string
	command(n *Node, nonce string) *exec.Cmd
}

// uml runs nodes as User-Mode Linux.
type uml struct{ img *Image }

func (u *uml) version() string { return u.img.Kernel }

func (u *uml) command(n *Node, nonce string) *exec.Cmd {
	cfg := &n.lab.cfg
	args := []string{
		fmt.Sprintf("mem=%dM", cfg.Mem),
		"umid=" + n.Name(), "uml_dir=" + filepath.Join(n.lab.dir, "uml") + "/",
		"rootfstype=hostfs", "rootflags=" + n.lab.shareDir(), "ro", "init=/labnode",
		"con=null", "con0=fd:0,fd:1", "quiet", "net.ifnames=0",
		"pty.legacy_count=0", // 256 old terminals would be a third of the time to boot
		"ubd0c=" + n.lab.SharedDisk(), "ubd1=" + n.StateDisk(),
		vec(0, linkTap(n.id, 0), n.id), vec(1, mgmtTap(n.id), n.id),
	}
	for l := 1; l < cfg.Links; l++ {
		args = append(args, vec(1+l, linkTap(n.id, l), n.id))
	}
	args = append(args, cfg.Append...)
	args = append(args, "lab.root="+u.img.Root, "lab.nonce="+nonce,
		fmt.Sprintf("lab.node=%d", n.id), fmt.Sprintf("lab.nodes=%d", cfg.Nodes),
		fmt.Sprintf("lab.links=%d", cfg.Links), "lab.modules="+strings.Join(cfg.Modules, ","))
	c := exec.Command(u.img.Program, args...)
	// The guest's memory is a file in TMPDIR that must be mappable for execution.
	c.Env = append(os.Environ(), "TMPDIR=/dev/shm")
	c.Stdout, c.Stderr = n.console, n.console
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c
}

func vec(dev int, tap string, node int) string {
	return fmt.Sprintf("vec%d:transport=tap,ifname=%s,depth=128,gro=1,mac=%s", dev, tap, mac(node, dev))
}
