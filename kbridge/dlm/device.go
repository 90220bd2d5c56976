package dlm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const miscMajor = 10 // MISC_MAJOR

// realDevices opens the DLM's devices of this machine. Descriptors are close on
// exec: a fence agent that held dlm-monitor would hide the daemon's death.
type realDevices struct{ dir, misc string }

// Monitor implements Devices.
func (r realDevices) Monitor() (Device, error) { return r.open("dlm-monitor") }

// Plock implements Devices.
func (r realDevices) Plock() (Device, error) { return r.open("dlm_plock") }

// open opens the node, and makes it where nothing else (devtmpfs, udev) does.
func (r realDevices) open(name string) (Device, error) {
	path := filepath.Join(r.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	b, err := os.ReadFile(r.misc)
	if err != nil {
		return nil, err
	}
	minor, err := ParseMisc(b, name)
	if err != nil {
		return nil, err
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(miscMajor, minor))); err != nil {
		return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// ParseMisc finds the minor number of a misc device in /proc/misc.
func ParseMisc(b []byte, name string) (uint32, error) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[1] != name {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 20)
		if err != nil {
			return 0, fmt.Errorf("%w: /proc/misc line %q", ErrParse, line)
		}
		return uint32(n), nil
	}
	return 0, fmt.Errorf("%w: /proc/misc has no %s", ErrModule, name)
}
