package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// read is the namespace that a link below /proc names.
func read(t *testing.T, link string) string {
	t.Helper()
	to, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: this test makes network namespaces")
	}
	own := read(t, "/proc/self/ns/net")
	names := map[string]bool{own: true}
	var made []*Namespace
	for range 8 {
		n, err := New()
		if errors.Is(err, unix.EPERM) {
			t.Skipf("no network namespaces here: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, n)
		name := read(t, fmt.Sprintf("/proc/self/fd/%d", n.Fd()))
		if names[name] {
			t.Fatalf("%s is not a new namespace", name)
		}
		names[name] = true
		for range 2 {
			var in string
			var links []net.Interface
			var thread int
			err := n.Do(func() (err error) {
				thread = unix.Gettid()
				if in, err = os.Readlink("/proc/thread-self/ns/net"); err == nil {
					links, err = net.Interfaces()
				}
				return err
			})
			if err != nil || in != name || len(links) != 1 {
				t.Fatalf("inside of %s is %s with %v: %v", name, in, links, err)
			}
			if thread == os.Getpid() {
				t.Fatal("the main thread lives in a namespace")
			}
		}
	}
	want := errors.New("what f says")
	if err := made[0].Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("Do says %v", err)
	}
	if now := read(t, "/proc/self/ns/net"); now != own {
		t.Errorf("the process is in %s now and was in %s", now, own)
	}
	for _, n := range made {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	for by := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // a thread ends a little after its goroutine
		left := held(own)
		if len(left) == 0 {
			return
		}
		if time.Now().After(by) {
			t.Fatalf("still held by %v", left)
		}
	}
}

// held are the threads and descriptors of this process that hold another namespace.
func held(own string) (found []string) {
	for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
		links, _ := filepath.Glob(pattern) // the pattern is well-formed
		for _, l := range links {
			if to, _ := os.Readlink(l); strings.HasPrefix(to, "net:[") && to != own { // it may have gone since
				found = append(found, l)
			}
		}
	}
	return found
}
