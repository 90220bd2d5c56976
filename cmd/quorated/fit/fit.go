package fit

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Link is one of a node's links.
type Link struct {
	Interface string // that has the address; empty: none
	Parent    string // at the bottom of that, as of a VLAN; empty: it is one itself
	Kernel    bool   // answers probes on it
	Why       string // it does not
}

// Least is a dead_after that is for any machine, a guest of a hypervisor that stands still for
// a moment among them.
const Least = 2 * time.Second

// least is how many links a node needs for lan.
const least = 2

// Lan says why a node is not fit for profile lan; empty: it is. Machine is what Machine said
// of it, weak why its daemon may be late or not be heard.
func Lan(machine string, weak []string, links []Link) string {
	switch {
	case machine != "":
		return machine
	case len(weak) > 0:
		return weak[0]
	case len(links) < least:
		return fmt.Sprintf("it has one link, and lan wants %d", least)
	}
	var on []string
	for i, l := range links {
		if !l.Kernel {
			return fmt.Sprintf("its daemon answers probes on link %d, and not its kernel: %s", i, l.Why)
		}
		is := cmp.Or(l.Parent, l.Interface)
		if j := slices.Index(on, is); j >= 0 {
			return fmt.Sprintf("its links %d and %d are on one interface, %s", j, i, is)
		}
		on = append(on, is)
	}
	return ""
}

// guests are what firmware calls machines that are none. What it calls those of a cloud's
// that are has ".metal" in its name.
var guests = []string{
	"QEMU", "KVM", "Bochs", "Xen", "HVM domU", "VMware", "VirtualBox", "innotek", "Parallels", "BHYVE", "Virtual Machine", "OpenStack",
	"Google Compute Engine", "RHEV", "oVirt", "Amazon EC2", "Apple Virtualization", "AHV",
}

// Machine says what a machine is that is not one of its own, or why that is not known; empty:
// it is one. Root is its file system.
func Machine(root fs.FS) string {
	if what := container(root); what != "" {
		return "it is a container (" + what + ")"
	}
	cpus, err := fs.ReadFile(root, "proc/cpuinfo")
	if err != nil {
		return "it is not known whether it is a virtual machine: " + err.Error()
	}
	switch firmware := firmware(root); {
	case bytes.Contains(cpus, []byte("User Mode Linux")):
		return "it is a process (User-Mode Linux)"
	case hypervisorFlag(cpus), guest(firmware), bytes.Contains(cpus, []byte("emulated by qemu")):
		return virtual(firmware)
	}
	for _, at := range []string{"sys/hypervisor/type", "proc/device-tree/hypervisor/compatible"} {
		if b, err := fs.ReadFile(root, at); err == nil && len(word(b)) > 0 {
			return virtual(word(b))
		}
	}
	if b, err := fs.ReadFile(root, "proc/sysinfo"); err == nil && bytes.Contains(b, []byte("VM00 Control Program")) {
		return virtual("z/VM or KVM")
	}
	return ""
}

func virtual(what string) string {
	if what == "" {
		return "it is a virtual machine"
	}
	return "it is a virtual machine (" + what + ")"
}

// container names what runs this one.
func container(root fs.FS) string {
	if b, err := fs.ReadFile(root, "run/systemd/container"); err == nil {
		return word(b)
	}
	for at, what := range map[string]string{".dockerenv": "docker", "run/.containerenv": "podman"} {
		if _, err := fs.Stat(root, at); err == nil {
			return what
		}
	}
	env, _ := fs.ReadFile(root, "proc/1/environ") // who may not read it is told nothing
	for _, x := range bytes.Split(env, []byte{0}) {
		if what, ok := bytes.CutPrefix(x, []byte("container=")); ok && len(what) > 0 {
			return word(what)
		}
	}
	return ""
}

// firmware is what it calls the machine.
func firmware(root fs.FS) string {
	var names []string
	for _, at := range []string{"sys_vendor", "product_name"} {
		if b, err := fs.ReadFile(root, "sys/class/dmi/id/"+at); err == nil && word(b) != "" {
			names = append(names, word(b))
		}
	}
	return strings.Join(names, " ")
}

func guest(firmware string) bool {
	return !strings.Contains(firmware, ".metal") && slices.ContainsFunc(guests, func(g string) bool { return strings.Contains(firmware, g) })
}

// hypervisorFlag looks at the flags of the first processor.
func hypervisorFlag(cpus []byte) bool {
	for line := range bytes.Lines(cpus) {
		if name, flags, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "flags" {
			return slices.Contains(strings.Fields(string(flags)), "hypervisor")
		}
	}
	return false
}

const longWord = 60

// word is what a small file says, fit to be shown.
func word(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(b[:min(len(b), longWord)]))
	return strings.TrimSpace(s)
}
