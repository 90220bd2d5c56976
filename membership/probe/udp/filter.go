package udp

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership/probe"
)

// filter is a program for a link's socket that lets in what has a length and
// the first bytes of a probe and comes from one of these addresses, all of the
// socket's family. The kernel runs it before a datagram takes room in the
// socket's buffer and wakes anybody up: others cannot fill the buffer that honest
// probes need. It proves nothing: an address can be forged.
func filter(v4 bool, from []netip.Addr) []unix.SockFilter {
	const (
		udpHeader = 8         // the data begins with it (net/ipv4/udp.c, udp_queue_rcv_one_skb)
		ipHeader  = -0x100000 // where that is loaded from (linux/filter.h, SKF_NET_OFF)
	)
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		size  = unix.BPF_LD | unix.BPF_W | unix.BPF_LEN
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
	)
	magic := binary.BigEndian.Uint32(binary.LittleEndian.AppendUint32(nil, probe.Magic))
	prog := []unix.SockFilter{
		{Code: size}, {Code: equal, Jt: 3, K: udpHeader + probe.Size},
		{Code: least, Jf: 1, K: udpHeader + probe.MinLong}, {Code: least, Jf: 1, K: udpHeader + probe.MaxLong + 1}, {Code: end},
		{Code: load, K: udpHeader}, {Code: equal, Jt: 1, K: magic}, {Code: end},
	}
	source := 8 // in the header of IPv6
	if v4 {
		source = 12
	}
	for _, a := range from {
		b := a.AsSlice()
		for rest := len(b) / 4; rest > 0; rest-- { // on a difference, to the next address
			at := source + len(b) - 4*rest
			prog = append(prog, unix.SockFilter{Code: load, K: uint32(ipHeader + at)},
				unix.SockFilter{Code: equal, Jf: uint8(2*rest - 1), K: binary.BigEndian.Uint32(b[at-source:])})
		}
		prog = append(prog, unix.SockFilter{Code: end, K: 1 << 16})
	}
	return append(prog, unix.SockFilter{Code: end})
}

// setFilter gives a socket its program. Without it the prober works too, so an
// error is not looked at.
func setFilter(fd int, prog []unix.SockFilter) {
	_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}
