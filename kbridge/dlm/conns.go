package dlm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

// Conn is a connection of this kernel's DLM with the kernel of a peer. A pair has one,
// and for moments two, when both began at once. It is made when a lockspace has both as
// members, and stays until one of them has no lockspace any more.
type Conn struct {
	Node membership.NodeID
	TCPConn
	// RTT is the kernel's smoothed round trip, and Retransmits how many segments were
	// sent again in the connection's life; both need sock_diag, and are 0 without.
	RTT         time.Duration
	Retransmits uint32
}

// Conns are the connections of this kernel's DLM with its peers, by node. It asks
// sock_diag, or where this kernel has none /proc/net/tcp, which says less.
func (d *Driver) Conns() []Conn {
	all, err := d.o.Sockets.Conns(d.o.Port, d.addrsOf(d.o.Self)[0].Unmap().Is4())
	if err != nil {
		all = d.procConns()
	}
	all = slices.DeleteFunc(all, func(c Conn) bool { return d.peerOf(c.TCPConn) == 0 })
	for i := range all {
		all[i].Node = d.peerOf(all[i].TCPConn)
	}
	slices.SortFunc(all, func(a, b Conn) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.State, b.State), a.Local.Compare(b.Local)) // established first
	})
	return all
}

// procConns reads every connection of this machine that goes anywhere.
func (d *Driver) procConns() (all []Conn) {
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(d.o.ProcNet, name))
		if err != nil {
			continue // no such protocol on this machine
		}
		for line := range strings.Lines(string(text)) {
			if c, ok := ParseTCP(line); ok && 1<<c.State&connStates != 0 {
				all = append(all, Conn{TCPConn: c})
			}
		}
	}
	return all
}

// peerOf says whose connection with this kernel's DLM it is; 0: it is none. The kernel's
// are root's, from our first address to the peer's. What another program tries is no matter
// of the DLM's path: it may use an address on which the port is closed for a reason.
func (d *Driver) peerOf(c TCPConn) (peer membership.NodeID) {
	if c.Remote.Port() != d.o.Port && c.Local.Port() != d.o.Port || c.UID != 0 || !d.first(d.o.Self, c.Local) {
		return 0
	}
	for n := range *d.addrs.Load() {
		if n != d.o.Self && d.first(n, c.Remote) {
			peer = n
		}
	}
	return peer
}

// stateNames are the states of a TCP socket (net/tcp_states.h), in the words of ss(8).
var stateNames = [...]string{1: "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "closed", "close-wait", "last-ack", "listen", "closing"}

// connStates are those in which there is a peer that may answer: a socket that only
// waits for its time to pass has none, and no owner.
const connStates = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

// StateName is the state in a word.
func (c TCPConn) StateName() string {
	if int(c.State) < len(stateNames) && stateNames[c.State] != "" {
		return stateNames[c.State]
	}
	return fmt.Sprintf("state %d", c.State)
}

// Offsets of what inet_diag adds to an inet_diag_msg, and of the fields of tcp_info that
// are there since Linux 2.6 (uapi/linux/inet_diag.h, tcp.h).
const (
	diagInfo        = 2  // INET_DIAG_INFO, an attribute
	infoRTT         = 68 // tcpi_rtt, µs
	infoRetransmits = 100
	infoLen         = 104
)

// Conns implements Sockets: the sockets with that port at either end.
func (sockDiag) Conns(port uint16, v4 bool) (all []Conn, err error) {
	fd, err := openDiag()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	for end := range 2 {
		var id [diagIDLen]byte
		binary.BigEndian.PutUint16(id[2*end:], port) // the source's, then the destination's
		req := diagRequest(sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, v4, id)
		req[nlHeader+2] = 1 << (diagInfo - 1)
		binary.NativeEndian.PutUint32(req[nlHeader+4:], connStates)
		err = diagAsk(fd, req, func(msg []byte) {
			if c, ok := ParseConn(msg); ok && !slices.ContainsFunc(all, func(o Conn) bool { return o.Local == c.Local && o.Remote == c.Remote }) {
				all = append(all, c)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ParseConn reads an inet_diag_msg and the tcp_info behind it, if there is one.
func ParseConn(msg []byte) (c Conn, ok bool) {
	id, to, state, ok := ParseDiag(msg)
	if !ok {
		return c, false
	}
	from, _ := netip.AddrFromSlice(id[4:8])
	if msg[0] == unix.AF_INET6 {
		from, _ = netip.AddrFromSlice(id[4:20])
	}
	c.Local = netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(id[:]))
	c.Remote, c.State, c.Retries = to, state, uint32(msg[3])
	c.Unacked = binary.NativeEndian.Uint32(msg[60:]) // idiag_wqueue
	c.UID = binary.NativeEndian.Uint32(msg[64:])
	for b := msg[diagMsgLen:]; len(b) >= 4; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		if info := b[4:size]; binary.NativeEndian.Uint16(b[2:]) == diagInfo && len(info) >= infoLen {
			c.RTT = time.Duration(binary.NativeEndian.Uint32(info[infoRTT:])) * time.Microsecond
			c.Retransmits = binary.NativeEndian.Uint32(info[infoRetransmits:])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return c, true
}
