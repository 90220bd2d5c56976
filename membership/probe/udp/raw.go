package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
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

// recv reads a datagram from a socket that does not block.
func recv(fd int, b []byte) (int, bool) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), e == 0
}
