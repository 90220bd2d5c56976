package daemon

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

// Version of the daemon, set when it is built.
var Version = "0.1.0"

// identify reads what this boot of this machine is.
func identify(cfg config.Config) (node.Identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return node.Identity{}, fmt.Errorf("read the boot id: %w", err)
	}
	machine, err := machineID(cfg)
	if err != nil {
		return node.Identity{}, err
	}
	return node.Identity{
		Boot: membership.BootID(bytes.TrimSpace(boot)), Instance: random64(), Machine: machine, Version: Version,
		Kernel: kernelRelease(), Digest: cfg.Digest.Total, Digests: cfg.Digest.Keys,
	}, nil
}

// machineID is what stays when the machine boots again: the firmware's uuid,
// else the installation's machine-id, else the hardware address of the
// interface that has the node's first address.
func machineID(cfg config.Config) (string, error) {
	for _, f := range []struct{ path, kind string }{{"/sys/class/dmi/id/product_uuid", "dmi:"}, {"/etc/machine-id", "machine-id:"}} {
		b, err := os.ReadFile(f.path)
		if s := strings.TrimSpace(string(b)); err == nil && len(s) >= 16 {
			return f.kind + s, nil
		}
	}
	self, _ := cfg.Node(cfg.Self)
	ifs, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && len(self.Addrs) > 0 && p.Addr().Unmap() == self.Addrs[0].Unmap() && len(i.HardwareAddr) > 0 {
				return "mac:" + i.HardwareAddr.String(), nil
			}
		}
	}
	return "", fmt.Errorf("this machine has no identity: no DMI product uuid, no /etc/machine-id (run systemd-machine-id-setup), no hardware address on the interface of %v", self.Addrs)
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// random64 is never 0.
func random64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.NativeEndian.Uint64(b[:]) | 1
}

// boottime is CLOCK_BOOTTIME. The call is a raw one, of which the runtime is not
// told: see membership/probe/udp.
func boottime() membership.Mono {
	var ts unix.Timespec
	if _, _, e := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0); e != 0 {
		panic("daemon: CLOCK_BOOTTIME: " + e.Error())
	}
	return membership.Mono(ts.Nano())
}
