package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

// shareDir is where the host's folder for its nodes is mounted.
const shareDir = "/lab"

// params is what the host says on the kernel command line, as lab.key=value.
type params struct {
	node, nodes, links int
	nonce              string
	root               string // the host's folder with the root file system, or a disk's serial
	trees              string // the same of the folder with all kernel modules
	modules            []string
	systemd            bool // process 1 is to be systemd
}

func parseParams(cmdline string) (params, error) {
	kv := map[string]string{}
	for f := range strings.FieldsSeq(cmdline) {
		if k, v, ok := strings.Cut(f, "="); ok && strings.HasPrefix(k, "lab.") {
			kv[k[len("lab."):]] = v
		}
	}
	p := params{nonce: kv["nonce"], root: kv["root"], trees: kv["trees"], systemd: kv["init"] == "systemd"}
	for k, dst := range map[string]*int{"node": &p.node, "nodes": &p.nodes, "links": &p.links} {
		n, err := strconv.Atoi(kv[k])
		if err != nil {
			return p, fmt.Errorf("lab.%s on the kernel command line: %w", k, err)
		}
		*dst = n
	}
	if m := kv["modules"]; m != "" {
		p.modules = strings.Split(m, ",")
	}
	return p, nil
}

// emulated says whether the node is an emulated PC, not User-Mode Linux: what
// the latter gets from folders of the host is on disks then.
func (p params) emulated() bool { return !strings.HasPrefix(p.root, "/") }

// initNode is process 1. It never returns: a node whose init ends panics.
//
// A node that cannot be set up is switched off. That is also the end of one that
// rebooted by itself: User-Mode Linux starts itself anew in the same process, where
// the first life's interfaces are still open, and finds none for the second.
func initNode([]string) error {
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/root")
	p, err := firstSteps()
	switch {
	case err != nil:
	case p.systemd:
		err = carryOut(p, systemdSteps) // and does not return
	default:
		err = carryOut(p, ownSteps)
	}
	if err != nil {
		fmt.Println("LABFAILED", err)
		fmt.Println("LABFAILED power off:", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	}
	go reap()
	for {
		fmt.Println("LABFAILED", serve(nil))
		time.Sleep(time.Second)
	}
}

// step is one part of making a node.
type step struct {
	name string
	do   func(params) error
}

// ownSteps make a node whose process 1 is labnode.
var ownSteps = []step{
	{"initramfs", early}, {"root", enterRoot}, {"mounts", mountAll}, {"disks", nameDisks}, {"identity", identity}, {"network", network},
	{"udev", startUdev}, {"modules", modules}, {"files", copyFiles}, {"state disk", stateDisk},
	{"devices", waitDevices}, {"softirqs", softirqs},
}

func carryOut(p params, steps []step) error {
	for _, s := range steps {
		if err := s.do(p); err != nil {
			return err
		}
		fmt.Printf("%6.2f %s\n", uptime(), s.name)
	}
	return nil
}

// firstSteps reads what the host says.
func firstSteps() (params, error) {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return params{}, fmt.Errorf("/proc: %w", err)
	}
	fmt.Printf("%6.2f labnode\n", uptime())
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return params{}, err
	}
	return parseParams(string(raw))
}

// mountAll mounts the usual kernel file systems. What a kernel lacks is left out.
func mountAll(params) error {
	for _, m := range [][3]string{
		{"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/dev/shm"},
		{"tmpfs", "/run"}, {"tmpfs", "/tmp"}, {"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"},
		{"debugfs", "/sys/kernel/debug"}, {"tracefs", "/sys/kernel/tracing"},
	} {
		os.MkdirAll(m[1], 0o755)
		unix.Mount(m[0], m[1], m[0], 0, "")
	}
	return errors.Join(os.MkdirAll("/run/lock", 0o755), os.Chmod("/tmp", 0o1777))
}

func identity(p params) error {
	name := fmt.Sprintf("node%d", p.node)
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n10.77.0.1 host\n")
	for i := 1; i <= p.nodes; i++ {
		fmt.Fprintf(&hosts, "10.77.0.%d node%d\n", 10+i, i)
	}
	return errors.Join(unix.Sethostname([]byte(name)),
		os.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644),
		os.WriteFile("/etc/hosts", []byte(hosts.String()), 0o644))
}

// startUdev comes before the modules, so that it sees their devices appear.
func startUdev(params) error {
	return run("/lib/systemd/systemd-udevd", "--daemon")
}

func modules(p params) error {
	for _, m := range p.modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil && len(p.modules) > 0 {
		return fmt.Errorf("configfs: %w", err)
	}
	return nil
}

// file is one entry of the manifest that the host leaves in the shared folder.
type file struct {
	Guest, Name string
	Mode        os.FileMode
}

func copyFiles(params) error {
	raw, err := os.ReadFile(filepath.Join(shareDir, "files.json"))
	if err != nil {
		return err
	}
	var fs []file
	if err := json.Unmarshal(raw, &fs); err != nil {
		return err
	}
	for _, f := range fs {
		src, err := os.Open(filepath.Join(shareDir, f.Name))
		if err != nil {
			return err
		}
		err = writeFile(f.Guest, f.Mode, src)
		src.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces path in one step with what r holds.
func writeFile(path string, mode os.FileMode, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".labput-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, r)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

func stateDisk(params) error {
	const at = "/var/lib/quorate"
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/dev/ubdb", at, "ext4", 0, ""); err != nil {
		return fmt.Errorf("state disk: %w", err)
	}
	return nil
}

// waitDevices waits until udev made the links that libdlm opens.
func waitDevices(p params) error {
	for range 6000 {
		if _, err := os.Stat("/dev/dlm-control"); err != nil {
			return nil // no dlm module was asked for
		}
		if _, err := os.Stat("/dev/misc/dlm-control"); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("udev made no /dev/misc/dlm-control in a minute")
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// hello tells the host that this boot is up.
func hello() error {
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	p, err := parseParams(string(raw))
	if err != nil {
		return err
	}
	h := wire.Hello{Node: p.node, Nonce: p.nonce}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	h.BootID = strings.TrimSpace(string(id))
	for range 50 {
		if err = sendHello(h); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// uptime is the kernel's age in seconds.
func uptime() (s float64) {
	b, _ := os.ReadFile("/proc/uptime")
	fmt.Sscan(string(b), &s)
	return s
}

func sendHello(h wire.Hello) error {
	c, err := net.DialTimeout("tcp4", fmt.Sprintf("10.78.0.1:%d", wire.HelloPort), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	return json.NewEncoder(c).Encode(h)
}
