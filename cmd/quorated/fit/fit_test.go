package fit

import (
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func tree(files map[string]string) fstest.MapFS {
	t := fstest.MapFS{}
	for name, text := range files {
		t[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return t
}

// The files are as the kernels of such machines show them.
func TestMachine(t *testing.T) {
	const intel = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de\nvmx flags\t: vnmi hypervisor\n\nprocessor\t: 1\n"
	const guest = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme hypervisor lahf_lm\n"
	const arm = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n"
	const vendor, product = "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"
	for name, c := range map[string]struct {
		cpus  string
		files map[string]string
		want  string
	}{
		"metal":                                 {intel, map[string]string{vendor: "Dell Inc.\n", product: "PowerEdge R650\n", "proc/1/environ": "HOME=/\x00TERM=linux\x00"}, ""},
		"metal without firmware":                {intel, nil, ""},
		"metal on arm":                          {arm, map[string]string{vendor: "Ampere(R)\n", product: "Mt. Jade\n"}, ""},
		"metal of a cloud":                      {intel, map[string]string{vendor: "Amazon EC2\n", product: "m5.metal\n"}, ""},
		"qemu":                                  {guest, map[string]string{vendor: "QEMU\n", product: "Standard PC (Q35 + ICH9, 2009)\n"}, "it is a virtual machine (QEMU Standard PC (Q35 + ICH9, 2009))"},
		"without firmware":                      {guest, nil, "it is a virtual machine"},
		"qemu on arm":                           {arm, map[string]string{vendor: "QEMU\n", product: "KVM Virtual Machine\n"}, "it is a virtual machine (QEMU KVM Virtual Machine)"},
		"hyper-v":                               {intel, map[string]string{vendor: "Microsoft Corporation\n", product: "Virtual Machine\n"}, "it is a virtual machine (Microsoft Corporation Virtual Machine)"},
		"metal of a vendor that has guests too": {intel, map[string]string{vendor: "Microsoft Corporation\n", product: "C2010\n"}, ""},
		"an instance":                           {arm, map[string]string{vendor: "Amazon EC2\n", product: "m6g.large\n"}, "it is a virtual machine (Amazon EC2 m6g.large)"},
		"xen":                                   {intel, map[string]string{"sys/hypervisor/type": "xen\n"}, "it is a virtual machine (xen)"},
		"a device tree":                         {arm, map[string]string{"proc/device-tree/hypervisor/compatible": "linux,kvm\x00"}, "it is a virtual machine (linux,kvm)"},
		"power":                                 {"model\t\t: IBM pSeries (emulated by qemu)\n", nil, "it is a virtual machine"},
		"z":                                     {"vendor_id       : IBM/S390\n", map[string]string{"proc/sysinfo": "VM00 Name: LINUX\nVM00 Control Program: z/VM 7.3\n"}, "it is a virtual machine (z/VM or KVM)"},
		"uml":                                   {"processor\t: 0\nvendor_id\t: User Mode Linux\nmodel name\t: UML\n", nil, "it is a process (User-Mode Linux)"},
		"nspawn":                                {intel, map[string]string{"run/systemd/container": "systemd-nspawn\n"}, "it is a container (systemd-nspawn)"},
		"docker":                                {intel, map[string]string{".dockerenv": ""}, "it is a container (docker)"},
		"podman":                                {intel, map[string]string{"run/.containerenv": "engine=x"}, "it is a container (podman)"},
		"lxc":                                   {guest, map[string]string{"proc/1/environ": "HOME=/\x00container=lxc\x00"}, "it is a container (lxc)"},
		"garbage":                               {guest, map[string]string{vendor: "\x1b[31m\xff" + strings.Repeat("x", 100), product: "\n"}, "it is a virtual machine ([31m " + strings.Repeat("x", 54) + ")"},
	} {
		files := map[string]string{"proc/cpuinfo": c.cpus}
		maps.Copy(files, c.files)
		if got := Machine(tree(files)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := Machine(tree(nil)); !strings.HasPrefix(got, "it is not known whether it is a virtual machine: open proc/cpuinfo") {
		t.Errorf("nothing to read: %q", got)
	}
	t.Logf("this one: %q", Machine(os.DirFS("/")))
}

func TestLan(t *testing.T) {
	good := []Link{{Interface: "eth0", Kernel: true}, {Interface: "eth1", Kernel: true}}
	for name, c := range map[string]struct {
		machine string
		weak    []string
		links   []Link
		want    string
	}{
		"fit":             {"", nil, good, ""},
		"a guest":         {"it is a virtual machine", []string{"no priority"}, good, "it is a virtual machine"},
		"weak":            {"", []string{"no priority", "no memory"}, good, "no priority"},
		"one link":        {"", nil, good[:1], "it has one link, and lan wants 2"},
		"the daemon":      {"", nil, []Link{good[0], {Interface: "eth1", Why: "another XDP program is there: id 7"}}, "its daemon answers probes on link 1, and not its kernel: another XDP program is there: id 7"},
		"one interface":   {"", nil, []Link{good[0], good[1], good[0]}, "its links 0 and 2 are on one interface, eth0"},
		"a VLAN above":    {"", nil, []Link{good[0], {Interface: "eth0.7", Parent: "eth0", Kernel: true}}, "its links 0 and 1 are on one interface, eth0"},
		"and below":       {"", nil, []Link{{Interface: "eth0.7", Parent: "eth0", Kernel: true}, good[1], good[0]}, "its links 0 and 2 are on one interface, eth0"},
		"two VLANs":       {"", nil, []Link{{Interface: "eth0.7", Parent: "eth0", Kernel: true}, {Interface: "eth0.8", Parent: "eth0", Kernel: true}}, "its links 0 and 1 are on one interface, eth0"},
		"of two":          {"", nil, []Link{{Interface: "eth0.7", Parent: "eth0", Kernel: true}, {Interface: "eth1.7", Parent: "eth1", Kernel: true}}, ""},
		"another one too": {"", nil, append(good, Link{Interface: "eth2", Kernel: true}), ""},
	} {
		if got := Lan(c.machine, c.weak, c.links); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
