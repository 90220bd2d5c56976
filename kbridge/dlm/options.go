package dlm

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/membership"
)

// DefaultPort is the DLM's TCP port (DEFAULT_TCP_PORT).
const DefaultPort = 21064

// Options are what Open needs to know. The zero value of an interface is the
// real thing; tests put dlmtest.Kernel in its place.
type Options struct {
	Cluster string            // the name in the file systems' superblocks
	Self    membership.NodeID // our own node
	// Addrs are the nodes' addresses. The first is the one that the DLM's TCP
	// uses; all nodes' first addresses must be of one family.
	Addrs map[membership.NodeID][]netip.Addr
	// Links are the nodes' own addresses on their links, one of which may be the gateway
	// to a node's address in Addrs.
	Links    map[membership.NodeID][]netip.Addr
	Port     uint16 // 0: DefaultPort
	Mark     uint32 // SO_MARK of the DLM's sockets
	LogDebug bool   // verbose recovery lines in the kernel's log

	Log *slog.Logger
	// Events takes what happens, one event at a time. It must not block, and may
	// call any method but Close.
	Events func(Event)

	Configfs configfs.FS // nil: /sys/kernel/config
	Sysfs    configfs.FS // nil: /sys/kernel/dlm
	Uevents  Uevents     // nil: the kernel's netlink socket
	Devices  Devices     // nil: Dev and /proc/misc
	Sockets  Sockets     // nil: sock_diag
	Dev      string      // where device nodes are; "": /dev
	Release  string      // of the kernel, as uname -r says it; "": this one's
	ProcNet  string      // where the tables of connections are; "": /proc/net
	// Modprobe loads a module; nil: the program of that name.
	Modprobe func(ctx context.Context, module string) error
}

// Uevents is where the kernel's uevents come from.
type Uevents interface {
	// Next blocks for the next datagram that the kernel sent. ErrOverrun means
	// that some were lost; any other error ends it.
	Next() ([]byte, error)
	// Close makes a blocked Next return.
	Close() error
}

// Devices opens the DLM's misc devices.
type Devices interface {
	// Monitor opens dlm-monitor. Closing it stops all lockspaces.
	Monitor() (Device, error)
	// Plock opens dlm_plock.
	Plock() (Device, error)
}

// Device is an open misc device.
type Device interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
}

// Sockets ends connection attempts of the kernel's DLM, and looks at its connections.
type Sockets interface {
	// Conns lists the TCP sockets with the port at either end, whosever they are.
	Conns(port uint16, v4 bool) ([]Conn, error)
	// AbortConnects destroys TCP sockets in SYN_SENT to the address and port.
	AbortConnects(to netip.Addr, port uint16) (int, error)
	// Forget has the kernel ask the network again who has the address, or the gateway to
	// it if that is one of own, so that attempts to connect fail when nobody has. An
	// error says why it cannot.
	Forget(to netip.Addr, own []netip.Addr) error
}

func (o *Options) check() error {
	own := o.Addrs[o.Self]
	switch {
	case o.Self == 0:
		return fmt.Errorf("%w: no own node id", ErrMembers)
	case o.Cluster == "" || len(o.Cluster) > 63:
		return fmt.Errorf("%w: cluster name %q must have 1 to 63 bytes", ErrMembers, o.Cluster)
	case len(own) == 0:
		return fmt.Errorf("%w: node %d has no address", ErrMembers, o.Self)
	case o.Events == nil:
		return fmt.Errorf("%w: nobody takes the events", ErrMembers)
	}
	return checkFamily(o.Self, o.Addrs)
}

// checkFamily: the DLM's TCP speaks one family.
func checkFamily(self membership.NodeID, addrs map[membership.NodeID][]netip.Addr) error {
	own := addrs[self]
	for n, a := range addrs {
		if len(a) == 0 || len(own) == 0 || a[0].Unmap().Is4() != own[0].Unmap().Is4() {
			return fmt.Errorf("%w: the first addresses of nodes %d and %d must be of one family", ErrMembers, self, n)
		}
	}
	return nil
}

// fill puts the real things where nothing else was given. Configfs and Sysfs
// can be opened only after the module is there.
func (o *Options) fill() {
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dev == "" {
		o.Dev = "/dev"
	}
	if o.ProcNet == "" {
		o.ProcNet = "/proc/net"
	}
	if o.Release == "" {
		var u unix.Utsname
		if unix.Uname(&u) == nil {
			o.Release = unix.ByteSliceToString(u.Release[:])
		}
	}
	if o.Devices == nil {
		o.Devices = realDevices{dir: o.Dev, misc: "/proc/misc"}
	}
	if o.Sockets == nil {
		o.Sockets = sockDiag{}
	}
	if o.Modprobe == nil {
		o.Modprobe = modprobe
	}
}

func (o *Options) openTrees() error {
	if o.Configfs == nil {
		r, err := configfs.OpenRoot("/sys/kernel/config")
		if err != nil {
			return fmt.Errorf("%w: mount -t configfs none /sys/kernel/config", err)
		}
		o.Configfs = r
	}
	if o.Sysfs == nil {
		r, err := configfs.OpenRoot("/sys/kernel/dlm")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrModule, err)
		}
		o.Sysfs = r
	}
	return nil
}

// attrs are the cluster attributes that we care about, those at their default
// included: their values outlive the directory and the daemon.
func (o *Options) attrs() map[string]string {
	return map[string]string{
		"protocol":          "0", // TCP
		"tcp_port":          strconv.Itoa(int(o.Port)),
		"cluster_name":      o.Cluster, // without a newline: it would become part of the name
		"recover_callbacks": "1",
		"mark":              strconv.FormatUint(uint64(o.Mark), 10),
		"log_debug":         map[bool]string{true: "1", false: "0"}[o.LogDebug],
		"log_info":          "1",
	}
}

// modprobe loads a module; one that is built in is as good.
func modprobe(ctx context.Context, module string) error {
	if _, err := os.Stat("/sys/module/" + module); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "modprobe", "-q", "--", module).CombinedOutput()
	if err != nil {
		return fmt.Errorf("modprobe %s: %w: %s", module, err, out)
	}
	return nil
}
