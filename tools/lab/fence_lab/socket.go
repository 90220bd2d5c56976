package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection of blocking system calls that end at a given time.
type socket struct {
	fd  int
	end time.Time
}

func dial(ip, port string, end time.Time) (*socket, error) {
	to, err := netip.ParseAddrPort(ip + ":" + port)
	if err != nil || !to.Addr().Is4() {
		return nil, fmt.Errorf("ip=%s, port %s: not an IPv4 address and a port", ip, port)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &socket{fd, end}
	err = s.limit(unix.SO_SNDTIMEO)
	if err == nil {
		err = again(func() error {
			return unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		})
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("connect to %v: %w", to, timeout(err))
	}
	return s, nil
}

// limit makes the next call in a direction end at the socket's end.
func (s *socket) limit(direction int) error {
	left := time.Until(s.end)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	tv := unix.NsecToTimeval(max(left.Nanoseconds(), 1000))
	return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, direction, &tv)
}

// again repeats a call that a signal ended. A connection that has come up
// meanwhile is EISCONN.
func again(call func() error) error {
	err := call()
	for errors.Is(err, unix.EINTR) || errors.Is(err, unix.EALREADY) {
		err = call()
	}
	if errors.Is(err, unix.EISCONN) {
		return nil
	}
	return err
}

// timeout names what the kernel answers when SO_SNDTIMEO or SO_RCVTIMEO is over.
func timeout(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINPROGRESS) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Write sends a short request.
func (s *socket) Write(b []byte) (int, error) {
	if err := s.limit(unix.SO_SNDTIMEO); err != nil {
		return 0, err
	}
	var n int
	err := again(func() (err error) { n, err = unix.Write(s.fd, b); return err })
	return max(n, 0), timeout(err)
}

func (s *socket) Read(b []byte) (int, error) {
	if err := s.limit(unix.SO_RCVTIMEO); err != nil {
		return 0, err
	}
	var n int
	err := again(func() (err error) { n, err = unix.Read(s.fd, b); return err })
	switch {
	case err != nil:
		return 0, timeout(err)
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Close ends the connection.
func (s *socket) Close() error { return unix.Close(s.fd) }
