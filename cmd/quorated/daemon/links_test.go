package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/links"
)

func TestLinkStatus(t *testing.T) {
	timing, _ := config.Profile("lan")
	now := membership.Mono(time.Hour)
	addr := netip.MustParseAddrPort("10.0.0.2:21061")
	for _, tt := range []struct {
		name string
		r    membership.LinkReport
		want control.LinkStatus
	}{
		{"never heard", membership.LinkReport{Peer: 2, Link: 1, Addr: addr, Probes: 7, Lost: 7},
			control.LinkStatus{Peer: 2, Link: 1, Addr: "10.0.0.2", State: "silent", Heard: -1, ByKernel: -1}},
		{"its daemon answers", membership.LinkReport{Peer: 2, Addr: addr, Probes: 150, P50: 1, P99: 2, Heard: now - 5, DaemonAge: 3},
			control.LinkStatus{Peer: 2, Addr: "10.0.0.2", State: "up", Probes: 150, P50: 1, P99: 2, Heard: 5, Answers: "daemon", Progress: 3, ByKernel: -1}},
		{"too few to say that so many are lost", membership.LinkReport{Peer: 2, Addr: addr, Probes: 15, Lost: 7, Heard: now - 5},
			control.LinkStatus{Peer: 2, Addr: "10.0.0.2", State: "up", Heard: 5, Answers: "daemon", ByKernel: -1}},
		{"its kernel answers, since the clock was read", membership.LinkReport{Peer: 2, Addr: addr, Probes: 150, Lost: 9, Heard: now + 5, ByKernel: now - 7, Kernel: true},
			control.LinkStatus{Peer: 2, Addr: "10.0.0.2", State: "degraded", Probes: 150, Lost: 9, Answers: "kernel", ByKernel: 7}},
		{"its kernel has no daemon", membership.LinkReport{Peer: 2, Addr: addr, Probes: 150, Kernel: true, NoDaemon: true},
			control.LinkStatus{Peer: 2, Addr: "10.0.0.2", State: "silent", Probes: 150, Heard: -1, Answers: "kernel", NoDaemon: true, ByKernel: -1}},
		{"long packets are lost", membership.LinkReport{Peer: 2, Addr: addr, Probes: 150, Heard: now - 5, MTU: 1500, Long: membership.LongLoss{Size: 1500, There: true, Since: now - 9}},
			control.LinkStatus{Peer: 2, Addr: "10.0.0.2", State: "degraded", Probes: 150, Heard: 5, Answers: "daemon", MTU: 1500, LongLost: "there", LongFor: 9, ByKernel: -1}},
	} {
		if got := linkStatus(tt.r, now, timing); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestLinkNotes(t *testing.T) {
	r := &control.LinksReport{Links: []control.LinkStatus{
		{Name: "beta", Addr: "10.0.0.2", State: "up"},
		{Name: "beta", Link: 1, Addr: "10.0.1.2", State: "degraded", Probes: 200, Lost: 15, P99: 12345 * time.Microsecond},
		{Name: "gamma", Addr: "10.0.0.3", State: "silent"},
		{Name: "gamma", Link: 1, Addr: "10.0.1.3", State: "degraded", Probes: 200, MTU: 1500, LongLost: "back"}, // has a warning
		{Peer: 4, Name: "delta", Addr: "10.0.0.4", State: "degraded", Probes: 1024, Lost: 1024},
		{Peer: 5, Name: "echo", Addr: "10.0.0.5", State: "degraded", Probes: 200, Lost: 200},
	}}
	nodes := []control.NodeStatus{{ID: 4, Connected: true}, {ID: 5}}
	want := []string{"link 1 to beta (10.0.1.2) lost 7.5 % of the last 200 probes, p99 of the round trip 12.3ms: look for load, a bad cable or a full switch on that path; see `quorate links`",
		"link 0 to delta (10.0.0.4) lost 100.0 % of the last 1024 probes, p99 of the round trip 0s: delta's daemon is connected: open udp 4711 on delta (and here), in both directions; see `quorate links`",
		"link 0 to echo (10.0.0.5) lost 100.0 % of the last 200 probes, p99 of the round trip 0s: look for load, a bad cable or a full switch on that path; see `quorate links`",
	}
	slices.Sort(want)
	if got := linkNotes(r, 4711, nodes); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What is told of a link that went silent, and warned of.
func TestSilentLinks(t *testing.T) {
	at := func(id membership.NodeID, name, addrs string) membership.Node {
		n := membership.Node{ID: id, Name: name}
		for _, a := range strings.Fields(addrs) {
			n.Addrs = append(n.Addrs, netip.MustParseAddr(a))
		}
		return n
	}
	cfg := config.Config{ProbePort: 21061, Config: membership.Config{Nodes: []membership.Node{at(2, "beta", "10.0.0.2 10.0.1.2"), at(3, "gamma", "10.0.0.3 10.0.1.3")}}}
	lost := []links.Changed{{Peer: 2, Silent: true, Age: 61240 * time.Millisecond}, {Peer: 3, Silent: true, Age: time.Second}, {Peer: 3, Link: 1, Silent: true, Age: time.Second}, {Peer: 9, Link: 3}}
	want := []string{
		"link 0 is silent to beta (10.0.0.2, for 1m1.2s), gamma (10.0.0.3, for 1s), who answer on another link: look at the cable, the switch and the interface, and whether udp 21061 is open there; see `quorate links`",
		"link 1 is silent to gamma (10.0.1.3, for 1s), who answer on another link: look at the cable, the switch and the interface, and whether udp 21061 is open there; see `quorate links`",
		"link 3 is silent to 9 (not configured any more, for 0s), who answer on another link: look at the cable, the switch and the interface, and whether udp 21061 is open there; see `quorate links`",
	}
	if got := lostLinks(lost, cfg); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	now := membership.Mono(time.Hour)
	long := func(size int, there bool) membership.LongLoss {
		return membership.LongLoss{Size: size, There: there, Since: now.Add(-time.Minute)}
	}
	want = []string{
		"link 0 loses long packets to beta (10.0.0.2, 9000 bytes on the way there, for 1m), gamma (10.0.0.3, 1500 bytes on the way back, for 1m), and carries short ones: the DLM hangs on such a link; give every interface and switch port on it the same MTU, and see `quorate links`",
		"link 1 loses long packets to beta (10.0.1.2, 1500 bytes on the way back, for 1m), and carries short ones: the DLM hangs on such a link; give every interface and switch port on it the same MTU, and see `quorate links`",
	}
	if got := longLost([]links.Changed{{Peer: 2, Loss: long(9000, true)}, {Peer: 3, Loss: long(1500, false)}, {Peer: 2, Link: 1, Loss: long(1500, false)}}, cfg, now); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, x := range []struct {
		c    links.Changed
		want string
	}{
		{links.Changed{Peer: 3, Link: 1, Long: true, Loss: membership.LongLoss{Size: 1500}}, "link 1 (10.0.1.3) loses packets of 1500 bytes on the way back, and carries short ones"},
		{links.Changed{Peer: 3, Long: true}, "link 0 (10.0.0.3) carries long packets again, or its MTU has changed"},
		{lost[0], "link 0 (10.0.0.2) is silent for 1m1.24s, and another is not"},
		{links.Changed{Peer: 3, Link: 1}, "link 1 (10.0.1.3) carries again"},
	} {
		e := linkEvent(x.c, cfg)
		if e.Text != x.want || e.Kind != membership.KindLink || e.Subject != x.c.Peer || e.Fields["link"] != fmt.Sprint(x.c.Link) {
			t.Errorf("%+v", e)
		}
	}
}

func TestDLMConn(t *testing.T) {
	c := dlm.Conn{Node: 2, TCPConn: dlm.TCPConn{Local: netip.MustParseAddrPort("10.0.0.1:21064"), Remote: netip.MustParseAddrPort("10.0.0.2:5"), State: 2, Unacked: 1, Retries: 3},
		RTT: time.Millisecond, Retransmits: 4}
	want := control.DLMConn{Peer: 2, Name: "beta", Local: "10.0.0.1:21064", Remote: "10.0.0.2:5", State: "syn-sent", RTT: time.Millisecond, Retries: 3, Retransmits: 4, Unacked: 1}
	if got := dlmConn(c, "beta"); got != want {
		t.Errorf("%+v", got)
	}
}

// TestLinksAreAsked: the daemon answers, of a peer that is not there.
func TestLinksAreAsked(t *testing.T) {
	a := newAlone(t)
	r, err := a.ask("links")
	if err != nil {
		t.Fatal(err)
	}
	l := r.Links
	if l == nil || len(l.Links) != 1 || len(l.DLM) != 0 || l.Name != "alpha" {
		t.Fatalf("%+v", l)
	}
	x := l.Links[0]
	if x.Name != "beta" || x.State != "silent" || x.Heard != -1 || x.Answers != "" || !x.DLM || x.Stream || x.Mode != "userspace" {
		t.Errorf("%+v", x)
	}
}
