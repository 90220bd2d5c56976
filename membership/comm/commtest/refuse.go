package commtest

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// refusal starts 1 as a and 2 as b and a sound node 3, sees a and b refuse each
// other in words at both ends, and 3 served as if nothing were.
func refusal(t *testing.T, p Provider, kind string, a, b Spec) {
	t.Helper()
	want := p.Refusals[kind]
	var mu sync.Mutex
	seen := map[membership.NodeID]error{}
	both := make(chan struct{})
	watch := func(s *Spec) {
		id := s.Self
		s.Refused = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if want != nil && !errors.Is(err, want) {
				return
			}
			seen[id] = err
			if len(seen) == 2 && both != nil {
				close(both)
				both = nil
			}
		}
	}
	wait := both
	watch(&a)
	watch(&b)
	da, db := Start(t, p, a), Start(t, p, b)
	dc := Start(t, p, Spec{Self: 3, Cluster: a.Cluster, Nodes: a.Nodes, Secret: a.Secret})
	if want != nil {
		select {
		case <-wait:
		case <-time.After(Patience):
			mu.Lock()
			t.Errorf("%s: only these ends told of it: %v", kind, seen)
			mu.Unlock()
		}
	}
	da.Await(Connected, 3, 1)
	send(t, dc, a.Self, []byte("sound"))
	da.AwaitMessage(3, []byte("sound"))
	if n := da.Count(Connected, b.Self) + db.Count(Connected, a.Self); n != 0 {
		t.Errorf("%s: they connected", kind)
	}
	if da.Send(b.Self, []byte("x")) || db.Send(a.Self, []byte("x")) {
		t.Errorf("%s: a message was taken", kind)
	}
}

func testWrongKey(t *testing.T, p Provider) {
	nodes := p.Nodes(t, 3)
	refusal(t, p, "wrong key",
		Spec{Self: 1, Nodes: nodes, Secret: Secret(t)}, Spec{Self: 2, Nodes: nodes, Secret: Secret(t)})
}

func testWrongCluster(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 3), Secret(t)
	refusal(t, p, "wrong cluster",
		Spec{Self: 1, Cluster: "alpha", Nodes: nodes, Secret: key}, Spec{Self: 2, Cluster: "beta", Nodes: nodes, Secret: key})
}

// The daemon at node 2's address says that it is node 4.
func testWrongNode(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 4), Secret(t)
	swapped := append([]membership.Node(nil), nodes...)
	swapped[1].Addrs, swapped[3].Addrs = nodes[3].Addrs, nodes[1].Addrs
	refusal(t, p, "wrong node",
		Spec{Self: 1, Nodes: nodes[:3], Secret: key}, Spec{Self: 4, At: 2, Nodes: swapped, Secret: key})
}

// A node with the right key that only the dialler knows.
func testUnknownNode(t *testing.T, p Provider) {
	nodes, key := p.Nodes(t, 3), Secret(t)
	refusal(t, p, "unknown node",
		Spec{Self: 2, Nodes: nodes[1:], Secret: key}, Spec{Self: 1, Nodes: nodes, Secret: key})
}

func testGarbage(t *testing.T, p Provider) {
	if p.Dial == nil {
		t.Skip("the provider takes no connections of strangers")
	}
	nodes, key := p.Nodes(t, 2), Secret(t)
	b := Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: key})
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	for _, data := range [][]byte{
		{}, {0}, []byte("GET / HTTP/1.1\r\n\r\n"), noise,
		{0xff, 0xff, 0xff, 0xff, 4},                 // a message of 4 GiB, had there been no handshake
		append([]byte{22, 3, 1, 0x40, 0}, noise...), // a TLS record, full of noise
		{22, 3, 1, 0, 5, 1, 0xff, 0xff, 0xff, 0},    // a ClientHello of 16 MiB
	} {
		conn := dial(t, p, nodes[1])
		_, _ = conn.Write(data)
		_ = conn.Close()
	}
	a := Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: key})
	a.Await(Connected, 2, 1)
	b.Await(Connected, 1, 1)
	if n := len(b.Calls()); n != 1 {
		t.Errorf("garbage reached the handler: %v", b.Calls())
	}
}

// More strangers than places, who say nothing: the peer gets in all the same,
// and they are thrown out.
func testSilent(t *testing.T, p Provider) {
	if p.Dial == nil || p.Strangers == 0 {
		t.Skip("the provider takes no connections of strangers")
	}
	nodes, key := p.Nodes(t, 2), Secret(t)
	b := Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: key})
	var conns []net.Conn
	for range 100 {
		conns = append(conns, dial(t, p, nodes[1]))
	}
	a := Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: key})
	a.Await(Connected, 2, 1)
	b.Await(Connected, 1, 1)
	for i, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(p.Strangers + Patience))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stranger %d is still there", i)
		}
		_ = c.Close()
	}
}

// dial connects as a stranger, once the node listens.
func dial(t *testing.T, p Provider, n membership.Node) net.Conn {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		conn, err := p.Dial(n)
		if err == nil {
			return conn
		}
		if time.Since(began) > Patience {
			t.Fatalf("node %d does not listen: %v", n.ID, err)
		}
	}
}
