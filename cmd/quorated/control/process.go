package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Process is the process of a daemon. It is known by a descriptor (pidfd_open,
// Linux 5.3), so that another one that gets its number is not taken for it.
type Process struct {
	fd  int
	pid int32
}

// Process returns the process that listens at the other end of an unused client.
func (c *Client) Process() (*Process, error) {
	if c.conn == nil {
		return nil, errors.New("the connection is used up")
	}
	p, err := identify(c.conn)
	if err != nil {
		return nil, err
	}
	return openProcess(p.PID)
}

func openProcess(pid int32) (*Process, error) {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return nil, fmt.Errorf("find process %d of quorated: %w", pid, err)
	}
	return &Process{fd: fd, pid: pid}, nil
}

// WaitEnd returns nil when the process has ended: its files are closed and its
// ports free. It gives up after the limit, or when ctx ends.
func (p *Process) WaitEnd(ctx context.Context, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("quorated (process %d) has not ended within %v", p.pid, limit)
		}
		slice := min(left, 200*time.Millisecond) // ctx is looked at that often
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(slice/time.Millisecond)+1)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d of quorated: %w", p.pid, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// Close gives the descriptor back.
func (p *Process) Close() error { return unix.Close(p.fd) }
