package dlm

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/membership"
)

// Trouble is what a peer does not answer to the DLM of this node's kernel.
type Trouble struct {
	Node  membership.NodeID
	Text  string // "SYN unanswered"
	Again uint32 // how often it was sent again; 0: it may be a matter of milliseconds
}

// Troubles asks this machine's network for what the kernel's DLM waits for. It
// reads /proc/net/tcp, which takes some ms where there are many thousand
// connections: it is for those who want to know why a recovery does not end.
func (d *Driver) Troubles() []Trouble {
	var all []Trouble
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(d.o.ProcNet, name))
		if err != nil {
			continue // no such protocol on this machine
		}
		for line := range strings.Lines(string(text)) {
			c, ok := ParseTCP(line)
			if !ok {
				continue
			}
			if t := d.trouble(c); t.Text != "" && !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	slices.SortFunc(all, func(a, b Trouble) int { return int(a.Node) - int(b.Node) })
	return all
}

const synUnanswered = "SYN unanswered"

// trouble is what a connection says, if it is one of the kernel's DLM.
func (d *Driver) trouble(c TCPConn) (t Trouble) {
	t.Node = d.peerOf(c)
	t.Again = c.Retries
	switch {
	case t.Node == 0:
	case c.State == tcpSynSent && c.Remote.Port() == d.o.Port:
		t.Text = synUnanswered
	case c.State == tcpEstablished && c.Retries > 1:
		t.Text = fmt.Sprintf("%d bytes unanswered, sent %d times: a path with a smaller MTU, or a firewall that has forgotten the connection?", c.Unacked, c.Retries+1)
	}
	return t
}

// first says that an address is a node's first one.
func (d *Driver) first(n membership.NodeID, a netip.AddrPort) bool {
	own := d.addrsOf(n)
	return len(own) > 0 && own[0].Unmap().WithZone("") == a.Addr()
}

const tcpEstablished = 1

// TCPConn is one line of /proc/net/tcp or tcp6.
type TCPConn struct {
	Local, Remote netip.AddrPort
	State         byte
	Unacked       uint32 // bytes that the peer has not acknowledged
	Retries       uint32 // how often they were sent again
	UID           uint32 // whose it is; the kernel's own are root's
}

// ParseTCP reads a line of /proc/net/tcp or tcp6 (net/ipv4/tcp_ipv4.c,
// get_tcp4_sock). The first line of the file, and a socket that is not connected
// to anything yet, are lines of another kind.
func ParseTCP(line string) (c TCPConn, ok bool) {
	f := strings.Fields(line)
	if len(f) < 8 {
		return c, false
	}
	state, err1 := strconv.ParseUint(f[3], 16, 8)
	unacked, _, _ := strings.Cut(f[4], ":")
	tx, err2 := strconv.ParseUint(unacked, 16, 32)
	retries, err3 := strconv.ParseUint(f[6], 16, 32)
	uid, err4 := strconv.ParseUint(f[7], 10, 32)
	var ok1, ok2 bool
	c.Local, ok1 = parseSocketAddr(f[1])
	c.Remote, ok2 = parseSocketAddr(f[2])
	c.State, c.Unacked, c.Retries, c.UID = byte(state), uint32(tx), uint32(retries), uint32(uid)
	return c, err1 == nil && err2 == nil && err3 == nil && err4 == nil && ok1 && ok2
}

// parseSocketAddr reads words of 32 bits in the machine's byte order, in
// hexadecimal digits, and a port.
func parseSocketAddr(s string) (a netip.AddrPort, ok bool) {
	host, port, _ := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	b, herr := hex.DecodeString(host)
	if err != nil || herr != nil || len(b)%4 != 0 {
		return a, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), ok
}
