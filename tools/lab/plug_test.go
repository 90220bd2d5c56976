package lab

import (
	"bufio"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// emulator is what a QEMU says to what, one connection after the other.
func emulator(t *testing.T, socket string, says func(asked string) string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(`{"QMP": {"version": {}, "capabilities": []}}` + "\r\n"))
			for s := bufio.NewScanner(c); s.Scan(); {
				_, _ = c.Write([]byte(says(s.Text()) + "\r\n"))
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

func TestPlug(t *testing.T) {
	l := &Lab{dir: t.TempDir(), cfg: Config{Nodes: 1, Links: 2}}
	n := &Node{lab: l, id: 1, back: &qemu{&Kernel{Name: "qemu-6.12"}, ""}, run: &boot{}}
	var asked []string
	emulator(t, n.monitor(), func(what string) string {
		asked = append(asked, what)
		if strings.Contains(what, "n2") {
			return `{"error": {"class": "GenericError", "desc": "no such thing"}}`
		}
		return `{"event": "NIC_RX_FILTER_CHANGED"}` + "\n" + `{"return": {}}`
	})
	if err := n.Plug(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	const want = `{"execute":"qmp_capabilities"} {"arguments":{"name":"n0","up":false},"execute":"set_link"}`
	if got := strings.Join(asked, " "); got != want {
		t.Errorf("asked %s, expected %s", got, want)
	}
	if err := n.Plug(t.Context(), 1, true); err == nil || !strings.Contains(err.Error(), "plug of link 1 of node1: set_link: no such thing") {
		t.Errorf("refused: %v", err)
	}
	if err := n.Plug(t.Context(), 2, true); err == nil || !strings.Contains(err.Error(), "links 0 to 1") {
		t.Errorf("no such link: %v", err)
	}
	n.run = nil
	if err := n.Plug(t.Context(), 0, true); !errors.Is(err, ErrDown) {
		t.Errorf("off: %v", err)
	}
	n.run, n.back = &boot{}, &uml{}
	if err := n.Plug(t.Context(), 0, true); !errors.Is(err, ErrNoPlug) {
		t.Errorf("User-Mode Linux: %v", err)
	}
	if err := monitor(t.Context(), filepath.Join(l.dir, "nobody"), "set_link", nil); err == nil {
		t.Error("nobody answers")
	}
}
