package dlm

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connMessage is an inet_diag_msg with a tcp_info of that length behind it.
func connMessage(family byte, from, to netip.AddrPort, info int) []byte {
	b := diagMessage(family, tcpEstablished, to)
	b[3] = 4
	binary.BigEndian.PutUint16(b[4:], from.Port())
	copy(b[8:], from.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[60:], 700)
	attr := make([]byte, 4+info, (4+info+3)&^3)
	binary.NativeEndian.PutUint16(attr, uint16(len(attr)))
	binary.NativeEndian.PutUint16(attr[2:], diagInfo)
	if info >= infoLen {
		binary.NativeEndian.PutUint32(attr[4+infoRTT:], 250)
		binary.NativeEndian.PutUint32(attr[4+infoRetransmits:], 9)
	}
	shutdown := []byte{5, 0, 8, 0, 0, 0, 0, 0} // INET_DIAG_SHUTDOWN is always there
	return append(append(b, shutdown...), attr[:cap(attr)]...)
}

func TestParseConn(t *testing.T) {
	for family, a := range map[byte][2]string{
		unix.AF_INET: {"10.0.0.1:40000", "10.0.0.2:21064"}, unix.AF_INET6: {"[fd00::1]:21064", "[fd00::2]:40001"},
	} {
		want := Conn{TCPConn: TCPConn{Local: netip.MustParseAddrPort(a[0]), Remote: netip.MustParseAddrPort(a[1]), State: tcpEstablished, Unacked: 700, Retries: 4},
			RTT: 250 * time.Microsecond, Retransmits: 9}
		msg := connMessage(family, want.Local, want.Remote, infoLen+130)
		if got, ok := ParseConn(msg); !ok || got != want {
			t.Errorf("%+v, %v, want %+v", got, ok, want)
		}
		want.RTT, want.Retransmits = 0, 0
		for _, short := range [][]byte{connMessage(family, want.Local, want.Remote, infoLen-1), msg[:diagMsgLen], msg[:len(msg)-40], append(msg[:diagMsgLen:diagMsgLen], 3, 0, 2, 0)} {
			if got, ok := ParseConn(short); !ok || got != want {
				t.Errorf("without all of tcp_info: %+v, %v, want %+v", got, ok, want)
			}
		}
	}
	if c, ok := ParseConn(make([]byte, diagMsgLen)); ok {
		t.Errorf("no family: %+v", c)
	}
}

func TestStateName(t *testing.T) {
	for state, want := range map[byte]string{0: "state 0", 1: "established", 2: "syn-sent", 10: "listen", 11: "closing", 12: "state 12", 255: "state 255"} {
		if got := (TCPConn{State: state}).StateName(); got != want {
			t.Errorf("%d: %s, want %s", state, got, want)
		}
	}
}

// TestConnsOfThisKernel asks the kernel that runs the test for connections of its own. The
// acknowledgement of the last byte may be delayed.
func TestConnsOfThisKernel(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(host), 0).String())
		if err != nil {
			t.Log(err) // no such protocol on this machine
			continue
		}
		defer func() { _ = l.Close() }()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		echo(t, c, s)
		port := l.Addr().(*net.TCPAddr).AddrPort()
		all, err := sockDiag{}.Conns(port.Port(), port.Addr().Unmap().Is4())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 2 {
			t.Fatalf("%+v, want both ends", all)
		}
		for _, x := range all {
			if x.StateName() != "established" || x.RTT <= 0 || x.RTT > time.Second || x.Unacked > 1 || x.Local == x.Remote || x.Local != port && x.Remote != port {
				t.Errorf("%+v", x)
			}
		}
	}
}

func echo(t *testing.T, a, b net.Conn) {
	t.Helper()
	buf := make([]byte, 1)
	for range 3 {
		if _, err := a.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParseConn(f *testing.F) {
	f.Add(connMessage(unix.AF_INET, netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:21064"), infoLen))
	f.Add(connMessage(unix.AF_INET6, netip.MustParseAddrPort("[fd00::1]:21064"), netip.MustParseAddrPort("[fd00::2]:40001"), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := ParseConn(b); ok && (!c.Local.Addr().IsValid() || !c.Remote.Addr().IsValid() || c.RTT < 0) {
			t.Fatalf("%+v", c)
		}
	})
}
