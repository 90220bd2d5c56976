package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// now is CLOCK_BOOTTIME.
func now() membership.Mono {
	var ts unix.Timespec
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0) // cannot fail: since Linux 2.6.39
	return membership.Mono(ts.Nano())
}

// rawAddress is a socket address as the kernel takes it.
type rawAddress struct {
	b [unix.SizeofSockaddrInet6]byte
	n uintptr
}

// rawAddr is the kernel's form of an address; the zone is for link-local ones.
func rawAddr(a netip.AddrPort, zone uint32) *rawAddress {
	var r rawAddress
	binary.BigEndian.PutUint16(r.b[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(r.b[:], unix.AF_INET)
		ip := a.Addr().As4()
		copy(r.b[4:], ip[:])
		r.n = unix.SizeofSockaddrInet4
		return &r
	}
	binary.NativeEndian.PutUint16(r.b[:], unix.AF_INET6)
	ip := a.Addr().As16()
	copy(r.b[8:], ip[:])
	if a.Addr().IsLinkLocalUnicast() {
		binary.NativeEndian.PutUint32(r.b[24:], zone)
	}
	r.n = unix.SizeofSockaddrInet6
	return &r
}

// sendTo sends a datagram on a socket that does not block.
func sendTo(fd int, b []byte, to *rawAddress) bool {
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&to.b)), to.n)
	return e == 0
}

// outbox has probes to many peers, which go out by one system call.
type outbox struct {
	n       int
	targets [outboxSize]*target
	headers [outboxSize]mmsghdr
	vectors [outboxSize]unix.Iovec
	probes  [outboxSize][probe.Size]byte
}

const outboxSize = 32

// mmsghdr is the kernel's struct mmsghdr (linux/socket.h).
type mmsghdr struct {
	unix.Msghdr
	sent uint32
}

func (o *outbox) full() bool { return o.n == len(o.headers) }

// add returns the memory of a probe to a target.
func (o *outbox) add(t *target) *[probe.Size]byte {
	to := t.probeTo
	o.targets[o.n] = t
	h, v, b := &o.headers[o.n], &o.vectors[o.n], &o.probes[o.n]
	o.n++
	v.Base = &b[0]
	v.SetLen(len(b))
	h.Name, h.Namelen, h.Iov = &to.b[0], uint32(to.n), v
	h.SetIovlen(1)
	return b
}

// flush sends what was added on a socket that does not block. One that the kernel does not
// take holds up none of the others.
func (o *outbox) flush(fd int) (sent, failed uint64) {
	for at := 0; at < o.n; {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.headers[at])), uintptr(o.n-at),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if e != 0 || n == 0 {
			failed++
			if e == unix.EAGAIN {
				o.targets[at].unasked()
			}
			at++
			continue
		}
		sent += uint64(n)
		at += int(n)
	}
	o.n = 0
	return sent, failed
}

// recv reads a datagram from a socket that does not block.
func recv(fd int, b []byte) (int, bool) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), e == 0
}
