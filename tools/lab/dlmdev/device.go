package dlmdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// folders are where misc devices are listed and where nodes can be made.
type folders struct{ misc, dev string }

var system = folders{misc: "/sys/class/misc", dev: "/dev"}

// number reads the number of a misc device.
func (s folders) number(name string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(s.misc, name, "dev"))
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if n, err := fmt.Sscanf(strings.TrimSpace(string(b)), "%d:%d", &major, &minor); n != 2 || err != nil {
		return 0, fmt.Errorf("%s: %q is no device number", name, b)
	}
	return unix.Mkdev(major, minor), nil
}

// open opens a device through a node of its own, which exists for that moment
// alone: one of udev may not be there yet, or be of a lockspace that is gone.
func (s folders) open(name string) (port, error) {
	dev, err := s.number(name)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.dev, "dlmdev")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "node")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(dev)); err != nil {
		return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return device(fd), nil
}

// device is a descriptor. An os.File would take what write returns for a length.
type device int

// Close implements io.Closer.
func (d device) Close() error { return unix.Close(int(d)) }

func (d device) write(b []byte) (n int, err error) {
	err = uninterrupted(func() error { n, err = unix.Write(int(d), b); return err })
	return n, err
}

func (d device) read(b []byte, limit time.Duration) (n int, err error) {
	if limit > 0 {
		if err := d.wait(time.Now().Add(limit)); err != nil {
			return 0, err
		}
	}
	err = uninterrupted(func() error { n, err = unix.Read(int(d), b); return err })
	return n, err
}

// wait waits for a result to read.
func (d device) wait(until time.Time) error {
	return uninterrupted(func() error {
		left := max(0, time.Until(until).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(d), Events: unix.POLLIN}}, int(left))
		if err == nil && n == 0 {
			return os.ErrDeadlineExceeded
		}
		return err
	})
}

// uninterrupted calls f again for as long as a signal interrupts it.
func uninterrupted(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
