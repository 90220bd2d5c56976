package tcp

import (
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/commtest"
	"github.com/quorate/quorate/tools/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig hands out nodes that share loopback.
type rig struct {
	v6    bool
	links int // at least 1
	ports map[membership.NodeID]int
	// edit changes the options of the next daemons.
	edit func(*Options)
}

// nodes returns n nodes: on IPv4 each has an address of its own, on IPv6 all
// have ::1 and ports of their own. Ports are below the ephemeral ones.
func (r *rig) nodes(t testing.TB, n int) []membership.Node {
	t.Helper()
	r.ports = map[membership.NodeID]int{}
	net1, net2 := byte(1+rand.IntN(250)), byte(rand.IntN(250))
	var out []membership.Node
	for i := range n {
		id := membership.NodeID(i + 1)
		addr := netip.AddrFrom4([4]byte{127, net1, net2, byte(id)})
		if r.v6 {
			addr = netip.IPv6Loopback()
		}
		r.ports[id] = freeport.On(t, addr)
		out = append(out, membership.Node{ID: id, Addrs: []netip.Addr{addr}})
	}
	link(out, r.links)
	return out
}

func (r *rig) options(s commtest.Spec) Options {
	ports := maps.Clone(r.ports)
	if s.At != 0 {
		ports[s.Self] = r.ports[s.At]
	}
	opt := Options{
		Self: s.Self, Cluster: s.Cluster, Nodes: s.Nodes, Secret: s.Secret, Instance: s.Instance,
		Handler: s.Handler, Ports: ports, Handshake: 2 * time.Second, Queue: s.Queue,
	}
	if s.Refused != nil {
		opt.Refused = func(_ netip.AddrPort, err error) { s.Refused(err) }
	}
	if opt.Cluster == "" {
		opt.Cluster = "alpha"
	}
	return opt
}

func (r *rig) dial(n membership.Node) (net.Conn, error) {
	return net.Dial("tcp", net.JoinHostPort(n.Addrs[0].String(), strconv.Itoa(r.ports[n.ID])))
}

// start runs a Comm with changed options until the test ends.
func (r *rig) start(t *testing.T, s commtest.Spec, edit func(*Comm)) (*commtest.Daemon, *Comm) {
	t.Helper()
	var made *Comm
	d := commtest.Start(t, commtest.Provider{New: func(t *testing.T, s commtest.Spec) membership.Comm {
		opt := r.options(s)
		if r.edit != nil {
			r.edit(&opt)
		}
		c, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(c)
		}
		made = c
		return c
	}}, s)
	return d, made
}

func provider(r *rig) commtest.Provider {
	return commtest.Provider{
		Nodes: func(t *testing.T, n int) []membership.Node { return r.nodes(t, n) },
		New: func(t *testing.T, s commtest.Spec) membership.Comm {
			c, err := New(r.options(s))
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Dial:      r.dial,
		Strangers: 2 * time.Second,
		Refusals: map[string]error{
			"wrong key": ErrKey, "wrong cluster": ErrCluster, "wrong node": ErrNode, "unknown node": ErrNode,
		},
	}
}

func TestConformanceIPv4(t *testing.T) { commtest.Run(t, provider(&rig{})) }

// Beside each connection stands a spare.
func TestConformanceTwoLinks(t *testing.T) { commtest.Run(t, provider(&rig{links: 2})) }

func TestConformanceIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	_ = l.Close()
	commtest.Run(t, provider(&rig{v6: true}))
}
