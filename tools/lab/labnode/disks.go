package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// early loads what an emulated node needs to get at its disks. In User-Mode
// Linux all of that is built in.
func early(p params) error {
	if !p.emulated() {
		return nil
	}
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(order)) {
		if err := insert(filepath.Join("/modules", name)); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return unix.Mount("sysfs", "/sys", "sysfs", 0, "")
}

// diskNumber waits for the disk that the host gave that serial.
func diskNumber(serial string) (uint64, error) {
	for range 1000 {
		dev, err := findDisk("/sys/block", serial)
		if !errors.Is(err, fs.ErrNotExist) {
			return dev, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("the host gave no disk %s in 10 s", serial)
}

// findDisk looks for a serial in a folder like /sys/block.
func findDisk(dir, serial string) (uint64, error) {
	disks, err := filepath.Glob(filepath.Join(dir, "*", "serial"))
	if err != nil {
		return 0, err
	}
	for _, d := range disks {
		b, err := os.ReadFile(d)
		if err != nil || strings.TrimSpace(string(b)) != serial {
			continue
		}
		if b, err = os.ReadFile(filepath.Join(filepath.Dir(d), "dev")); err != nil {
			return 0, err
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
			return 0, fmt.Errorf("%s: %w", d, err)
		}
		return unix.Mkdev(major, minor), nil
	}
	return 0, fs.ErrNotExist
}

// umlDisks is the major number of User-Mode Linux's disks; each has 16 minors.
const umlDisks = 98

// stateNumber is the node's own disk.
func (p params) stateNumber() (uint64, error) {
	if p.emulated() {
		return diskNumber("state")
	}
	return unix.Mkdev(umlDisks, 16), nil // ubdb
}

// nameDisks gives the disks of an emulated node the names they have in
// User-Mode Linux, beside their own.
func nameDisks(p params) error {
	if !p.emulated() {
		return nil
	}
	for serial, name := range map[string]string{"shared": "/dev/ubda", "state": "/dev/ubdb"} {
		dev, err := diskNumber(serial)
		if err != nil {
			return err
		}
		if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(dev)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
