// Package netns is network namespaces without names, each held by a thread that lives in
// it and by a descriptor of this process: however that ends, the kernel removes what no other
// program is left in.
//
// It needs root. A program that imports it keeps its main goroutine on the main thread.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The main thread must never be one that enters a namespace: it cannot end
// before the process, and /proc shows its namespaces as the process's.
func init() { runtime.LockOSThread() }

// Namespace is a network namespace without a name. A thread lives in it; when that
// has ended, the descriptor is closed and no process is left inside, the kernel
// removes the namespace and every link in it.
type Namespace struct {
	fd   *os.File
	work chan func()
	gone chan struct{}
}

// New makes one, with nothing in it but a loopback interface that is down.
func New() (*Namespace, error) {
	n := &Namespace{work: make(chan func()), gone: make(chan struct{})}
	born := make(chan error, 1)
	go n.live(born)
	if err := <-born; err != nil {
		return nil, fmt.Errorf("make a network namespace (needs root): %w", err)
	}
	return n, nil
}

// live is the thread: it is never unlocked, so it ends with the goroutine.
func (n *Namespace) live(born chan<- error) {
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

// Do calls f on the thread that lives in the namespace. Sockets that f makes and
// programs that it starts belong to the namespace.
func (n *Namespace) Do(f func() error) error {
	errc := make(chan error, 1)
	n.work <- func() { errc <- f() }
	return <-errc
}

// Fd is its descriptor, open until Close.
func (n *Namespace) Fd() int { return int(n.fd.Fd()) }

// Close ends the thread and closes the descriptor. Nothing else may be called after it.
func (n *Namespace) Close() error {
	close(n.work)
	<-n.gone
	return n.fd.Close()
}
