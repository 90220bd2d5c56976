package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// connectTimeout is for one connection: a SYN may be lost once.
const connectTimeout = 3 * time.Second

// ports tries to take our own ports.
func (m Machine) ports(r *report, cfg config.Config, dlm bool) {
	me, ok := cfg.Node(cfg.Self)
	if !ok || len(me.Addrs) == 0 {
		return
	}
	try := func(what, network string, a netip.Addr, port uint16) {
		at := netip.AddrPortFrom(a, port)
		err := m.Network.Bind(network, at)
		switch {
		case err == nil:
			r.ok("%s port %s %s is free", what, network, at)
		case errors.Is(err, syscall.EADDRINUSE):
			r.bad(fmt.Sprintf("%s port %s %s is in use", what, network, at), fmt.Sprintf("find who has it with: ss -lpn 'sport = :%d', or choose another under [cluster] on every node", port))
		case errors.Is(err, syscall.EADDRNOTAVAIL): // said already: on no interface
		default:
			r.bad(fmt.Sprintf("%s port %s %s cannot be taken: %v", what, network, at, err), "run as root; look for a security module (dmesg)")
		}
	}
	for _, a := range me.Addrs {
		try("daemon", "tcp", a, cfg.Port)
		try("probe", "udp", a, cfg.ProbePort)
	}
	if dlm {
		try("DLM", "tcp", cfg.DLMAddr(me), cfg.DLMPort)
	}
}

// way is one connection to try.
type way struct {
	name     string
	what     string
	from     netip.Addr
	to       netip.AddrPort
	optional bool // nobody need listen there yet
}

// peers tries to reach the daemons and, with dlm, the DLM ports of all others.
func (m Machine) peers(ctx context.Context, r *report, cfg config.Config, dlm bool) {
	me, ok := cfg.Node(cfg.Self)
	if !ok {
		return
	}
	var paths []way
	for _, n := range cfg.Nodes {
		if n.ID == cfg.Self {
			continue
		}
		for i, a := range n.Addrs {
			paths = append(paths, way{n.Name, "daemon", me.Addrs[i], netip.AddrPortFrom(a, cfg.Port), false})
		}
		if dlm && !cfg.DLMNetwork.IsValid() { // else the addresses are made by a quorated that runs
			paths = append(paths, way{n.Name, "DLM", me.Addrs[0], netip.AddrPortFrom(n.Addrs[0], cfg.DLMPort), true})
		}
	}
	errs := parallel(paths, func(p way) error {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return m.Network.Connect(ctx, p.from, p.to)
	})
	for i, p := range paths {
		p.say(r, errs[i])
	}
	if len(paths) > 0 {
		r.note("udp %d is not tried: open it between all nodes", cfg.ProbePort)
	}
}

func (p way) say(r *report, err error) {
	switch {
	case err == nil:
		r.ok("%s: %s port %s answers", p.name, p.what, p.to)
	case errors.Is(err, syscall.ECONNREFUSED) && p.optional:
		r.ok("%s: %s port %s can be reached", p.name, p.what, p.to)
	case errors.Is(err, syscall.ECONNREFUSED):
		r.note("%s can be reached and nobody listens on %s: start quorated there (or its firewall rejects)", p.name, p.to)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		r.bad(fmt.Sprintf("%s: no answer from %s port %s", p.name, p.what, p.to), fmt.Sprintf("switch %s on, or open tcp %d in its firewall", p.name, p.to.Port()))
	case errors.Is(err, syscall.EADDRNOTAVAIL): // our own address is missing: said already
	default:
		r.bad(fmt.Sprintf("%s: %s port %s: %v", p.name, p.what, p.to, err), fmt.Sprintf("look at the route and the firewall: ip route get %s", p.to.Addr()))
	}
}

// parallel calls f for each element, a few at a time, and returns the errors in
// their order.
func parallel[T any](all []T, f func(T) error) []error {
	errs := make([]error, len(all))
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, x := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(x)
		})
	}
	wg.Wait()
	return errs
}

// reversePath looks for what may drop the DLM's packets while a link dies: those of a node that
// takes another link already than this one does.
func (m Machine) reversePath(r *report, cfg config.Config) {
	if !cfg.DLMNetwork.IsValid() || cfg.NoKernel || cfg.DLMNetwork.Addr().Is6() {
		return
	}
	mode := func(name string) string {
		data, _ := fs.ReadFile(m.Root, "proc/sys/net/ipv4/conf/"+name+"/rp_filter") // none: it filters nothing
		return strings.TrimSpace(string(data))
	}
	r.ok("the DLM's address is %s, of dlm_network %s: quorated makes it, and nothing tries it now", cfg.DLMAddr(node(cfg)), cfg.DLMNetwork)
	dirs, _ := fs.Glob(m.Root, "proc/sys/net/ipv4/conf/*") // the pattern is well-formed
	var strict []string
	for _, d := range dirs {
		name := path.Base(d)
		if all := mode("all"); name != "all" && name != "default" && name != "lo" && all != "2" && (mode(name) == "1" || mode(name) == "0" && all == "1") {
			strict = append(strict, name)
		}
	}
	if len(strict) > 0 {
		r.note("rp_filter is strict on %s: where the nodes change links at different moments, the DLM's packets are dropped; run: sysctl net.ipv4.conf.all.rp_filter=2, and write it into /etc/sysctl.d", strings.Join(strict, ", "))
	}
}

func node(cfg config.Config) membership.Node {
	n, _ := cfg.Node(cfg.Self)
	return n
}

type realNetwork struct{}

func (realNetwork) Bind(network string, at netip.AddrPort) error {
	if network == "udp" {
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return l.Close()
}

func (realNetwork) Connect(ctx context.Context, from netip.Addr, to netip.AddrPort) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}

// answers says whether a daemon listens on the socket.
func answers(socket string) bool {
	c, err := control.Dial(socket)
	if err != nil {
		return errors.Is(err, os.ErrPermission)
	}
	_ = c.Close()
	return true
}

// writable tries the directory, or the nearest one above it where it is missing:
// the daemon makes it, and a check leaves nothing behind.
func writable(dir string) error {
	for dir != filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		return errors.Unwrap(err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
