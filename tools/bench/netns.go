package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The main thread must never be one that enters a namespace: it cannot end
// before the process, and /proc shows its namespaces as the process's.
func init() { runtime.LockOSThread() }

// netns is a network namespace without a name. A thread lives in it; when that
// has ended, the descriptor is closed and no process is left inside, the kernel
// removes the namespace and every link in it.
type netns struct {
	fd   *os.File
	work chan func()
	gone chan struct{}
}

func newNetns() (*netns, error) {
	n := &netns{work: make(chan func()), gone: make(chan struct{})}
	born := make(chan error, 1)
	go n.live(born)
	if err := <-born; err != nil {
		return nil, fmt.Errorf("make a network namespace (needs root): %w", err)
	}
	return n, nil
}

// live is the thread: it is never unlocked, so it ends with the goroutine.
func (n *netns) live(born chan<- error) {
	runtime.LockOSThread()
	defer close(n.gone)
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		n.fd, err = os.Open("/proc/thread-self/ns/net")
	}
	born <- err
	if err != nil {
		return
	}
	for f := range n.work {
		f()
	}
}

// do calls f on the thread that lives in the namespace. Sockets that f makes and
// programs that it starts belong to the namespace.
func (n *netns) do(f func() error) error {
	errc := make(chan error, 1)
	n.work <- func() { errc <- f() }
	return <-errc
}

func (n *netns) close() error {
	close(n.work)
	<-n.gone
	return n.fd.Close()
}

// quiet turns IPv6 off in the namespace of the calling thread: only what the
// measured programs send is to be counted.
func quiet() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
