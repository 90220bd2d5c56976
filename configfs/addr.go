package configfs

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sockaddrLen is sizeof(struct sockaddr_storage): what `addr` takes, no more
// and no less (comm_addr_store).
const sockaddrLen = 128

// Sockaddr is the value that `addr` takes: a sockaddr_storage in which the port
// is 0, because the kernel compares it with a peer's address whose port it has
// zeroed; the port in use comes from tcp_port.
func Sockaddr(a netip.Addr) ([]byte, error) {
	b := make([]byte, sockaddrLen)
	switch a = a.Unmap(); {
	case a.Is4():
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		v := a.As4()
		copy(b[4:], v[:])
	case a.Is6():
		scope, err := scopeID(a.Zone())
		if err != nil {
			return nil, err
		}
		binary.NativeEndian.PutUint16(b, unix.AF_INET6)
		v := a.As16()
		copy(b[8:], v[:])
		binary.NativeEndian.PutUint32(b[24:], scope)
	default:
		return nil, fmt.Errorf("%w: no address", ErrAddr)
	}
	return b, nil
}

// scopeID is the interface's index; a zone that is a number is that index.
func scopeID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("%w: zone %q: %w", ErrAddr, zone, err)
	}
	return uint32(i.Index), nil
}

// ParseSockaddr reads what Sockaddr made. The zone comes back as a number.
func ParseSockaddr(b []byte) (netip.Addr, error) {
	if len(b) != sockaddrLen {
		return netip.Addr{}, fmt.Errorf("%w: %d bytes, want %d", ErrAddr, len(b), sockaddrLen)
	}
	if port := binary.BigEndian.Uint16(b[2:]); port != 0 {
		return netip.Addr{}, fmt.Errorf("%w: port %d, want 0", ErrAddr, port)
	}
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b[4:8])), nil
	case unix.AF_INET6:
		a := netip.AddrFrom16([16]byte(b[8:24]))
		if scope := binary.NativeEndian.Uint32(b[24:]); scope != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(scope), 10))
		}
		return a, nil
	default:
		return netip.Addr{}, fmt.Errorf("%w: family %d", ErrAddr, family)
	}
}

// parseAddrList reads `addr_list`: a line for each address, family and address
// apart by white space. Zones are not in it.
func parseAddrList(text string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 {
			return nil, fmt.Errorf("%w: addr_list line %q", ErrAddr, line)
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			return nil, fmt.Errorf("%w: addr_list: %w", ErrAddr, err)
		}
		addrs = append(addrs, bare(a))
	}
	return addrs, nil
}

// bare is the address as addr_list would print it.
func bare(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
