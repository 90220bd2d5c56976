package dlm

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ueventBuffer = 32 << 20    // bytes of kernel memory for uevents not yet read
	dropCheck    = time.Second // how often a quiet socket is asked for losses
	soMeminfo    = 55          // SO_MEMINFO (asm-generic/socket.h)
	memDrops     = 8           // SK_MEMINFO_DROPS (linux/sock_diag.h)
	memVars      = 9           // SK_MEMINFO_VARS
	ueventGroup  = 1           // the kernel's own; 2 is udev's
)

// ueventSocket hears the kernel's uevents. NETLINK_NO_ENOBUFS keeps an overrun
// from shutting the socket off until it is empty; losses are seen in the
// socket's drop counter instead.
type ueventSocket struct {
	f     *os.File
	buf   [2 * maxUevent]byte
	drops uint32
	queue []byte // a datagram that came with a loss before it
}

func openUevents() (*ueventSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, ueventBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, ueventBuffer) // without CAP_NET_ADMIN: what it gets
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: ueventGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &ueventSocket{f: os.NewFile(uintptr(fd), "uevent")}, nil
}

// Next implements Uevents.
func (s *ueventSocket) Next() ([]byte, error) {
	if s.queue != nil {
		b := s.queue
		s.queue = nil
		return b, nil
	}
	for {
		if err := s.f.SetReadDeadline(time.Now().Add(dropCheck)); err != nil {
			return nil, err
		}
		b, err := s.receive()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		lost, lerr := s.lost()
		if lerr != nil {
			return nil, lerr
		}
		if lost {
			s.queue = b
			return nil, ErrOverrun
		}
		if b != nil {
			return b, nil
		}
	}
}

// receive takes one datagram; nil if it was not the kernel's.
func (s *ueventSocket) receive() ([]byte, error) {
	c, err := s.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var (
		n    int
		from unix.Sockaddr
		rerr error
	)
	err = c.Read(func(fd uintptr) bool {
		n, from, rerr = unix.Recvfrom(int(fd), s.buf[:], 0)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err != nil {
		return nil, err
	}
	if errors.Is(rerr, unix.ENOBUFS) {
		return nil, ErrOverrun
	}
	if rerr != nil {
		return nil, os.NewSyscallError("recvfrom", rerr)
	}
	if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
		return nil, nil
	}
	return append([]byte(nil), s.buf[:n]...), nil
}

// lost says whether the socket has dropped datagrams since the last call.
func (s *ueventSocket) lost() (bool, error) {
	c, err := s.f.SyscallConn()
	if err != nil {
		return false, err
	}
	var info [memVars]uint32
	var gerr error
	if err := c.Control(func(fd uintptr) { gerr = getMeminfo(int(fd), &info) }); err != nil {
		return false, err
	}
	if gerr != nil {
		return false, fmt.Errorf("SO_MEMINFO: %w", gerr)
	}
	was := s.drops
	s.drops = info[memDrops]
	return s.drops != was, nil
}

// Close implements Uevents.
func (s *ueventSocket) Close() error { return s.f.Close() }
