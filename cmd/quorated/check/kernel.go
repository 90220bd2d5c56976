package check

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

func (m Machine) exists(path string) bool {
	_, err := fs.Stat(m.Root, path)
	return err == nil
}

// module says whether a kernel module is loaded, or could be.
func (m Machine) module(name string) (loaded, available bool) {
	if m.exists("sys/module/" + name) {
		return true, true
	}
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		data, err := fs.ReadFile(m.Root, "lib/modules/"+m.Release+"/"+list)
		if err == nil && (bytes.Contains(data, []byte("/"+name+".ko:")) || bytes.Contains(data, []byte("/"+name+".ko.")) || bytes.Contains(data, []byte("/"+name+".ko\n"))) {
			return false, true
		}
	}
	return false, false
}

// kernel looks at the modules and at configfs.
func (m Machine) kernel(r *report) {
	loaded, available := m.module("dlm")
	switch {
	case loaded:
		r.ok("kernel module dlm")
	case available:
		r.bad("kernel module dlm is not loaded", "run: modprobe dlm")
	default:
		r.bad("kernel "+m.Release+" has no module dlm", "boot a kernel that has it, or install its extra modules: Debian has it in the standard linux-image-amd64, Ubuntu in linux-modules-extra-…, RHEL in kernel-modules-extra")
	}
	if _, ok := m.module("gfs2"); ok {
		r.ok("kernel module gfs2")
	} else {
		r.note("kernel %s has no module gfs2: only needed to mount GFS2", m.Release)
	}
	mounted := m.mounted("/sys/kernel/config", "configfs")
	switch {
	case !mounted:
		r.bad("configfs is not mounted on /sys/kernel/config", "run: mount -t configfs none /sys/kernel/config")
	case m.exists("sys/kernel/config/dlm"):
		r.ok("configfs has dlm")
	case loaded:
		r.bad("configfs has no /sys/kernel/config/dlm though dlm is loaded", "look at: dmesg | grep -i dlm")
	}
}

func (m Machine) mounted(dir, kind string) bool {
	data, err := fs.ReadFile(m.Root, "proc/mounts")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(strings.Split(string(data), "\n"), func(l string) bool {
		f := strings.Fields(l)
		return len(f) > 2 && f[1] == dir && f[2] == kind
	})
}

// lockspaces says whether the kernel has none. Lockspaces without a daemon are
// of a daemon that died, or of another one.
func (m Machine) lockspaces(r *report, running bool) bool {
	entries, err := fs.ReadDir(m.Root, "sys/kernel/dlm")
	if err != nil || len(entries) == 0 {
		if !running {
			r.ok("the kernel has no lockspaces")
		}
		return true
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if !running {
		r.bad(fmt.Sprintf("the kernel has lockspaces that no daemon controls: %s", strings.Join(names, " ")), "umount what uses them and stop lvmlockd; if that hangs, reboot this machine")
	}
	return false
}

// rivals are programs that drive the kernel's DLM, or membership, too.
var rivals = []string{"dlm_controld", "corosync", "pacemakerd", "gfs_controld"}

func (m Machine) foreign(r *report, running bool) {
	var found []string
	dirs, _ := fs.Glob(m.Root, "proc/[0-9]*") // the pattern is well-formed
	for _, d := range dirs {
		data, err := fs.ReadFile(m.Root, d+"/comm")
		if name := strings.TrimSpace(string(data)); err == nil && slices.Contains(rivals, name) {
			found = append(found, name+" (pid "+strings.TrimPrefix(d, "proc/")+")")
		}
	}
	switch {
	case len(found) > 0:
		r.bad("running: "+strings.Join(found, ", "), "take this node out of that cluster, then run, before quorated is enabled, those of these that are installed: systemctl disable --now pacemaker corosync dlm")
	case !running && m.listening("@dlmc_sock"):
		r.bad("another program listens on @dlmc_sock, the socket of dlm_controld", "find it with: ss -xlp | grep dlmc_sock, and stop it")
	default:
		r.ok("no other cluster manager runs here")
	}
}

// listening says whether an abstract unix socket of that name exists.
func (m Machine) listening(name string) bool {
	data, err := fs.ReadFile(m.Root, "proc/net/unix")
	if err != nil {
		return false
	}
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) > 7 && strings.TrimRight(f[7], "@") == name {
			return true
		}
	}
	return false
}

func (m Machine) watchdog(r *report) {
	name, err := fs.ReadFile(m.Root, "sys/class/watchdog/watchdog0/identity")
	switch {
	case err == nil && !strings.Contains(strings.ToLower(string(name)), "software"):
		r.note("watchdog: %s; quorated does not use it", strings.TrimSpace(string(name)))
	case err == nil:
		r.note("watchdog: %s: in software, so it proves nothing of a machine that hangs; quorated does not use it", strings.TrimSpace(string(name)))
	case m.exists("dev/watchdog0"), m.exists("dev/watchdog"):
		r.note("watchdog: there is one; quorated does not use it")
	default:
		r.note("watchdog: none; quorated does not use one")
	}
}
