package tcp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

func testHello() hello {
	return hello{protocol: 1, feature: 2, from: 3, to: 4, instance: 5, config: [32]byte{6, 31: 7}, cluster: "alpha"}
}

func TestHello(t *testing.T) {
	want := testHello()
	b := want.marshal()
	for _, form := range [][]byte{b, append(bytes.Clone(b), "\x00of a later version"...)} {
		if got, err := parseHello(form); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	spare := testHello()
	spare.spare = true
	if got, err := parseHello(spare.marshal()); err != nil || got != spare {
		t.Errorf("%+v, %v", got, err)
	}
	spare.feature = 1 // what followed then is not known
	if got, err := parseHello(spare.marshal()); err != nil || got.spare {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range len(b) {
		if _, err := parseHello(b[:n]); !errors.Is(err, ErrGarbage) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	b[0]++
	if _, err := parseHello(b); !errors.Is(err, ErrGarbage) {
		t.Errorf("wrong magic: %v", err)
	}
	long := testHello()
	long.cluster = strings.Repeat("x", maxCluster)
	if n := len(long.marshal()); n > maxHandshake {
		t.Errorf("a hello of %d bytes", n)
	}
}

func TestRefusal(t *testing.T) {
	for _, reason := range []error{ErrKey, ErrCluster, ErrNode, ErrProtocol, ErrGarbage} {
		got := parseRefusal(marshalRefusal(refuse(reason, "because")))
		if !got.Remote || got.Reason != reason || got.Text != "because" || !errors.Is(got, reason) {
			t.Errorf("%v became %v", reason, got)
		}
	}
	if got := parseRefusal(nil); !errors.Is(got, ErrGarbage) {
		t.Error(got)
	}
	if got := parseRefusal([]byte{99, 'x'}); !errors.Is(got, ErrProtocol) {
		t.Error(got)
	}
	if got := parseRefusal([]byte("\x01one\ntwo\x1b[31m\xff")); got.Text != "one?two?[31m?" {
		t.Errorf("%q", got.Text)
	}
	if n := len(marshalRefusal(refuse(ErrKey, "%s", strings.Repeat("x", 5000)))); n > maxHandshake {
		t.Errorf("%d bytes", n)
	}
}

func TestReadFrame(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", io.EOF},
		{"part of a header", "\x00\x00", io.ErrUnexpectedEOF},
		{"no body", "\x00\x00\x00\x03\x04", io.ErrUnexpectedEOF},
		{"part of a body", "\x00\x00\x00\x03\x04a", io.ErrUnexpectedEOF},
		{"length 0", "\x00\x00\x00\x00\x04", ErrGarbage},
		{"one too long", "\x00\x00\x00\x0a\x04123456789", ErrGarbage},
		{"4 GiB", "\xff\xff\xff\xff\x04", ErrGarbage},
		{"good", "\x00\x00\x00\x09\x0412345678", nil},
		{"empty", "\x00\x00\x00\x01\x04", nil},
	} {
		kind, body, err := readFrame(bufio.NewReader(strings.NewReader(c.in)), 8)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.want == nil && (kind != 4 || string(body) != c.in[headerSize:]) {
			t.Errorf("%s: %d %q", c.name, kind, body)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameMessage, []byte("x")))
	f.Add(appendFrame(appendFrame(nil, frameReady, nil), frameMessage, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			kind, body, err := readFrame(r, maxHandshake)
			if err != nil {
				break
			}
			if len(body) > maxHandshake {
				t.Fatalf("%d bytes", len(body))
			}
			again = appendFrame(again, kind, body)
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%q was read as %q", b, again)
		}
	})
}

func FuzzHello(f *testing.F) {
	h := testHello()
	f.Add(h.marshal())
	f.Add([]byte("quorate\x00"))
	f.Add([]byte("quorate\x000000000000000000000000000000000000000000000000000000\x001")) // not 1, but '1'
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = parseRefusal(b).Error()
		h, err := parseHello(b)
		if err == nil && !bytes.HasPrefix(b, h.marshal()) {
			t.Errorf("%q was read as %+v", b, h)
		}
	})
}

// What net and os say before a cause is said already.
func TestOpErrorSaysThingsOnce(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.3:7946")
	inner := &net.OpError{Op: "read", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
	err := &OpError{Op: "read", Peer: 3, Addr: addr, Err: inner}
	if got := err.Error(); got != "read node 3 at 10.0.0.3:7946: connection timed out" || !errors.Is(err, syscall.ETIMEDOUT) {
		t.Error(got)
	}
	err.Name = "gamma"
	if got := err.Error(); got != "read gamma at 10.0.0.3:7946: connection timed out" {
		t.Error(got)
	}
	err = &OpError{Op: "handshake", Peer: 3, Addr: addr, Err: &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}}
	if got := err.Error(); !strings.HasSuffix(got, ": remote error: tls: bad certificate") {
		t.Error(got)
	}
	err = &OpError{Op: "dial", Peer: 3, Err: inner} // the address is in it
	if got := err.Error(); !strings.Contains(got, "10.0.0.3:7946") {
		t.Error(got)
	}
}
