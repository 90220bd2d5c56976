package freeport

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
)

func TestOn(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port := On(t)
		if seen[port] || port < 20000 || port >= 32000 {
			t.Fatalf("%d after %v", port, seen)
		}
		seen[port] = true
	}
}

func TestFree(t *testing.T) {
	here, there := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	port := On(t, here, there)
	for network, listen := range map[string]func() (func() error, error){
		"tcp": func() (func() error, error) {
			l, err := net.Listen("tcp", net.JoinHostPort(there.String(), strconv.Itoa(port)))
			if err != nil {
				return nil, err
			}
			return l.Close, nil
		},
		"udp": func() (func() error, error) {
			c, err := net.ListenPacket("udp", net.JoinHostPort(there.String(), strconv.Itoa(port)))
			if err != nil {
				return nil, err
			}
			return c.Close, nil
		},
	} {
		stop, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		if free([]netip.Addr{here, there}, uint16(port)) || !free([]netip.Addr{here}, uint16(port)) {
			t.Errorf("a %s socket at %s alone is not seen as that", network, there)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if !free([]netip.Addr{here, there}, uint16(port)) {
			t.Errorf("%s: still taken", network)
		}
	}
}
