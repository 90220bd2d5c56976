package lab

import (
	"fmt"
	"os/exec"
	"strings"
)

// backend makes the process that is a node. The lab does the rest the same way
// for all of them: networks, disks, cgroups, and labnode inside.
type backend interface {
	kernel() *Kernel
	// prepare makes, once in a lab, what its nodes boot from.
	prepare(*Lab) error
	// command is one life of a node. All its processes stay in the cgroup that the
	// command is started in, and all writes to disks are theirs.
	command(n *Node, nonce string) *exec.Cmd
}

// backends makes the backend of each node; nodes with the same kernel share it.
func backends(img *Image, specs []kernelSpec) []backend {
	made := map[string]backend{}
	out := make([]backend, len(specs))
	for i, s := range specs {
		if made[s.name] == nil {
			if k := img.Kernels[s.name]; s.uml() {
				made[s.name] = &uml{k, img.Root}
			} else {
				made[s.name] = &qemu{k, img.Disk}
			}
		}
		out[i] = made[s.name]
	}
	return out
}

// Memory of nodes in MiB: what they get, and what the host needs beside it.
const (
	umlMem, umlMore   = 384, 16
	qemuMem, qemuMore = 900, 150
)

// memOf is what a node with that kernel gets, and what it costs the host.
func memOf(s kernelSpec, chosen int) (gets, costs int) {
	gets, costs = umlMem, umlMore
	if !s.uml() {
		gets, costs = qemuMem, qemuMore
	}
	if chosen != 0 {
		gets = chosen
	}
	return gets, gets + costs
}

// mem is what the node gets with that kernel.
func (n *Node) mem(k *Kernel) int {
	gets, _ := memOf(k.spec, n.lab.cfg.Mem)
	return gets
}

// taps are the host's ends of the node's interfaces, in their order.
func (n *Node) taps() []string {
	taps := []string{linkTap(n.id, 0), mgmtTap(n.id)}
	for l := 1; l < n.lab.cfg.Links; l++ {
		taps = append(taps, linkTap(n.id, l))
	}
	return taps
}

// words are what labnode reads on the kernel command line. root and modules are
// folders of the host, or serials of disks.
func (n *Node) words(root, modules, nonce string) []string {
	cfg := &n.lab.cfg
	given := append([]string(nil), cfg.Append...)
	if cfg.Systemd {
		given = append(given, "lab.init=systemd", "systemd.show_status=yes")
	}
	return append(given,
		"lab.root="+root, "lab.trees="+modules, "lab.nonce="+nonce,
		fmt.Sprintf("lab.node=%d", n.id), fmt.Sprintf("lab.nodes=%d", cfg.Nodes),
		fmt.Sprintf("lab.links=%d", cfg.Links), "lab.modules="+strings.Join(cfg.Modules, ","))
}
