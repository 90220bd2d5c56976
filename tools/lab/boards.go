package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// BoardPort is where the UDP ports of the management boards at FenceAddr begin: node n has it n higher.
const BoardPort = 6230

// IPMI is Debian's own simulator of management boards, for the host, and ipmitool,
// for the nodes, unpacked in a folder of the cache.
type IPMI struct{ dir string }

// ipmiPackages are what has the programs, and the libraries that neither the host
// nor the nodes have otherwise.
var ipmiPackages = []string{"openipmi", "libopenipmi0", "libpopt0", "ipmitool", "libfreeipmi17"}

// FetchIPMI fetches it when the cache has not got it, about 4 MB.
func FetchIPMI(ctx context.Context, out io.Writer) (i IPMI, err error) {
	cache, err := CacheDir()
	if err != nil {
		return i, err
	}
	suite, err := hostSuite()
	if err != nil {
		return i, err
	}
	i.dir = filepath.Join(cache, "ipmi-"+suite)
	if exists(i.dir) {
		return i, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return i, err
	}
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return i, err
	}
	defer unlock()
	if exists(i.dir) { // somebody else made it meanwhile
		return i, nil
	}
	fmt.Fprintf(out, "lab: fetching once: %s of Debian %s\n", strings.Join(ipmiPackages, " "), suite)
	return i, whole(i.dir, func(tmp string) error {
		if err := aptLists(ctx, out, ipmiPackages[0]); err != nil { // or apt tells no mirror
			return err
		}
		a, err := newApt(ctx, filepath.Join(tmp, "apt"), suite, out)
		if err != nil {
			return err
		}
		_, err = a.unpack(ctx, tmp, ipmiPackages...)
		return errors.Join(err, os.RemoveAll(filepath.Join(tmp, "apt")))
	})
}

// Files are ipmitool and its library, as Config.Files wants them.
func (i IPMI) Files() (map[string]string, error) {
	lib, err := oneOf(i.dir, "usr/lib/*/libfreeipmi.so.17")
	if err != nil {
		return nil, err
	}
	return map[string]string{"/usr/bin/ipmitool": filepath.Join(i.dir, "usr/bin/ipmitool"), strings.TrimPrefix(lib, i.dir): lib}, nil
}

// boards are the simulators that run.
type boards struct {
	cg   cgroup
	wait sync.WaitGroup
}

// chassis is what a simulator runs for each question or order, and goes on when it
// has ended: get power, set power 0 or 1, set reset. It turns to the lab's switch,
// so that off is answered when the node stands still.
const chassis = `#!/bin/sh
lab() { printf 'action=%%s\nip=%s\nplug=%d\nvia=ipmi\n' "$1" | %s; }
case "$2 $3 $4" in
"get power "*)
	lab status >/dev/null
	case $? in 0) echo power:1 ;; 2) echo power:0 ;; *) exit 1 ;; esac ;;
"set power 0") lab off ;;
"set power 1") lab on ;;
"set reset "*) lab reboot ;;
*) echo "unknown: $*"; exit 1 ;;
esac
`

const boardConf = `name "node%d"
set_working_mc 0x20
startlan 1
 addr %s %d
 priv_limit admin
 allowed_auths_callback none md2 md5 straight
 allowed_auths_user none md2 md5 straight
 allowed_auths_operator none md2 md5 straight
 allowed_auths_admin none md2 md5 straight
 guid a123456789abcdefa123456789abcd%02x
endlan
chassis_control "%s 0x20"
user 1 true "" "none" user 10 none md2 md5 straight
user 2 true "lab" "lab" admin 10 none md2 md5 straight
`

const boardCommands = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// StartBoards gives each node a management board: IPMI over LAN at FenceAddr, UDP
// port BoardPort+n, user and password lab. They end with the lab.
func (l *Lab) StartBoards(i IPMI) (err error) {
	b := &boards{}
	if b.cg, err = newCgroup(filepath.Join(l.cg.dir, "boards")); err != nil {
		return err
	}
	l.fence.boards = b
	for _, n := range l.nodes {
		if err := b.start(l, i, n.id); err != nil {
			return err
		}
	}
	return nil
}

func (b *boards) start(l *Lab, i IPMI, node int) error {
	dir := filepath.Join(l.dir, fmt.Sprintf("board%d", node))
	run := filepath.Join(dir, "chassis")
	err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "state"), 0o755),
		os.WriteFile(run, fmt.Appendf(nil, chassis, FenceAddr, node, filepath.Join(l.shareDir(), "fence_lab")), 0o755),
		os.WriteFile(filepath.Join(dir, "lan.conf"), fmt.Appendf(nil, boardConf, node, FenceAddr, BoardPort+node, node, run), 0o644),
		os.WriteFile(filepath.Join(dir, "commands"), []byte(boardCommands), 0o644))
	if err != nil {
		return err
	}
	libs, err := oneOf(i.dir, "usr/lib/*/libOpenIPMIutils.so.0")
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(i.dir, "usr/bin/ipmi_sim"), "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "commands"), "-s", filepath.Join(dir, "state"))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH=" + filepath.Dir(libs)}
	cg, err := os.Open(b.cg.dir)
	if err != nil {
		return err
	}
	defer cg.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cg.Fd())}
	if err := l.ns.do(cmd.Start); err != nil {
		return fmt.Errorf("board of node%d: %w", node, err)
	}
	b.wait.Go(func() { _ = cmd.Wait() }) // killed
	return nil
}

// close kills them and what they started.
func (b *boards) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := b.cg.kill(ctx)
	b.wait.Wait()
	return err
}
