package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Unit is quorated's, and MountUnit that of the file system in Fstab.
const (
	Unit      = "quorated.service"
	MountUnit = "mnt-gfs.mount"
)

// Fstab is the line for the file system, as an operator writes it.
const Fstab = Disk + " " + MountAt + " gfs2 _netdev 0 0"

// stage has `make install` put everything below dir, as for a package.
func stage(ctx context.Context, dir string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	goProgram, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "make", "-C", string(bytes.TrimSpace(root)), "install", "DESTDIR="+dir, "GO="+goProgram)
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make install: %w: %s", err, bytes.TrimSpace(b))
	}
	return nil
}

// activate is what `make install` does when it installs into the running system.
const activate = "systemd-sysusers && systemctl daemon-reload && udevadm control --reload && udevadm trigger -s misc"

// unpack puts what was staged into a node.
func (c *Cluster) unpack(ctx context.Context, i int) error {
	pack := exec.CommandContext(ctx, "tar", "-C", c.staged(), "--owner=0", "--group=0", "-c", ".")
	r, w := io.Pipe()
	pack.Stdout = w
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := pack.Run()
		w.CloseWithError(err)
		return err
	})
	g.Go(func() error {
		res, err := c.Lab.Node(i).ExecInput(gctx, r, "tar -x --no-overwrite-dir -C / && "+activate)
		if err == nil && res.Code != 0 {
			err = fmt.Errorf("make install: exit %d: %s%s", res.Code, res.Stdout, res.Stderr)
		}
		r.CloseWithError(err)
		return err
	})
	return g.Wait()
}

func (c *Cluster) staged() string { return filepath.Join(c.tmp, "stage") }

// enable installs quorate on a node with systemd, as the README says, and has
// systemd start it.
func (c *Cluster) enable(ctx context.Context, i int) error {
	if err := c.unpack(ctx, i); err != nil {
		return err
	}
	n := c.Lab.Node(i)
	if _, err := n.Run(ctx, "systemctl disable --now corosync dlm"); err != nil {
		return err
	}
	if err := c.Install(ctx, i); err != nil {
		return err
	}
	if _, err := n.Run(ctx, "quorated -check"); err != nil {
		return err
	}
	_, err := n.Run(ctx, "systemctl enable --now "+Unit)
	return err
}

// AddFstab gives a node the line for the file system, and mounts it.
func (c *Cluster) AddFstab(ctx context.Context, i int) error {
	_, err := c.Lab.Node(i).Run(ctx, fmt.Sprintf("mkdir -p %s && echo '%s' >>/etc/fstab && systemctl daemon-reload && mount %s", MountAt, Fstab, MountAt))
	return err
}
