package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/tools/lab"
)

// Operator runs quorate against the daemon of a node. It runs on the host, at a socket
// that leads to the daemon's: the start of a program stops a node of User-Mode Linux for
// up to a tenth of a second, which is a death in profile fast.
func (c *Cluster) Operator(ctx context.Context, i int, args ...string) (lab.Result, error) {
	dir, err := os.MkdirTemp(c.tmp, "socket-")
	if err != nil {
		return lab.Result{}, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "quorated")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return lab.Result{}, err
	}
	served := make(chan error, 1)
	go func() { served <- c.lead(ctx, i, l) }()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, c.quorate, append([]string{"--socket", socket}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	l.Close()
	if lerr := <-served; lerr != nil {
		return lab.Result{}, lerr
	}
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return lab.Result{}, fmt.Errorf("node%d: quorate: %w", i, err)
	}
	return lab.Result{Stdout: out.String(), Stderr: said.String(), Code: cmd.ProcessState.ExitCode()}, nil
}

// lead carries a request at a time to the node's daemon, and its answer back, until the
// listener is closed.
func (c *Cluster) lead(ctx context.Context, i int, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil // closed
		}
		if err := c.leadOne(ctx, i, conn); err != nil {
			return err
		}
	}
}

func (c *Cluster) leadOne(ctx context.Context, i int, conn net.Conn) error {
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return nil // one that asked nothing
	}
	answer, err := c.Lab.Node(i).Ask(ctx, control.DefaultSocket, line)
	if err != nil {
		return err
	}
	_, err = conn.Write(answer)
	return err
}
