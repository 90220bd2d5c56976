package carrier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The parts of an ifinfomsg that are looked at (uapi/linux/rtnetlink.h).
const (
	infoIndex = 4
	infoFlags = 8
	infoLen   = 16
)

// Watch calls lost with the index of each interface that has no carrier when the kernel tells
// of it, until ctx ends. It may be told of one again and again.
func Watch(ctx context.Context, lost func(index int)) error {
	f, err := open()
	if err != nil {
		return fmt.Errorf("carrier: %w", err)
	}
	return watch(ctx, f, lost)
}

// watch closes the socket in the end.
func watch(ctx context.Context, f *os.File, lost func(index int)) error {
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("carrier: %w", err)
	}
	buf := make([]byte, 32<<10)
	for {
		n, from := 0, unix.Sockaddr(nil)
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return rerr != unix.EAGAIN && rerr != unix.EINTR
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("carrier: %w", err)
		case rerr == unix.ENOBUFS: // something was lost
			continue
		case rerr != nil:
			return fmt.Errorf("carrier: %w", os.NewSyscallError("recvfrom", rerr))
		}
		if a, ok := from.(*unix.SockaddrNetlink); ok && a.Pid == 0 {
			for _, index := range Parse(buf[:n]) {
				lost(index)
			}
		}
	}
}

func open() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}

// Parse reads a datagram of rtnetlink: the indexes of the interfaces that have no carrier. What
// it does not understand says nothing.
func Parse(b []byte) (lost []int) {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < infoLen {
			continue
		}
		index := int32(binary.NativeEndian.Uint32(m.Data[infoIndex:]))
		if flags := binary.NativeEndian.Uint32(m.Data[infoFlags:]); flags&unix.IFF_LOWER_UP == 0 && index > 0 {
			lost = append(lost, int(index))
		}
	}
	return lost
}
