package daemon

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
)

func TestHinted(t *testing.T) {
	conn := func(peer membership.NodeID, port uint16, edit func(*dlm.Conn)) dlm.Conn {
		c := dlm.Conn{Node: peer, Retransmits: 5, TCPConn: dlm.TCPConn{State: 1, Local: netip.MustParseAddrPort("10.0.0.1:21064"),
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(peer)}), port)}}
		if edit != nil {
			edit(&c)
		}
		return c
	}
	well := []dlm.Conn{conn(2, 1, nil), conn(3, 1, nil)}
	for _, c := range []struct {
		name     string
		was, now []dlm.Conn
		want     []membership.NodeID
	}{
		{"none", nil, nil, nil},
		{"well", well, well, nil},
		{"a new one", nil, []dlm.Conn{conn(2, 1, func(c *dlm.Conn) { c.Retransmits = 0 })}, nil},
		{"one that sends its SYN again", nil, []dlm.Conn{conn(2, 1, func(c *dlm.Conn) { c.State, c.Retransmits, c.Retries = 2, 0, 1 })}, []membership.NodeID{2}},
		{"retransmits", well, []dlm.Conn{conn(2, 1, nil), conn(3, 1, func(c *dlm.Conn) { c.Retransmits++ })}, []membership.NodeID{3}},
		{"fewer of them", well, []dlm.Conn{conn(2, 1, nil), conn(3, 1, func(c *dlm.Conn) { c.Retransmits-- })}, nil},
		{"retries, without sock_diag", well, []dlm.Conn{conn(2, 1, func(c *dlm.Conn) { c.Retries = 1 }), conn(3, 1, nil)}, []membership.NodeID{2}},
		{"reset", well, []dlm.Conn{conn(3, 1, nil)}, []membership.NodeID{2}},
		{"reset and made anew", well, []dlm.Conn{conn(2, 9, func(c *dlm.Conn) { c.Retransmits = 0 }), conn(3, 1, nil)}, []membership.NodeID{2}},
		{"one that never was whole is gone", []dlm.Conn{conn(2, 1, func(c *dlm.Conn) { c.State = 2 })}, nil, nil},
		{"both, twice", append(well, conn(2, 7, nil)), []dlm.Conn{conn(2, 1, func(c *dlm.Conn) { c.Retransmits++ })}, []membership.NodeID{2, 3}},
	} {
		if got := hinted(c.was, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNextHint(t *testing.T) {
	for _, c := range []struct {
		some            bool
		dead, took, out time.Duration
	}{
		{false, 2 * time.Second, time.Millisecond, pathLook},
		{true, 2 * time.Second, time.Millisecond, 500 * time.Millisecond},
		{true, 200 * time.Millisecond, 0, hintLook},
		{true, time.Minute, 0, pathLook},
		{true, 2 * time.Second, 20 * time.Millisecond, 4 * time.Second},
		{true, 2 * time.Second, time.Hour, pathRare},
	} {
		if got := nextHint(c.some, c.dead, c.took); got != c.out {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestBehind(t *testing.T) {
	a := netip.MustParseAddr
	cfg := config.Config{Config: membership.Config{Nodes: []membership.Node{
		{ID: 1, Addrs: []netip.Addr{a("10.0.0.1"), a("fe80::1%eth1")}},
		{ID: 2, Addrs: []netip.Addr{a("10.0.0.2"), a("fe80::2%eth1")}},
		{ID: 3, Addrs: []netip.Addr{a("10.0.0.3")}},
	}}}
	cfg.Self = 1
	on := func(texts ...string) (out []net.Addr) {
		for _, x := range texts {
			ip, n, err := net.ParseCIDR(x)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return out
	}
	for _, c := range []struct {
		addrs []net.Addr
		want  []membership.NodeID
	}{
		{nil, nil},
		{on("10.0.0.2/24", "192.168.0.1/16"), nil},
		{on("192.168.0.1/16", "10.0.0.1/24"), []membership.NodeID{2, 3}},
		{on("fe80::1/64"), []membership.NodeID{2}},
		{on("fe80::1/64", "10.0.0.1/24"), []membership.NodeID{2, 3}},
		{[]net.Addr{&net.UnixAddr{Name: "x"}}, nil},
	} {
		if got := behind(cfg, c.addrs); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.addrs, got, c.want)
		}
	}
}
