package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// systemdSteps prepare what systemd finds, and make it process 1. The rest is its
// business: udev, modules, the cluster networks.
var systemdSteps = []step{
	{"initramfs", early}, {"root", enterRoot}, {"mounts", mountAll}, {"disks", nameDisks}, {"identity", identity}, {"machine", machine},
	{"interfaces", interfaces}, {"network", network}, {"files", copyFiles}, {"units", units}, {"systemd", becomeSystemd},
}

// machine says who the machine is: without, systemd takes each boot for the first
// one after an installation.
func machine(p params) error {
	return os.WriteFile("/etc/machine-id", fmt.Appendf(nil, "%032x\n", p.node), 0o444)
}

// interfaces has ifupdown bring the cluster networks up, and take them down when
// the machine is shut down. The management network is labnode's, to the end.
func interfaces(p params) error {
	return os.WriteFile("/etc/network/interfaces", []byte(p.ifupdown()), 0o644)
}

// ifupdown is a file for interfaces(5).
func (p params) ifupdown() string {
	var b strings.Builder
	b.WriteString("auto lo\niface lo inet loopback\n")
	for i, a := range p.addrs() {
		if i != management {
			name := p.interfaceName(i)
			fmt.Fprintf(&b, "auto %s\niface %s inet static\n\taddress %d.%d.%d.%d/24\n", name, name, a[0], a[1], a[2], a[3])
		}
	}
	return b.String()
}

// runUnits is for units of this boot.
const runUnits = "/run/systemd/system"

// server is labnode as a service. It is there before all others and, without the
// usual conflict with shutdown.target, until the last processes are killed.
const server = `[Unit]
Description=The lab's server
DefaultDependencies=no

[Service]
ExecStart=/usr/local/bin/labnode serve
Environment=HOME=/root
KillMode=process
OOMScoreAdjust=-1000
Restart=always
`

// masked are units that are of no use in a node and cost seconds of its boot.
// D-Bus and logind also cost them at a reboot: systemd 252 misses in a slow node
// that D-Bus is ready, as often as not, and systemctl then waits 25 s for logind.
var masked = []string{
	"ifupdown-pre.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@loop.service", "modprobe@dm_mod.service",
	"modprobe@fuse.service", "sys-fs-fuse-connections.mount", "systemd-pstore.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
	"systemd-random-seed.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
	"dbus.socket", "dbus.service", "systemd-logind.service",
	"getty@tty1.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "ldconfig.service",
	"e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer", "apt-daily.timer", "apt-daily-upgrade.timer",
}

func units(params) error {
	wants := filepath.Join(runUnits, "sysinit.target.wants")
	errs := []error{os.MkdirAll(wants, 0o755),
		os.WriteFile(filepath.Join(runUnits, "labnode.service"), []byte(server), 0o644),
		os.Symlink("../labnode.service", filepath.Join(wants, "labnode.service"))}
	for _, u := range masked {
		errs = append(errs, os.Symlink("/dev/null", filepath.Join(runUnits, u)))
	}
	return errors.Join(errs...)
}

func becomeSystemd(params) error {
	const program = "/lib/systemd/systemd"
	return fmt.Errorf("%s: %w", program, unix.Exec(program, []string{program}, os.Environ()))
}
