package lab

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// cpio writes an archive in the format "newc", which the kernel unpacks into its
// first root file system. Archives may follow one another.
type cpio struct {
	w   io.Writer
	n   int64
	ino int
	err error
}

// File types, as in stat(2).
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioChar = 0o020000
)

func (c *cpio) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
		c.n += int64(len(b))
	}
}

func (c *cpio) pad() { c.write(make([]byte, (4-c.n%4)%4)) }

// entry adds a file; major and minor are of a device.
func (c *cpio) entry(name string, mode, major, minor int, data []byte) {
	c.ino++
	h := []int{c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0}
	if mode == 0 {
		h[0] = 0
	}
	c.write([]byte("070701"))
	for _, v := range h {
		c.write(fmt.Appendf(nil, "%08x", v))
	}
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(data)
	c.pad()
}

func (c *cpio) end() error {
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	return c.err
}

// writeBoot is the part of the initial file system that a kernel brings: mount
// points, a console, and modules with the order to load them.
func writeBoot(w io.Writer, mods string, files []string) error {
	c := &cpio{w: w}
	for _, d := range []string{"dev", "proc", "sys", "mnt", "modules"} {
		c.entry(d, cpioDir|0o755, 0, 0, nil)
	}
	c.entry("dev/console", cpioChar|0o600, 5, 1, nil)
	var order bytes.Buffer
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(mods, f))
		if err != nil {
			return err
		}
		c.entry("modules/"+filepath.Base(f), cpioFile|0o644, 0, 0, data)
		fmt.Fprintln(&order, filepath.Base(f))
	}
	c.entry("modules/order", cpioFile|0o644, 0, 0, order.Bytes())
	return c.end()
}

// writeShare is the part that the lab brings: the files of a folder.
func writeShare(w io.Writer, dir string) error {
	es, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	c := &cpio{w: w}
	for _, e := range es {
		if !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		c.entry(e.Name(), cpioFile|0o755, 0, 0, data)
	}
	return c.end()
}

// initramfs puts the parts together.
func initramfs(to, boot, share string) error {
	first, err := os.ReadFile(boot)
	if err != nil {
		return err
	}
	b := bytes.NewBuffer(slices.Clip(first))
	if err := writeShare(b, share); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o600)
}
