package dlm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Numbers of sock_diag (uapi/linux/sock_diag.h, inet_diag.h, net/tcp_states.h).
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	tcpSynSent       = 2
	diagReqLen       = 56 // struct inet_diag_req_v2
	diagIDLen        = 48 // struct inet_diag_sockid
	diagMsgLen       = 72 // struct inet_diag_msg
	nlHeader         = 16
	diagTimeout      = 1 // second
)

// sockDiag ends connection attempts through sock_diag, as `ss -K` does.
type sockDiag struct{}

func openDiag() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: diagTimeout})
	return fd, nil
}

// AbortConnects implements Sockets. That the kernel cannot (EOPNOTSUPP) is seen only
// where there is an attempt.
func (sockDiag) AbortConnects(to netip.Addr, port uint16) (int, error) {
	fd, err := openDiag()
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	to = to.Unmap().WithZone("")
	ids, err := synSent(fd, to, port)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, id := range ids {
		err := diagAsk(fd, diagRequest(sockDestroy, unix.NLM_F_REQUEST|unix.NLM_F_ACK, to.Is4(), id), nil)
		if err == unix.ENOENT { // it went by itself
			continue
		}
		if err != nil {
			return n, os.NewSyscallError("SOCK_DESTROY", err)
		}
		n++
	}
	return n, nil
}

// synSent lists the sockets that try to connect to the address and port.
func synSent(fd int, to netip.Addr, port uint16) ([][diagIDLen]byte, error) {
	var ids [][diagIDLen]byte
	req := diagRequest(sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, to.Is4(), [diagIDLen]byte{})
	err := diagAsk(fd, req, func(msg []byte) {
		if id, dst, state, ok := ParseDiag(msg); ok && state == tcpSynSent && dst == netip.AddrPortFrom(to, port) {
			ids = append(ids, id)
		}
	})
	return ids, os.NewSyscallError("list connection attempts", err)
}

// diagRequest is a netlink message with an inet_diag_req_v2.
func diagRequest(kind, flags uint16, v4 bool, id [diagIDLen]byte) []byte {
	b := make([]byte, nlHeader+diagReqLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], 1)
	r := b[nlHeader:]
	r[0] = unix.AF_INET6
	if v4 {
		r[0] = unix.AF_INET
	}
	r[1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(r[4:], 1<<tcpSynSent)
	copy(r[8:], id[:])
	return b
}

// diagAsk sends a request and takes its answers until the last.
func diagAsk(fd int, req []byte, each func(msg []byte)) error {
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		done, err := walkNetlink(buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// walkNetlink calls each with the payload of every message of a datagram. The
// end of a dump or an acknowledgement is done; an error is the kernel's errno.
func walkNetlink(b []byte, each func([]byte)) (done bool, err error) {
	for len(b) >= nlHeader {
		size := int(binary.NativeEndian.Uint32(b))
		if size < nlHeader || size > len(b) {
			return true, fmt.Errorf("%w: netlink message of %d bytes", ErrParse, size)
		}
		body := b[nlHeader:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, fmt.Errorf("%w: netlink error of %d bytes", ErrParse, len(body))
			}
			if errno := -int32(binary.NativeEndian.Uint32(body)); errno > 0 {
				return true, unix.Errno(errno)
			}
			return true, nil
		default:
			if each != nil {
				each(body)
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// ParseDiag reads an inet_diag_msg: the socket's identity, where it is connected
// to, and its state.
func ParseDiag(msg []byte) (id [diagIDLen]byte, to netip.AddrPort, state byte, ok bool) {
	if len(msg) < diagMsgLen {
		return id, to, 0, false
	}
	copy(id[:], msg[4:])
	port := binary.BigEndian.Uint16(id[2:])
	switch msg[0] {
	case unix.AF_INET:
		return id, netip.AddrPortFrom(netip.AddrFrom4([4]byte(id[20:24])), port), msg[1], true
	case unix.AF_INET6:
		return id, netip.AddrPortFrom(netip.AddrFrom16([16]byte(id[20:36])).Unmap(), port), msg[1], true
	}
	return id, to, 0, false
}
