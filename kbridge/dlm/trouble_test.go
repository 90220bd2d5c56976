package dlm_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm"
)

// hexAddr is how the kernel of this machine prints an address and port.
func hexAddr(a string) string {
	ap := netip.MustParseAddrPort(a)
	b := ap.Addr().AsSlice()
	var s strings.Builder
	for i := 0; i < len(b); i += 4 {
		fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b[i:]))
	}
	return fmt.Sprintf("%s:%04X", s.String(), ap.Port())
}

func tcpLine(local, remote string, state, unacked, retries int) string {
	return fmt.Sprintf("   3: %s %s %02X %08X:00000000 01:00000019 %08X     0        0 0 2 0000000000000000 20 0 0 2 -1\n",
		hexAddr(local), hexAddr(remote), state, unacked, retries)
}

const tcpHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func TestParseTCP(t *testing.T) {
	for _, a := range []string{"10.0.0.1:21064", "[2001:db8::7]:40000"} {
		c, ok := dlm.ParseTCP(tcpLine(a, a, 2, 7, 3))
		want := dlm.TCPConn{Local: netip.MustParseAddrPort(a), Remote: netip.MustParseAddrPort(a), State: 2, Unacked: 7, Retries: 3}
		if !ok || c != want {
			t.Errorf("%+v, %v", c, ok)
		}
	}
	good := tcpLine("10.0.0.1:1", "10.0.0.2:2", 1, 0, 0)
	for _, bad := range []string{"", tcpHead, good[:40], strings.Replace(good, " 01 ", " xx ", 1), strings.Replace(good, ":0001", ":", 1),
		strings.Replace(good, hexAddr("10.0.0.1:1"), "0A0000:0001", 1), strings.Replace(good, hexAddr("10.0.0.1:1"), "0A000001000000:0001", 1)} {
		if c, ok := dlm.ParseTCP(bad); ok {
			t.Errorf("%q is %+v", bad, c)
		}
	}
}

func TestTroubles(t *testing.T) {
	net := t.TempDir()
	own, peer, other, own2, peer2 := addrs[1][0].String(), addrs[2][0].String(), "192.0.2.99", "198.51.100.1", "198.51.100.2"
	d := openWith(t, configfstest.Linux6_1, func(o *dlm.Options) {
		o.ProcNet, o.Addrs = net, maps.Clone(addrs)
		o.Addrs[1] = []netip.Addr{addrs[1][0], netip.MustParseAddr(own2)}
		o.Addrs[2] = []netip.Addr{addrs[2][0], netip.MustParseAddr(peer2)}
	})
	at := func(a string, port int) string { return fmt.Sprintf("%s:%d", a, port) }
	for name, c := range map[string]struct {
		line string
		want []dlm.Trouble
	}{
		"nothing":            {"", nil},
		"connects":           {tcpLine(at(own, 40000), at(peer, 21064), 2, 1, 0), []dlm.Trouble{{Node: 2, Text: "SYN unanswered"}}},
		"another port":       {tcpLine(at(own, 40000), at(peer, 22), 2, 1, 0), nil},
		"somebody else":      {tcpLine(at(own, 40000), at(other, 21064), 2, 1, 0), nil},
		"all is well":        {tcpLine(at(own, 40000), at(peer, 21064), 1, 0, 0), nil},
		"one loss":           {tcpLine(at(own, 40000), at(peer, 21064), 1, 700, 1), nil},
		"sent and not heard": {tcpLine(at(own, 21064), at(peer, 40000), 1, 700, 4), []dlm.Trouble{{Node: 2, Text: "700 bytes unanswered, sent 5 times: a path with a smaller MTU, or a firewall that has forgotten the connection?", Again: 4}}},
		"a user's":           {strings.Replace(tcpLine(at(own, 40000), at(peer, 21064), 2, 1, 5), "     0        0", "  1000        0", 1), nil},
		"to another address": {tcpLine(at(own, 40000), at(peer2, 21064), 2, 1, 5), nil},
		"from another":       {tcpLine(at(own2, 40000), at(peer, 21064), 2, 1, 5), nil},
		"two attempts":       {strings.Repeat(tcpLine(at(own, 40000), at(peer, 21064), 2, 1, 0), 2), []dlm.Trouble{{Node: 2, Text: "SYN unanswered"}}},
	} {
		if err := os.WriteFile(filepath.Join(net, "tcp"), []byte(tcpHead+c.line), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := d.Troubles(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if err := os.Remove(filepath.Join(net, "tcp")); err != nil {
		t.Fatal(err)
	}
	if got := d.Troubles(); len(got) != 0 {
		t.Errorf("without a file: %v", got)
	}
}

func FuzzParseTCP(f *testing.F) {
	f.Add(tcpLine("10.0.0.1:21064", "10.0.0.2:40000", 1, 0, 0))
	f.Add(tcpLine("[2001:db8::7]:40000", "[2001:db8::8]:21064", 2, 1, 2))
	f.Fuzz(func(t *testing.T, line string) {
		if c, ok := dlm.ParseTCP(line); ok && (!c.Local.Addr().IsValid() || !c.Remote.Addr().IsValid()) {
			t.Fatalf("%+v", c)
		}
	})
}

// TestConns: of all that is on the DLM's port, the kernel's own connections with its
// peers' first addresses. The fake has no sock_diag, so they are read from /proc.
func TestConns(t *testing.T) {
	net := t.TempDir()
	own, peer, third := addrs[1][0].String(), addrs[2][0].String(), addrs[3][0].String()
	d := openWith(t, configfstest.Linux6_18, func(o *dlm.Options) { o.ProcNet, o.Addrs = net, addrs })
	at := func(a string, port int) string { return fmt.Sprintf("%s:%d", a, port) }
	lines := tcpHead +
		tcpLine(at(own, 40000), at(third, 21064), 2, 1, 3) +
		tcpLine(at(own, 40001), at(peer, 21064), 2, 1, 0) +
		tcpLine(at(own, 21064), at(peer, 40000), 1, 700, 0) +
		tcpLine(at(own, 21064), at(peer, 40002), 6, 0, 0) + // waits for its time to pass
		tcpLine(at(own, 21064), "0.0.0.0:0", 10, 0, 0) +
		tcpLine(at(own, 22), at(peer, 40000), 1, 0, 0) +
		tcpLine("192.0.2.9:21064", at(peer, 40000), 1, 0, 0) +
		strings.Replace(tcpLine(at(own, 40009), at(peer, 21064), 1, 0, 0), "     0        0", "  1000        0", 1)
	if err := os.WriteFile(filepath.Join(net, "tcp"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range d.Conns() {
		got = append(got, fmt.Sprintf("%d %s %d bytes, %d times", c.Node, c.StateName(), c.Unacked, c.Retries))
	}
	want := []string{"2 established 700 bytes, 0 times", "2 syn-sent 1 bytes, 0 times", "3 syn-sent 1 bytes, 3 times"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
