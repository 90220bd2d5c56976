package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// netnsDir is where ip(8) keeps named network namespaces.
const netnsDir = "/run/netns"

// netns is a named network namespace.
type netns struct{ name string }

func newNetns(name string) (netns, error) {
	return netns{name}, command("", "ip", "netns", "add", name)
}

func (n netns) remove() error {
	if _, err := os.Stat(filepath.Join(netnsDir, n.name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return command("", "ip", "netns", "del", n.name)
}

// do calls f on a thread that is inside the namespace. Sockets that f makes and
// processes that it starts stay in there; the thread does not come back to other
// goroutines, since it is never unlocked.
func (n netns) do(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and let it die with the goroutine
		errc <- n.enter(f)
	}()
	return <-errc
}

func (n netns) enter(f func() error) error {
	ns, err := os.Open(filepath.Join(netnsDir, n.name))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	return f()
}

// dial connects from inside. No name is resolved: addr is numeric, so the socket
// is made by the calling thread. Dialling in parallel would leave it, and is off.
func (n netns) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	if err := numeric(addr); err != nil {
		return nil, err
	}
	d := net.Dialer{FallbackDelay: -1, KeepAlive: 5 * time.Second}
	err = n.do(func() (e error) { c, e = d.DialContext(ctx, network, addr); return })
	return c, err
}

func (n netns) listen(ctx context.Context, network, addr string) (l net.Listener, err error) {
	if err := numeric(addr); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	err = n.do(func() (e error) { l, e = lc.Listen(ctx, network, addr); return })
	return l, err
}

func (n netns) listenPacket(ctx context.Context, network, addr string) (p net.PacketConn, err error) {
	if err := numeric(addr); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	err = n.do(func() (e error) { p, e = lc.ListenPacket(ctx, network, addr); return })
	return p, err
}

func numeric(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host != "" && net.ParseIP(host) == nil {
		return fmt.Errorf("%s: not a numeric address: the lab's namespace has no resolver", addr)
	}
	return nil
}

// run runs a program inside the namespace and gives it stdin.
func (n netns) run(stdin, name string, args ...string) error {
	return n.do(func() error { return command(stdin, name, args...) })
}

// command runs a host program; its output is in the error when it fails.
func command(stdin, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
