package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
)

// nobody runs the witness: it needs no privileges.
const nobody = 65534

// WitnessAddr is where the nodes find it, on the management network.
var WitnessAddr = net.JoinHostPort(hostMgmt, "21062")

// Witness is a quorated --witness on the host's side of the management network, run by
// nobody, with a directory of its own.
type Witness struct {
	c   *Cluster
	dir string
	cmd *exec.Cmd
}

// NewWitness makes one that does not run yet. Close removes it.
func (c *Cluster) NewWitness() (*Witness, error) {
	dir, err := os.MkdirTemp("", "quorate-witness-")
	if err != nil {
		return nil, err
	}
	w := &Witness{c: c, dir: dir}
	b, err := os.ReadFile(filepath.Join(c.tmp, "quorated"))
	if err == nil {
		err = os.WriteFile(w.program(), b, 0o755)
	}
	if err == nil {
		err = os.Chown(dir, nobody, nobody)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

func (w *Witness) program() string { return filepath.Join(w.dir, "quorated") }
func (w *Witness) log() string     { return filepath.Join(w.dir, "log") }

func (w *Witness) command(args ...string) *exec.Cmd {
	c := exec.Command(w.program(), append([]string{"--witness", "--state", filepath.Join(w.dir, "state"), "--name", "eye"}, args...)...)
	c.Dir = w.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setpgid: true}
	return c
}

// Start starts it.
func (w *Witness) Start() error {
	log, err := os.OpenFile(w.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	w.cmd = w.command("--listen", WitnessAddr)
	w.cmd.Stdout, w.cmd.Stderr = log, log
	return w.c.Lab.StartOnHost(w.cmd)
}

// Kill ends it at once.
func (w *Witness) Kill() error {
	if w.cmd == nil {
		return nil
	}
	err := w.cmd.Process.Kill()
	_ = w.cmd.Wait() // it was killed
	w.cmd = nil
	return err
}

// Token makes a token.
func (w *Witness) Token() (string, error) {
	c := w.command("token", "--advertise", WitnessAddr)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("quorated --witness token: %w: %s", err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// Log is what it said.
func (w *Witness) Log() string {
	b, err := os.ReadFile(w.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Close ends it and removes its directory.
func (w *Witness) Close() error { return errors.Join(w.Kill(), os.RemoveAll(w.dir)) }

// AddWitness has a node add it, and waits until all nodes count on its vote.
func (c *Cluster) AddWitness(ctx context.Context, on int, w *Witness) error {
	token, err := w.Token()
	if err != nil {
		return err
	}
	again, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("no witness added within 30 s"))
	defer cancel()
	err = Until(again, 200*time.Millisecond, func() error { // a cluster that has just formed may change its leader
		_, err := c.Lab.Node(on).Run(ctx, binDir+"/quorate witness add "+token)
		return err
	})
	if err != nil {
		return err
	}
	if err := c.WaitWitness(ctx, c.Nodes(), true); err != nil {
		return err
	}
	c.witness = true
	return nil
}

// WaitWitness waits until each of the nodes hears a witness that votes, or does not hear it.
func (c *Cluster) WaitWitness(ctx context.Context, ask []int, heard bool) error {
	return c.waitStatus(ctx, ask, func(s control.Status) error {
		if s.Witness == nil || !s.Witness.Votes {
			return fmt.Errorf("no witness votes: %s", Waits(s))
		}
		if said := strings.Contains(Waits(s), "witness"); said == heard {
			return fmt.Errorf("the witness, heard %v: %s", heard, Waits(s))
		}
		return nil
	})
}
